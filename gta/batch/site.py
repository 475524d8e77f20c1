"""The site: the results of a batch as pages that open from disk as well as from a web server.

A file of the batch has the same relative path on the site, and its page is that path with `.html` appended: `tables/zero_shot.csv.html`
shows `tables/zero_shot.csv`. Links are relative. A content security policy forbids scripts and files from elsewhere, and all text
from data is escaped. The same batch gives the same bytes.
"""

import csv
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from pygments.formatters import HtmlFormatter

from gta.batch import shown
from gta.batch.pages import render
from gta.files import ROOT, sha256, write_atomically
from gta.scores.tables import paired_of

HERE = Path(__file__).parent
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
# The list is here so that a change of a template makes the step of the site stale (`gta.hashes`).
FILES = (
    "site.html.j2",
    "site.css.j2",
    "site_parts.html.j2",
    "site_figure.html.j2",
    "site_index.html.j2",
    "site_notebook.html.j2",
    "site_table.html.j2",
)
RECORD = "made.json"  # for each page of a notebook: a hash of its sources and a hash of its content
WRITERS = ("nbconvert", "bleach", "mistune", "pygments", "jinja2")  # packages that write the cells of a notebook
# Paths of this machine and their replacements. Warnings in outputs contain such paths: they name their source file.
PLACES = [
    (re.compile(rf"(?<![\w./+-]){re.escape(html.escape(str(ROOT)))}(?:/|\b)"), ""),
    (re.compile(r"(?<![\w./+-])/[\w.+/-]*/(?=site-packages/|ipykernel_\d+/)"), ""),
    (re.compile(r"(?<![\w./+-])(?:/(?:home|Users)/[\w.-]+|/root|/tmp)/"), "…/"),
]


def build(
    base: Path, folder: Path, made: Mapping[str, Sequence[Path]], index: Sequence[Mapping[str, str]], left_out: Sequence[str]
) -> None:
    """Make the site of a batch, and remove all other files from its folder.

    base: the folder of the batch; made: the files of each step, by the step names of `gta.batch.steps`; index: one line for each table
    and figure, as in `results/index.csv`; left_out: lines `TABLE: what was not run, and why`. Pages show a missing file as not run.
    """
    _Site(Path(base), Path(folder), made, index, left_out).build()


@dataclass
class _Site:
    base: Path
    folder: Path
    made: Mapping[str, Sequence[Path]]
    index: Sequence[Mapping[str, str]]
    left_out: Sequence[str]
    record: dict[str, dict[str, str]] = field(default_factory=dict)
    kept: set[Path] = field(default_factory=set)

    def build(self) -> None:
        before = self.folder / RECORD
        self.earlier = json.loads(before.read_text(encoding="utf-8")) if before.exists() else {}
        for step, notebook in self.notebooks.items():
            self._notebook(step, notebook)
        for step, file in [*self.figures, *self.tables]:
            for copy in (file, file.with_suffix(".svg") if file.suffix == ".png" else paired_of(file)):
                if copy in self.present:
                    self._write(self._name(copy), copy.read_bytes())
            (self._figure if file.suffix == ".png" else self._table)(step, file)
        style = (HERE / "site.css.j2").read_text(encoding="utf-8") + HtmlFormatter(style="default").get_style_defs(".highlight")
        self._write("site.css", style + "\n")
        self._index()
        self._write(RECORD, json.dumps(self.record, indent=1, sort_keys=True) + "\n")
        for file in sorted(self.folder.rglob("*"), reverse=True):
            if file.is_dir() and not any(file.iterdir()):
                file.rmdir()
            elif not file.is_dir() and file not in self.kept:
                file.unlink()

    @cached_property
    def present(self) -> dict[Path, str]:
        """The files that exist, each with the step that makes it."""
        return {Path(file): step for step, files in self.made.items() for file in files if Path(file).exists()}

    @cached_property
    def notebooks(self) -> dict[str, Path]:
        """The executed notebook of each step that has one."""
        return {step: file for file, step in self.present.items() if file.suffix == ".ipynb"}

    @cached_property
    def figures(self) -> list[tuple[str, Path]]:
        return [(step, file) for file, step in self.present.items() if file.suffix == ".png" and not step.startswith("run/")]

    @cached_property
    def tables(self) -> list[tuple[str, Path]]:
        """CSVs with a page of their own, and their steps. CSVs of single runs have none, and paired comparisons are on the page of their
        table."""
        csvs = [file for file, step in self.present.items() if file.suffix == ".csv" and not step.startswith("run/")]
        beside = {paired_of(file) for file in csvs}
        return [(self.present[file], file) for file in csvs if file not in beside]

    @cached_property
    def titles(self) -> dict[Path, str]:
        return {file: _title(file) for file in self.notebooks.values()}

    def runs(self, table: str) -> dict[str, Path]:
        """The notebook of each run of a table, by the name of its folder."""
        return {step.split("/", 2)[2]: file for step, file in self.notebooks.items() if step.startswith(f"run/{table}/")}

    def _notebook(self, step: str, notebook: Path) -> None:
        """Write the page of a notebook. This is slow, so an existing page with the same sources stays."""
        table = step.split("/")[1] if step.startswith("run/") else ""
        up = next((file for of, file in self.tables if of == f"table/{table}" and file.stem == table), None)
        more = [] if table else [file for _, file in [*self.figures, *self.tables] if self.present[file] == step]
        about = {"title": self.titles[notebook], "up": up and self._name(up), "table": table, "more": [*map(self._name, more)]}
        about["run"] = step.split("/", 2)[2] if table else ""
        page = f"{self._name(notebook)}.html"
        key = hashlib.sha256(json.dumps([sha256(notebook), self._recipe, about]).encode()).hexdigest()
        known, there = self.earlier.get(page, {}), self.folder / page
        if known.get("from") != key or not there.exists() or sha256(there) != known.get("sha256"):
            cells = jinja2.utils.markupsafe.Markup(_at_home(render(notebook, "basic")))
            self._page("site_notebook.html.j2", page, cells=cells, **about)
        self.kept.add(there)
        self.record[page] = {"from": key, "sha256": sha256(there)}

    @cached_property
    def _recipe(self) -> list[str]:
        """Hashes and versions of everything that makes a page of a notebook, except the notebook itself."""
        sources = [HERE / "site.py", HERE / "pages.py", *(HERE / name for name in FILES)]
        return [*map(sha256, sources), *map(version, WRITERS)]

    def _figure(self, step: str, file: Path) -> None:
        svg, notebook = file.with_suffix(".svg"), self.notebooks.get(step)
        about = {"title": _words(self._name(file)), "png": self._name(file), "svg": self._name(svg) if svg in self.present else None}
        about |= {"by": self._name(notebook), "by_title": self.titles[notebook]} if notebook else {}
        self._page("site_figure.html.j2", f"{self._name(file)}.html", **about)

    def _table(self, step: str, file: Path) -> None:
        paired = paired_of(file) if paired_of(file) in self.present else None
        runs = self.runs(step.removeprefix("table/")) if step.startswith("table/") else {}
        rows, comparisons = _read(file), _read(paired) if paired else []
        origins = self._origins(step, file, rows)
        by_run = {row["run_id"]: origin for row, origin in zip(rows, origins, strict=True) if "run_id" in row}
        self._page(
            "site_table.html.j2",
            f"{self._name(file)}.html",
            title=self._called(file),
            csv=self._name(file),
            paired=paired and self._name(paired),
            rows=shown.grid(rows, origins),
            pairs=shown.grid(comparisons, [by_run.get(row.get("run_id", "")) for row in comparisons]),
            verdicts=shown.verdicts(comparisons, by_run),
            runs=[(name, self._name(run)) for name, run in runs.items()],
            by=step in self.notebooks,
            smoke=any(row.get("status") == "smoke" for row in rows),
            missing=self._missing(file.stem),
        )

    def _origins(self, step: str, file: Path, rows: Sequence[Mapping[str, str]]) -> list[str | None]:
        """The page of the notebook that measured each row, or None. If several runs measured the same row, the first run counts."""
        if step in self.notebooks:
            return [self._name(self.notebooks[step])] * len(rows)
        first: dict[str, str] = {}
        in_order: list[str] = []
        for notebook in self.runs(step.removeprefix("table/")).values():
            own, same = notebook.parent / "rows.csv", notebook.parent / file.name
            for row in _read(own) if own.exists() else []:
                first.setdefault(row["run_id"], self._name(notebook))
            in_order += [self._name(notebook)] * (len(_read(same)) if same.exists() else 0)
        if rows and "run_id" not in rows[0] and len(in_order) == len(rows):  # the table is the runs' files, concatenated
            return [*in_order]
        return [first.get(row.get("run_id", "")) for row in rows]

    def _index(self) -> None:
        lines = [self._line(entry) for entry in self.index]
        pages = [(step, file) for step, file in self.notebooks.items() if not step.startswith("run/")]
        tables = dict.fromkeys(step.split("/")[1] for step in self.notebooks if step.startswith("run/"))
        self._page(
            "site_index.html.j2",
            "index.html",
            title="GTA-CLIP, a reproducible companion",
            paper=[line for line in lines if not line["own"]],
            own=[line for line in lines if line["own"]],
            pages=[(self.titles[file], self._name(file)) for _, file in pages],
            figures=[(_words(self._name(file)), self._name(file)) for _, file in self.figures],
            tables=[(self._name(file), len(_read(file))) for _, file in self.tables],
            runs=[(table, [(name, self._name(run)) for name, run in self.runs(table).items()]) for table in tables],
            left_out=self.left_out,
            smoke=any(line["smoke"] for line in lines),
        )

    def _line(self, entry: Mapping[str, str]) -> dict[str, Any]:
        """One table or figure of the index: where its parts are on the site, and what it was run on."""
        what, own = _sentence(entry["paper"]), entry["paper"].startswith("none: ")
        files = {"csv": entry["csv"], "figure": entry["figure"]}
        files["drawn"] = entry["figure_notebook"].removeprefix("notebooks/") if entry["figure_notebook"] else ""
        here = {name: path if path and self.base / path in self.present else "" for name, path in files.items()}
        undrawn = entry["notebook"] == entry["figure_notebook"] and not here["drawn"]  # only its table exists
        rows = _read(self.base / here["csv"]) if here["csv"] and not undrawn else []
        measured = bool(rows) and "run_id" in rows[0]  # a table without run_id is computed from other tables
        told = ("dataset", "backbone", "seed", "versions", "device") if measured else ()
        run = {name: ", ".join(shown.worlds(rows, name)) for name in told}
        smoke = any(row.get("status") == "smoke" for row in rows)
        missing = self._missing(Path(entry["csv"]).stem)
        return {
            **entry,
            "what": what[:1].upper() + what[1:],
            "own": bool(own),
            "here": here,
            "run": run,
            "smoke": smoke,
            "missing": missing,
        }

    def _called(self, table: Path) -> str:
        """The title of a table: its name in the paper, or its path in words."""
        names = [entry["paper"] for entry in self.index if entry["csv"] == self._name(table)]
        return _sentence(names[0]) if names else f"Table: {_words(self._name(table))}"

    def _missing(self, table: str) -> list[str]:
        return [line.partition(": ")[2] for line in self.left_out if line.startswith(f"{table}: ")]

    def _name(self, file: Path) -> str:
        return file.relative_to(self.base).as_posix()

    def _page(self, template: str, page: str, **values: Any) -> None:
        self._write(page, TEMPLATES.get_template(template).render(root="../" * page.count("/"), **values))

    def _write(self, name: str, content: str | bytes) -> None:
        write_atomically(self.folder / name, content)
        self.kept.add(self.folder / name)


def _read(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def _title(notebook: Path) -> str:
    """The first heading of a notebook, or its file name."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    heading = re.search(r"^#+ +(.+)$", prose, re.MULTILINE)
    return re.sub(r"[`*]", "", heading[1]) if heading else notebook.stem


def _words(name: str) -> str:
    """The title of a table or figure: its path in words, without the folder and the suffix."""
    return re.sub("^(tables|figures)/", "", name).rpartition(".")[0].replace("_", " ").replace("/", " ")


def _sentence(paper: str) -> str:
    """A table's or figure's name in the paper or, if it begins with `none: `, what it shows instead; without that prefix."""
    what = paper.removeprefix("none: ")
    return what[:1].upper() + what[1:]


def _at_home(cells: str) -> str:
    """The cells of a notebook without links to repository files, which the site does not have, and without paths of this machine."""
    cells = re.sub(r'(<a\b[^>]*?) href="(?!#|https?:|mailto:)[^"]*"', r"\1", cells)
    for place, instead in PLACES:
        cells = place.sub(instead, cells)
    return cells
