"""Read and check what a batch runs: the grids of `notebooks/sweeps/*.yaml` and the pages of `notebooks/pages.yaml`."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator
from yaml import YAMLError

from gta.files import shipped, yaml_of
from gta.settings import Checked

Target = Literal["demo", "pages", "aviary", "few_shot", "ablations", "peers", "summary"]
SWEEPS, PAGES = shipped("notebooks/sweeps"), shipped("notebooks/pages.yaml")
TARGETS: tuple[str, ...] = get_args(Target)


class Sweep(Checked):
    """The runs of a table: one notebook with every combination of values in each block of `grid`, except those that `exclude` matches.

    paper: the name of the table in the paper; cost: measured minutes of one core for a run; outputs: files that a run writes besides its
    notebook, `rows.csv` and `predictions.npz`; CSVs among them become tables too; parameters: the same for all runs; smoke: the part
    of the grid that a smoke run keeps; references: methods and variants that the other rows of their setting are compared with, image by
    image; publish: which files of a run are published besides its rows; asks: whether its runs vary what is asked at first, and so read no
    first attributes.
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
    asks: bool = False

    @model_validator(mode="after")
    def _grid_is_complete(self):
        for block in self.grid:
            if missing := {"dataset", "backbone", "seed"} - set(block):
                raise ValueError(f"grid: a block without {', '.join(sorted(missing))}: {block}")
        for part in self.exclude:
            if unknown := set(part) - {key for block in self.grid for key in block}:
                raise ValueError(f"exclude: {', '.join(sorted(unknown))} is in no block of the grid")
        return self

    def cells(self, smoke: bool = False, draws: int | None = None, seeds: int | None = None) -> list[dict[str, Any]]:
        """The parameters of each run. `{seed}` in a dataset's name becomes the seed. draws: the most of a run; 2 in the smoke size.
        seeds: the most of a block; the first ones are run."""
        most = min(draws or 2, 2) if smoke else draws
        cells: list[dict[str, Any]] = []
        for block in self.grid:
            kept = {key: [v for v in values if not smoke or v in self.smoke.get(key, values)] for key, values in block.items()}
            kept["seed"] = kept["seed"][:seeds]
            for values in product(*kept.values()):
                cell = dict(zip(kept, values, strict=True))
                if not any(part.items() <= cell.items() for part in self.exclude):
                    capped = {"draws": min(cell["draws"], most)} if most and "draws" in cell else {}
                    cells.append({**cell, **capped, "dataset": cell["dataset"].format(**cell)})
        return cells


class Page(Checked):
    """A notebook that is run once.

    tables: the tables that it reads; runs: a sweep whose runs it reads; reads: other pages, listed before it, whose CSVs it reads;
    outputs: files relative to the base; paper: its name in the paper, if it stands for a table or figure there, with its files in
    `csv` and `figure`; smoke: parameters of a smoke run.
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
    """All sweeps by table. Raises ValueError with the file and the field."""
    found = {file.stem: _checked(Sweep, _read(file), file) for file in sorted(folder.glob("*.yaml"))}
    for table, sweep in found.items():
        if taken := {f"{table}.csv", f"{table}_paired.csv", "rows.csv", "predictions.npz"} & set(sweep.outputs):
            raise ValueError(f"{folder / table}.yaml: outputs: {', '.join(sorted(taken))} is made already; choose another name")
    return found


def pages(file: Path = PAGES) -> dict[str, Page]:
    """All pages, by the path of the notebook below `notebooks`, without its suffix."""
    return {name: _checked(Page, page, f"{file}: {name}") for name, page in _read(file).items()}


def _read(file: Path) -> Any:
    try:
        return yaml_of(file.read_text(encoding="utf-8"))
    except (ValueError, YAMLError) as error:
        raise ValueError(f"{file}: {error}") from None


def _checked(model: type, values: Mapping, where: Path | str) -> Any:
    try:
        return model(**values)
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
