"""What is run: the grids of `notebooks/sweeps/*.yaml` and the pages of `notebooks/pages.yaml`, checked as they are read."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from gta.files import shipped
from gta.settings import Checked

Target = Literal["demo", "aviary", "few_shot", "ablations", "peers", "summary"]
SWEEPS, PAGES = shipped("notebooks/sweeps"), shipped("notebooks/pages.yaml")
TARGETS: tuple[str, ...] = get_args(Target)


class Sweep(Checked):
    """The runs of a table: a notebook with every combination of a block of `grid`, but for those that `exclude` matches.

    paper: what it is in the paper; cost: measured minutes of one core a run; outputs: files that a run writes beside its notebook,
    `rows.csv` and `predictions.npz`, and of which CSVs become tables too; parameters: the same for all runs; smoke: the part of the grid
    that the smoke size keeps; references: methods and variants that the other rows are compared with, image by image, in every
    setting that has them; publish: what of each run is published beside its rows.
    """

    notebook: str
    target: Target
    paper: str
    cost: float = Field(gt=0)
    grid: list[dict[str, list[Any]]]
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    smoke: dict[str, list[Any]] = Field(default_factory=dict)
    references: list[tuple[str, str]] = Field(default_factory=list)
    publish: tuple[Literal["notebook", "predictions", "outputs"], ...] = ("notebook",)

    @model_validator(mode="after")
    def _grid_is_complete(self):
        for block in self.grid:
            if missing := {"dataset", "backbone", "seed"} - set(block):
                raise ValueError(f"grid: a block without {', '.join(sorted(missing))}: {block}")
        for part in self.exclude:
            if unknown := set(part) - {key for block in self.grid for key in block}:
                raise ValueError(f"exclude: {', '.join(sorted(unknown))} is in no block of the grid")
        return self

    def cells(self, smoke: bool = False) -> list[dict[str, Any]]:
        """The parameters of each run; `{seed}` in a dataset's name is the seed."""
        cells: list[dict[str, Any]] = []
        for block in self.grid:
            kept = {key: [v for v in values if not smoke or v in self.smoke.get(key, values)] for key, values in block.items()}
            for values in product(*kept.values()):
                cell = dict(zip(kept, values, strict=True))
                if not any(part.items() <= cell.items() for part in self.exclude):
                    cells.append({**cell, "dataset": cell["dataset"].format(**cell)})
        return cells


class Page(Checked):
    """A notebook that is run once. tables: that it reads; runs: a sweep whose runs it reads; reads: other pages, listed before it, whose
    CSVs it reads; outputs: relative to the base.

    paper: what it is in the paper, and then `csv` and `figure` are what to look at; smoke: parameters of the smoke size.
    """

    target: Target
    tables: list[str] = Field(default_factory=list)
    runs: str | None = None
    reads: list[str] = Field(default_factory=list)
    inputs: list[str] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    smoke: dict[str, Any] = Field(default_factory=dict)
    paper: str | None = None
    csv: str | None = None
    figure: str | None = None


def sweeps(folder: Path = SWEEPS) -> dict[str, Sweep]:
    """By table. Raises ValueError naming the file and the field."""
    found = {file.stem: _checked(Sweep, yaml.safe_load(file.read_text()), file) for file in sorted(folder.glob("*.yaml"))}
    for table, sweep in found.items():
        if taken := {f"{table}.csv", f"{table}_paired.csv", "rows.csv", "predictions.npz"} & set(sweep.outputs):
            raise ValueError(f"{folder / table}.yaml: outputs: {', '.join(sorted(taken))} is made already; call it otherwise")
    return found


def pages(file: Path = PAGES) -> dict[str, Page]:
    """By the notebook's path below `notebooks`, without its suffix."""
    return {name: _checked(Page, page, f"{file}: {name}") for name, page in yaml.safe_load(file.read_text()).items()}


def _checked(model: type, values: Mapping, where: Path | str) -> Any:
    try:
        return model(**values)
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
