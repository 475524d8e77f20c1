"""Tables for readers from the rows of many runs."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gta.files import write_atomically
from gta.scores import statistics
from gta.scores.rows import TABLE_KEY, Row, read_table, write_table


def summary(rows: Iterable[Row], oracle: bool = False) -> pd.DataFrame:
    """One row for each method: mean accuracy; mean gain over its baseline, with its 95 % interval over encoders and the verdict; encoders,
    draws, and the standard deviation of the gain between draws of one encoder. All worlds count as one dataset. oracle: also the mean of
    `oracle_best`, the best of all calls, if there are rows that have it."""
    frame = pd.DataFrame([row.model_dump() for row in rows])
    frame["dataset"] = frame.dataset.str.partition(":")[0]  # aviary:3 is the world of seed 3
    frame["oracle_best"] = frame.oracle_best.astype(float)
    oracle &= bool(frame.oracle_best.notna().any())
    names = ["dataset", "backbone", "baseline", "method", "variant", *(["shots"] if frame.shots.nunique() > 1 else [])]
    lines = []
    for key, of in frame.groupby(names):
        said = statistics.over_encoders(of.gain, of.seed)
        single = not np.isfinite(said.mean_low) or said.mean_low == said.mean_high
        line = dict(zip(names, key, strict=True)) | {"accuracy": of.groupby("seed").accuracy.mean().mean(), "gain": said["mean"]}
        line |= {"95 % interval": "" if single else f"{said.mean_low:+.1f} to {said.mean_high:+.1f}", "verdict": said.verdict}
        line |= {"encoders": said.encoders, "draws": said.draws, "between draws": said.spread}
        line |= {"oracle_best": of.groupby("seed").oracle_best.mean().mean()} if oracle else {}
        lines.append(line | {"seconds": of.seconds.mean()})
    table = pd.DataFrame(lines).round({"accuracy": 1, "gain": 1, "between draws": 2, "seconds": 1})
    for column, digits in {"between draws": 2, **({"oracle_best": 1} if oracle else {})}.items():
        table[column] = [f"{value:.{digits}f}" if value == value else "" for value in table[column]]
    return table.sort_values([*names[:2], "baseline", "accuracy"], ignore_index=True)


def combine(folders: Iterable[Path], file: Path, references: Sequence[tuple[str, str]] = ()) -> None:
    """Write one table from the rows of many runs, and `<table>_paired.csv` beside it, from their per-image predictions.

    Each run has its own files, so no run can lose the rows of another. If several runs measured a baseline, the row of the first folder
    is used; ValueError is raised if their results differ. references: as in `gta.scores.statistics.paired`.
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
    """The file of the paired comparisons of a table."""
    return table.with_name(f"{table.stem}_paired.csv")


def concatenate(files: Iterable[Path], file: Path) -> None:
    """Write one CSV from the CSVs of several runs. All values stay text."""
    frames = [pd.read_csv(part, dtype=str, keep_default_na=False) for part in files]
    write_atomically(file, pd.concat(frames).to_csv(index=False))


def with_summary(document: str, table: str) -> str:
    """Put the summary of a table into a Markdown document, between its two marks (`placed`)."""
    return placed(document, f"results: {table}", lambda: summary(read_table(Path(table))).drop(columns=["dataset", "backbone", "seconds"]))


def placed(document: str, mark: str, table: Callable[[], pd.DataFrame]) -> str:
    """Put what `table` returns into a Markdown document, between `<!-- MARK -->` and `<!-- end -->`. Raises ValueError, before it is
    called, if there are no such marks."""
    begin, end = f"<!-- {mark} -->", "<!-- end -->"
    before, _, rest = document.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the document has no lines {begin} and {end} to put the table between")
    frame = table()
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (frame.columns, ["---"] * len(frame.columns), *frame.values)]
    return before + "\n".join([begin, *lines, end]) + after


def compared(rows: Iterable[Row], published: Iterable[Row]) -> str:
    """Whether rows count as many right labels as the published ones of the same runs: a sentence, and a line for each that differs."""

    def counts(table: Iterable[Row]) -> dict[tuple, int]:
        return {tuple(getattr(row, name) for name in TABLE_KEY): row.n_correct for row in table}

    here, there = counts(rows), counts(published)
    both = [key for key in here if key in there]
    lines = [f"  {' '.join(map(str, key))}: {here[key]} right here, {there[key]} published" for key in both if here[key] != there[key]]
    unknown = f"; {len(here) - len(both)} rows are not published" if len(both) < len(here) else ""
    if not both:
        return "none of these rows is published"
    if lines:
        return "\n".join([f"{len(lines)} of {len(both)} rows differ from the published ones{unknown}:", *lines])
    return f"as published: {len(both)} rows, every count the same{unknown}"


def main(arguments: list[str]) -> None:
    """`show TABLE...` prints summaries; `compare TABLE PUBLISHED` says whether the counts are those that were published;
    `markdown TABLE FILE` puts one into a document;
    `combine TABLE FOLDER...` writes one table, and its paired comparisons, from runs."""
    match arguments:
        case ["show", *files]:
            for file in files:
                print(file, summary(read_table(Path(file)), oracle=True).to_string(index=False), sep="\n")
        case ["compare", table, published]:
            print(compared(read_table(Path(table)), read_table(Path(published))))
        case ["markdown", table, document]:
            write_atomically(Path(document), with_summary(Path(document).read_text(encoding="utf-8"), table))
        case ["combine", file, *folders]:
            combine([Path(folder) for folder in folders], Path(file))
        case _:
            sys.exit(f"usage: python -m gta.scores.tables\n{main.__doc__}")


if __name__ == "__main__":
    main(sys.argv[1:])
