"""A table in the form that a page shows: its columns, which cells are numbers, and the page that each number links to."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from gta.scores.statistics import SETTING, over_encoders

# ABOUT: columns that say what a row is about and how it was made; the others are measurements.
# ONCE: columns that a page shows only once, above the table, if all rows have the same value.
ABOUT = {*SETTING, "method", "variant", "baseline", "reference", "device", "versions", "weights", "source_hash", "status"}
ONCE = {"table", "dataset", "backbone", "shots", "device", "versions", "weights", "source_hash", "status"}
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?")


def worlds(rows: Iterable[Mapping[str, str]], name: str) -> list[str]:
    """The distinct values of a column. Worlds of the aviary count as seeds of one dataset."""
    values = (row.get(name, "") for row in rows)
    return list(dict.fromkeys(value.partition(":")[0] if name == "dataset" else value for value in values if value))


def grid(rows: Sequence[Mapping[str, str]], origins: Sequence[str | None]) -> dict[str, Any]:
    """The data of a page for a CSV: columns, values that all rows share, and cells, linked to the page of the run that measured them.

    origins: the page of the run of each row, or None.
    """
    if not rows:
        return {"columns": [], "same": [], "rows": []}
    same = {name: value for name, value in rows[0].items() if name in ONCE and all(row[name] == value for row in rows)}
    columns = sorted((name for name in rows[0] if name not in same), key=lambda name: name == "run_id")  # run_id comes last
    cells = [[_cell(name, row[name], origin) for name in columns] for row, origin in zip(rows, origins, strict=True)]
    return {"columns": columns, "same": [(name, value) for name, value in same.items() if value], "rows": cells}


def _cell(column: str, text: str, origin: str | None) -> dict[str, Any]:
    number = bool(NUMBER.fullmatch(text)) and column != "run_id"  # such as 1234567890123456
    return {"text": text, "number": number, "to": origin if column == "run_id" or (number and column not in ABOUT) else None}


def verdicts(pairs: Sequence[Mapping[str, str]], by_run: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Paired comparisons with one column for each seed: one table for each dataset, encoder and number of shots.

    Only `gta.scores.statistics.verdict` decides what may be bold.
    """
    tables: dict[tuple, dict[tuple, list[Mapping[str, str]]]] = {}
    for pair in pairs:
        setting = (pair["dataset"].partition(":")[0], pair["backbone"], pair["shots"])
        methods = tables.setdefault(setting, {})
        methods.setdefault((pair["method"], pair["variant"], pair["reference"]), []).append(pair)
    found = []
    for setting, methods in tables.items():
        seeds = sorted({pair["seed"] for of in methods.values() for pair in of}, key=lambda seed: (len(seed), seed))
        lines = []
        for names, of in methods.items():
            differences = pd.Series([float(pair["difference"]) for pair in of])
            said = over_encoders(differences, pd.Series([pair["seed"] for pair in of]))
            cells = {seed: _cell_of([pair for pair in of if pair["seed"] == seed], by_run) for seed in {pair["seed"] for pair in of}}
            mean = _points(said["mean"], said.mean_low, said.mean_high) if len(cells) > 1 else ""
            lines.append({"names": names, "seeds": [cells.get(seed) for seed in seeds], "mean": mean, "verdict": said.verdict})
        found.append({"setting": setting, "seeds": seeds, "lines": lines})
    return found


def _cell_of(pairs: Sequence[Mapping[str, str]], by_run: Mapping[str, str | None]) -> tuple[str, str | None]:
    """The difference of one encoder, with the range of its draws, and the page of its first run."""
    differences = [float(pair["difference"]) for pair in pairs]
    text = _points(sum(differences) / len(differences), *((min(differences), max(differences)) if len(pairs) > 1 else ()))
    return text, by_run.get(pairs[0]["run_id"])


def _points(mean: float, *between: float) -> str:
    around = f" [{between[0]:+.1f}, {between[1]:+.1f}]" if between else ""
    return f"{mean:+.1f}{around}".replace("-", "−")
