"""Tables for readers, made from the rows of many runs."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from gta.files import write_atomically
from gta.scores import statistics
from gta.scores.results import Row, read_table, write_table


def summary(rows: Iterable[Row]) -> pd.DataFrame:
    """A row a method: mean accuracy and gain over its baseline, then each seed's gain with its interval. Worlds are one dataset."""
    frame = pd.DataFrame([row.model_dump() for row in rows])
    frame["dataset"] = frame.dataset.str.partition(":")[0]  # aviary:3, the world that goes with seed 3
    frame["interval"] = [f"{row.gain:+.1f} [{row.gain_low:+.1f}, {row.gain_high:+.1f}]" for row in frame.itertuples()]
    names = ["dataset", "backbone", "baseline", "method", "variant", *(["shots"] if frame.shots.nunique() > 1 else [])]
    means = frame.groupby(names)[["accuracy", "gain", "seconds"]].mean().round(1)
    by_seed = frame.pivot(index=names, columns="seed", values="interval").add_prefix("gain of seed ")
    return means.join(by_seed).sort_values(["baseline", "accuracy"]).reset_index()


def combine(folders: Iterable[Path], file: Path, references: Sequence[tuple[str, str]] = ()) -> None:
    """One table from the rows of many runs, and `<table>_paired.csv` beside it, from their per-image predictions.

    Runs never share a file, so none can lose another's rows. A baseline that several runs measured is one row, that of the first
    folder; runs that measured it differently are an error. references: as in `gta.scores.statistics.paired`.
    """
    folders = list(map(Path, folders))
    measured: dict[str, Row] = {}
    for row in (row for folder in folders for row in read_table(folder / "rows.csv")):
        first = measured.setdefault(row.run_id, row)
        if (row.n_correct, row.n_total, row.weights) != (first.n_correct, first.n_total, first.weights):
            raise ValueError(f"{file}: two runs measured run_id {row.run_id} ({row.method}, {row.variant!r}, seed {row.seed}) differently")
    pairs = statistics.paired(measured.values(), statistics.right_images(folder / "predictions.npz" for folder in folders), references)
    write_atomically(paired_of(file), pairs.to_csv(index=False, float_format="%.6g"))
    write_table(file, measured.values())


def paired_of(table: Path) -> Path:
    """Where the paired comparisons of a table stand."""
    return table.with_name(f"{table.stem}_paired.csv")


def concatenate(files: Iterable[Path], file: Path) -> None:
    """One CSV from those that runs wrote beside their rows; texts stay as they are."""
    frames = [pd.read_csv(part, dtype=str, keep_default_na=False) for part in files]
    write_atomically(file, pd.concat(frames).to_csv(index=False))


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
    `combine TABLE FOLDER...` writes one table, and its paired comparisons, from runs."""
    match arguments:
        case ["show", *files]:
            for file in files:
                print(file, summary(read_table(Path(file))).to_string(index=False), sep="\n")
        case ["markdown", table, document]:
            write_atomically(Path(document), with_summary(Path(document).read_text(), table))
        case ["combine", file, *folders]:
            combine([Path(folder) for folder in folders], Path(file))
        case _:
            sys.exit(f"usage: python -m gta.scores.tables\n{main.__doc__}")


if __name__ == "__main__":
    main(sys.argv[1:])
