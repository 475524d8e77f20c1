"""The index of results: for each table and figure of the paper, its target, notebook, CSV and figure here."""

from collections.abc import Mapping

from gta.batch.sweeps import Page, Sweep


def index(sweeps: Mapping[str, Sweep], pages: Mapping[str, Page]) -> list[dict[str, str]]:
    """A line for each table, and for each page that stands for something of the paper."""
    lines: list[dict[str, str]] = []
    for table, sweep in sweeps.items():
        drawn = [(name, page) for name, page in pages.items() if table in page.tables and page.figure]
        drawn.sort(key=lambda named: len(named[1].tables))  # a page of this table alone comes before a page of many tables
        figure = {"figure": drawn[0][1].figure or "", "figure_notebook": f"notebooks/{drawn[0][0]}.ipynb"} if drawn else {}
        where = {"target": sweep.target, "notebook": sweep.notebook, "csv": f"tables/{table}.csv"}
        lines.append({"paper": sweep.paper, **where, "figure": "", "figure_notebook": "", **figure})
    for name, page in pages.items():
        if page.paper:
            notebook = f"notebooks/{name}.ipynb"
            where = {"target": page.target, "notebook": notebook, "csv": page.csv or ""}
            lines.append({"paper": page.paper, **where, "figure": page.figure or "", "figure_notebook": notebook})
    return lines
