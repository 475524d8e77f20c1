"""Tables for readers, made from the rows of many runs."""

import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from gta.files import write_atomically
from gta.results import Row, read_table, write_table


def summary(rows: Iterable[Row]) -> pd.DataFrame:
    """A row a method: mean accuracy and gain over its baseline, then each seed's gain with its interval. Worlds are one dataset."""
    frame = pd.DataFrame([row.model_dump() for row in rows])
    frame["dataset"] = frame.dataset.str.partition(":")[0]  # aviary:3, the world that goes with seed 3
    frame["interval"] = [f"{row.gain:+.1f} [{row.gain_low:+.1f}, {row.gain_high:+.1f}]" for row in frame.itertuples()]
    names = ["dataset", "backbone", "baseline", "method", "variant"]
    means = frame.groupby(names)[["accuracy", "gain", "seconds"]].mean().round(1)
    by_seed = frame.pivot(index=names, columns="seed", values="interval").add_prefix("gain of seed ")
    return means.join(by_seed).sort_values(["baseline", "accuracy"]).reset_index()


def combine(folders: Iterable[Path], file: Path) -> None:
    """One table from the rows of many runs: runs never share a file, so none can lose another's rows."""
    write_table(file, [row for folder in folders for row in read_table(Path(folder) / "rows.csv")])


def with_summary(document: str, table: str) -> str:
    """A Markdown text with the summary of a table between the marks that it has for it."""
    begin, end = f"<!-- results: {table} -->", "<!-- end -->"
    before, _, rest = document.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the document has no lines {begin} and {end} to put the table between")
    frame = summary(read_table(Path(table))).drop(columns=["dataset", "backbone", "seconds"])
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (frame.columns, ["---"] * len(frame.columns), *frame.values)]
    return before + "\n".join([begin, *lines, end]) + after


def main(arguments: list[str]) -> None:
    """`show TABLE...` prints summaries; `markdown TABLE FILE` puts one into a document;
    `combine TABLE FOLDER...` writes one table from the rows of runs."""
    match arguments:
        case ["show", *files]:
            for file in files:
                print(file, summary(read_table(Path(file))).to_string(index=False), sep="\n")
        case ["markdown", table, document]:
            write_atomically(Path(document), with_summary(Path(document).read_text(), table))
        case ["combine", file, *folders]:
            combine(map(Path, folders), Path(file))
        case _:
            sys.exit(f"usage: python -m gta.results\n{main.__doc__}")


if __name__ == "__main__":
    main(sys.argv[1:])
