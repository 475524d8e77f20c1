"""The batch: every step of `snakemake TARGET`, its inputs, and whether it is up to date.

    run        one papermill call of a sweep's notebook      table     one CSV from the rows of a sweep's runs
    notebook   one papermill call of a page's notebook       page      that notebook as HTML          site   all pages together

`gta.batch.make` makes one step. Snakemake calls it for each step in the right order, on all cores.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from gta import hashes
from gta.batch import datasets, progress, stamps
from gta.batch.index import index
from gta.batch.stamps import Step
from gta.batch.sweeps import TARGETS, Page, Sweep, pages, sweeps
from gta.llm.sampling import Sampling
from gta.names import nearest
from gta.settings import PresetName

PAGE = 0.3  # minutes of one core that a table, a notebook or a page takes
STATES = ("done", "stale", "missing", "failed")


@dataclass
class Batch:
    """All steps below `base`. llm: MODEL@URL for the paper's datasets, whose runs are left out if it is None; data: their folder, and that
    of photographs (`gta.batch.datasets`), whose encoder is in the folder `pocket`.
    attributes: where the first attributes of these runs come from (`gta.studies.sources`), but for a sweep that varies what is asked.
    sampling: how the language model of these runs is asked (`gta.llm.sampling`).
    draws, seeds: the most draws of a run, and the most seeds of a grid. preset: of every run (`gta.released.presets`); its steps and its
    published results lie in a folder of that name."""

    smoke: bool = False
    llm: str | None = None
    data: str = "data"
    pocket: str = "runs/pocket"
    attributes: str = "ask"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    draws: int | None = None
    seeds: int | None = None
    preset: str = ""
    sweeps: Mapping[str, Sweep] = field(default_factory=sweeps)
    pages: Mapping[str, Page] = field(default_factory=pages)

    def __post_init__(self) -> None:
        """Raises ValueError now for what would stop each run."""
        self.sampling = Sampling.model_validate(self.sampling).model_dump(exclude_defaults=True)
        if self.preset not in get_args(PresetName):
            known = get_args(PresetName)[1:]
            raise ValueError(f"unknown preset {self.preset!r}{nearest(self.preset, known)}; known: {', '.join(known)}")

    @property
    def base(self) -> Path:
        return Path("runs", self.preset, "smoke" if self.smoke else "")

    @cached_property
    def left_out(self) -> list[str]:
        """The runs of the grids that are not among the steps, and what they need: one line for each table and reason."""
        found: dict[tuple[str, str], list[str]] = {}
        for table, sweep in self.sweeps.items():
            for cell in self._cells(sweep):
                if reason := self._lacks(cell):
                    found.setdefault((table, reason), []).append(cell["dataset"])
        return [f"{table}: {len(runs)} runs on {', '.join(dict.fromkeys(runs))}: {reason}" for (table, reason), runs in found.items()]

    @cached_property
    def steps(self) -> dict[str, Step]:
        """All steps by name: `run/TABLE/CELL`, `table/NAME`, `notebook/NAME`, `page/NAME`, `site`. A table all of whose runs are left out
        is left out too, with the pages that read it.

        Raises ValueError if two runs have one name, or if two steps make one file.
        """
        steps: dict[str, Step] = {}
        for table, sweep in self.sweeps.items():
            cells = [cell for cell in self._cells(sweep) if self._lacks(cell) is None]
            if not cells:
                continue
            runs = [self._run(table, sweep, cell) for cell in cells]
            if twice := [name for name, count in Counter(name for name, _ in runs).items() if count > 1]:
                raise ValueError(
                    f"{twice[0]} is the name of two runs: their cells differ only in a list, which is not part of a name; add another value"
                )
            steps |= dict(runs)
            steps[f"table/{table}"] = self._table(table, sweep, [steps[f"run/{table}/{_folder(cell)}"] for cell in cells])
        for name, page in self.pages.items():
            if any(f"table/{table}" not in steps for table in page.tables):
                continue
            steps[f"notebook/{name}"] = self._notebook(name, page, steps)
            notebook = steps[f"notebook/{name}"].outputs[0]
            steps[f"page/{name}"] = self._step(f"page/{name}", "gta/batch/pages.py", [notebook.with_suffix(".html")], [notebook])
        steps["site"] = self._site(steps)
        made = Counter(file for step in steps.values() for file in step.outputs)
        if twice := [str(file) for file, count in made.items() if count > 1]:
            raise ValueError(f"{twice[0]} is made by two steps; a table copied from another needs outputs of its own")
        return steps

    def needs(self, name: str) -> list[str]:
        """The steps whose outputs a step reads."""
        kind, _, rest = name.partition("/")
        if kind == "table":
            return [other for other in self.steps if other.startswith(f"run/{rest}/")]
        if kind == "notebook":
            page = self.pages[rest]
            runs = [other for other in self.steps if page.runs and other.startswith(f"run/{page.runs}/")]
            return [*(f"table/{table}" for table in page.tables), *(f"notebook/{other}" for other in page.reads), *runs]
        if kind == "page":
            return [f"notebook/{rest}"]
        return [other for other in self.steps if other != "site" and not other.startswith("page/")] if name == "site" else []

    @property
    def targets(self) -> list[str]:
        """The names of all targets: groups of tables and pages, single tables with the pages that read them, `figures`, `site`, `all`."""
        return list(dict.fromkeys([*TARGETS, *self.sweeps, "figures", "site", "all"]))

    def target(self, name: str) -> list[str]:
        """The steps of a target, and all steps that these need."""
        if name in ("all", "site"):
            return list(self.steps)
        chosen = [f"table/{table}" for table, sweep in self.sweeps.items() if name in (sweep.target, table)]
        for page, of in self.pages.items():
            if name in (of.target, page.partition("/")[0]) or [name] == of.tables:
                chosen.append(f"page/{page}")
        return list(dict.fromkeys(step for top in chosen if top in self.steps for step in self._with_needs(top)))

    def _with_needs(self, name: str) -> list[str]:
        return [*(step for need in self.needs(name) for step in self._with_needs(need)), name]

    def cost(self, name: str) -> float:
        """Minutes of one core: of a run as the sweep gives them, fewer for fewer draws; what draws nothing counts as one of them."""
        if not name.startswith("run/"):
            return PAGE
        sweep = self.sweeps[name.split("/")[1]]
        most = max(draws for block in sweep.grid for draws in block.get("draws", [1]))
        return sweep.cost * (1 + self.steps[name].parameters.get("draws", 1)) / (1 + most)

    def gpus(self, name: str) -> int:
        """How many GPUs a step takes: one for a run of a real encoder, else none."""
        return int(name.startswith("run/") and self.steps[name].parameters["backbone"] != "embedded")

    def log(self, name: str) -> Path:
        return self.base / "logs" / f"{name}.log"

    def status(self) -> list[dict[str, str]]:
        """The status of each step: done, stale (with the reason), missing or failed. Sets and removes the markers that Snakemake reads.

        A step is also stale if a step that it needs must be made again. It keeps its marker, because the new input may be the same.
        """
        lines: dict[str, dict[str, str]] = {}
        now = hashes.Hashes()
        for name, step in self.steps.items():
            reason, failed = step.refresh(now) or "", step.stamp.with_suffix(".failed")
            state = "done" if not reason else "failed" if failed.exists() else "stale" if step.stamp.exists() else "missing"
            waits = [need for need in self.needs(name) if lines[need]["status"] != "done"]
            if state == "done" and waits:
                state, reason = "stale", f"reads {waits[0]}"
            why = failed.read_text(encoding="utf-8").strip() if state == "failed" else reason
            lines[name] = {"step": name, "status": state, "why": why, "log": str(self.log(name)) if state == "failed" else ""}
        return list(lines.values())

    def report(self, targets: Sequence[str] = ("all",)) -> str:
        """For the head of a run or a dry run: what failed and what is stale, a line each, and how many steps of the targets are done."""
        asked = self._asked(targets)
        steps = [line for line in self.status() if line["step"] in asked]
        lines = [
            f"{line['status']}: {line['step']}: {line['why']} {line['log']}".rstrip()
            for line in steps
            if line["status"] in ("failed", "stale")
        ]
        tables = {name.split("/")[1] for name in asked if name.startswith("table/")}
        tables |= {table for table, sweep in self.sweeps.items() if {table, sweep.target, "all"} & {*targets}}
        left = [cell for table in sorted(tables) for cell in self._cells(self.sweeps[table]) if self._lacks(cell)]
        if left and "demo" not in targets:
            where = "`python -m gta.batch.steps status` says what would bring them in"
            lines.append(f"left out: {len(left)} runs on datasets that are not here; {where}")
        counts = ", ".join(f"{count} {state}" for state in STATES if (count := sum(line["status"] == state for line in steps)))
        minutes = sum(self.cost(line["step"]) for line in steps if line["status"] != "done")
        told = f"; what is to be made takes about {minutes:.0f} minutes of one core, and a line follows each step" if minutes else ""
        return "\n".join([*lines, f"{', '.join(targets)}: {counts} of {len(steps)} steps{told}"])

    def to_make(self, targets: Sequence[str]) -> str:
        """What a job needs to tell how much is left (`gta.batch.progress`)."""
        names = [name for name in self._asked(targets) if not self.steps[name].marker.exists()]
        return progress.begin({name: (str(self.steps[name].marker), self.cost(name)) for name in names})

    def _asked(self, targets: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(step for target in targets for step in self.target(target)))

    def publish(self, results: Path = Path("results"), targets: Sequence[str] = ("all",)) -> None:
        """Copy to `results`, or to the folder of the preset there, what readers need: tables, figures, executed notebooks, rows, and
        predictions if the sweep says so.

        targets: what is not theirs stays as it was published. Raises ValueError for a smoke run, if a step is not complete, and if a
        published run would be lost because it is left out now.
        """
        if self.smoke:
            raise ValueError("a smoke run is never published")
        results = results / self.preset
        asked = self._asked(targets)
        tables = {name.split("/")[1] for name in asked if name.startswith("run/")}
        for table, sweep in self.sweeps.items():
            for cell in self._cells(sweep) if table in tables or "all" in targets else ():
                rows = f"{table}/{_folder(cell)}/rows.csv"
                if (reason := self._lacks(cell)) and (results / rows).exists():
                    raise ValueError(f"{results / rows} was published and would be lost, since its run is left out: {reason}")
        kinds = ("run/", "table/", "notebook/")
        kept = [(self.steps[name], self._published(name, self.steps[name])) for name in asked if name.startswith(kinds)]
        within = None if "all" in targets else tables
        stamps.publish(kept, self.base, results, index(self.sweeps, self.pages), within)

    def _published(self, name: str, step: Step) -> list[Path]:
        if not name.startswith("run/"):
            return list(step.outputs)
        notebook, rows, predictions, *more = step.outputs
        files = {"notebook": [notebook], "predictions": [predictions], "outputs": more}
        return [rows, *(file for kind in self.sweeps[name.split("/")[1]].publish for file in files[kind])]

    def _cells(self, sweep: Sweep) -> list[dict[str, Any]]:
        return sweep.cells(self.smoke, self.draws, self.seeds)

    def _lacks(self, cell: Mapping[str, Any]) -> str | None:
        """What a run needs and this machine does not have, or None."""
        return datasets.lacks(cell, self)

    def _run(self, table: str, sweep: Sweep, cell: Mapping[str, Any]) -> tuple[str, Step]:
        name, folder = f"run/{table}/{_folder(cell)}", self.base / table / _folder(cell)
        own = ["rows.csv", "predictions.npz", *sweep.outputs]
        outputs = [folder / Path(sweep.notebook).name, *(folder / file for file in own)]
        given, inputs = datasets.given(cell, self, sweep.asks)
        parameters = {**cell, **given, **sweep.parameters, "out": str(folder), "smoke": self.smoke}
        return name, self._step(name, sweep.notebook, outputs, inputs, parameters)

    def _table(self, table: str, sweep: Sweep, runs: list[Step]) -> Step:
        named = [f"{table}.csv", f"{table}_paired.csv", *(file for file in sweep.outputs if file.endswith(".csv"))]
        read = [file for run in runs for file in run.outputs if file.suffix in (".csv", ".npz")]
        parameters = {"references": list(map(list, sweep.references))}
        return self._step(f"table/{table}", "gta/scores/tables.py", [self.base / "tables" / file for file in named], read, parameters)

    def _notebook(self, name: str, page: Page, steps: Mapping[str, Step]) -> Step:
        outputs = [self.base / f"{name}.ipynb", *(self.base / file for file in page.outputs)]
        inputs = [file for table in page.tables for file in steps[f"table/{table}"].outputs]
        inputs += [file for other in page.reads for file in steps[f"notebook/{other}"].outputs if file.suffix == ".csv"]
        inputs += [
            file for other, step in steps.items() if page.runs and other.startswith(f"run/{page.runs}/") for file in step.outputs[1:]
        ]
        inputs += [
            file for given in page.inputs for file in (sorted(Path(given).glob("*.yaml")) if Path(given).is_dir() else [Path(given)])
        ]
        places = {"base": str(self.base)}
        given = {key: value.format(**places) if isinstance(value, str) else value for key, value in page.parameters.items()}
        parameters = {**given, **(page.smoke if self.smoke else {}), "smoke": self.smoke}
        return self._step(f"notebook/{name}", f"notebooks/{name}.ipynb", outputs, inputs, parameters)

    def _site(self, steps: Mapping[str, Step]) -> Step:
        """The step of the site: each notebook as a page, each table and figure as a page and a copy. All of them are its outputs, so
        the step is stale if one is lost or edited."""
        read = [(name, file) for name, step in steps.items() if not name.startswith("page/") for file in step.outputs]
        read = [(name, file) for name, file in read if file.suffix in (".ipynb", ".csv", ".png", ".svg")]
        outputs = [self.base / "site/index.html", self.base / "site/site.css"]
        for name, file in read:
            copy = self.base / "site" / file.relative_to(self.base)
            if file.suffix == ".ipynb" or not (name.startswith("run/") or file.suffix == ".svg" or file.stem.endswith("_paired")):
                outputs.append(copy.with_name(f"{copy.name}.html"))
            if file.suffix != ".ipynb" and not name.startswith("run/"):
                outputs.append(copy)
        parameters = {"index": index(self.sweeps, self.pages), "left_out": self.left_out}
        return self._step("site", "gta/batch/site.py", outputs, [file for _, file in read], parameters)

    def _step(self, name: str, entry: str, outputs: list, inputs: list, parameters: Mapping | None = None) -> Step:
        return Step(self.base / "stamps" / f"{name}.json", Path(entry), tuple(outputs), tuple(map(Path, inputs)), parameters or {})


def _folder(cell: Mapping[str, Any]) -> str:
    """The folder name of a run: dataset-backbone-...-s0."""
    named = {key: value for key, value in cell.items() if key not in ("dataset", "backbone", "seed") and not isinstance(value, list)}
    rest = [f"{value}" if isinstance(value, str) else f"{key}{value}" for key, value in named.items()]
    return "-".join([cell["dataset"], cell["backbone"], *rest, f"s{cell['seed']}"]).translate(str.maketrans("/: ,#", "_-__-"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gta.batch.steps", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["status", "publish"])
    parser.add_argument("--only", nargs="+", default=["all"], metavar="TARGET", help="publish these, and leave all else as it is")
    parser.add_argument("--options", type=json.loads, default={}, help="of `Batch`: a JSON object")
    arguments = parser.parse_args()
    batch = Batch(**arguments.options)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if arguments.action == "publish":
        batch.publish(targets=arguments.only)
    else:
        for reason in batch.left_out:
            print(f"left out: {reason}")
        for line in batch.status():
            print(f"{line['status']:8} {line['step']:60} {line['why']} {line['log']}".rstrip())


if __name__ == "__main__":
    main()
