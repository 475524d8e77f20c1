"""Numbers in sentences, read off the tables: a document names the cell beside each number, and a test finds a number that is stale.

    GTA-CLIP reaches 81.2<!-- zero_shot: GTA-CLIP | accuracy -->, ...            the mean over encoders
    which is 0.9<!-- zero_shot: GTA-CLIP > TransCLIP | difference --> above ...   of the paired comparison
    ...<!-- aviary: GTA-CLIP > GTA-CLIP, no adapt | interval -->                  [-1.0, +0.3]

A mark is an HTML comment, which a reader of the page does not see. `python -m gta.scores.sentences FILE...` fills in the numbers.
"""

import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from gta.files import ROOT, write_atomically
from gta.scores import statistics
from gta.scores.rows import read_table
from gta.scores.statistics import label, over_encoders
from gta.scores.tables import paired_of

MARK = re.compile(r"([^\s(]+?)<!-- (\w+)((?: [\w#=-]+)*): (.+?) \| (\w+) -->")
PAIR = ["label", "reference"]
TABLES = ROOT / "results" / "tables"


def filled(document: str, tables: Path = TABLES) -> str:
    """The document with every marked number as the tables have it. Raises KeyError, naming the mark, for a cell that is not there."""
    return MARK.sub(lambda found: f"{_value(tables, *found.groups()[1:])}{found[0][len(found[1]) :]}", document)


def unmarked(document: str) -> list[str]:
    """Numbers with a decimal in the sentences of a document, outside of tables, that name no cell."""
    prose = "\n".join(line for line in MARK.sub("", document).splitlines() if not line.lstrip().startswith(("|", "<!--", "    ")))
    return re.findall(r"(?<![\w./-])[-+−]?\d{1,3}\.\d{1,2}(?!\d|[\w/]|\.\d)", prose)


def _value(tables: Path, table: str, where: str, names: str, what: str) -> str:
    """where: further words of the mark, `COLUMN=VALUE`, that choose among the rows of a table; a dataset stands for all its parts too."""
    chosen = dict(word.split("=") for word in where.split())
    method, _, reference = names.partition(" > ")
    if reference:
        frame = _paired(tables / f"{table}.csv")
        turned = frame.assign(label=frame.reference, reference=frame.label, difference=-frame.difference)
        frame = pd.concat([frame, turned[~turned.set_index(PAIR).index.isin(frame.set_index(PAIR).index)]])
        frame = frame[(frame.label == method) & (frame.reference == reference)]
    else:
        frame = _rows(tables / f"{table}.csv")
        frame = frame[frame.label == method]
    for column, value in chosen.items():
        told = frame[column].astype(str)
        frame = frame[(told == value) | told.str.startswith(f"{value}#")]
    if frame.empty:
        raise KeyError(f"{table}{where}: {names} | {what}: no such cell in {tables}")
    if what == "accuracy":
        return f"{frame.groupby('seed').accuracy.mean().mean():.1f}"
    said = over_encoders(frame.difference, frame.seed)
    if what == "interval":
        return f"[{said.mean_low:+.1f},&nbsp;{said.mean_high:+.1f}]" if np.isfinite(said.mean_low) else "[]"
    return {"difference": f"{abs(said['mean']):.1f}", "gain": f"{said['mean']:+.1f}", "spread": f"{said.spread:.2f}"}[what]


@cache
def _rows(file: Path) -> pd.DataFrame:
    frame = pd.DataFrame([row.model_dump() for row in read_table(file)])
    return frame.assign(label=list(map(label, frame.method, frame.variant)), dataset=frame.dataset.str.partition(":")[0])


@cache
def _paired(file: Path) -> pd.DataFrame:
    frame = statistics.read(paired_of(file))
    return frame.assign(label=list(map(label, frame.method, frame.variant)), dataset=frame.dataset.str.partition(":")[0])


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_atomically(Path(name), filled(Path(name).read_text(encoding="utf-8")))
