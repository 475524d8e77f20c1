"""What the notebooks that draw from tables are given. They need no torch."""

import pandas as pd

from gta.files import ROOT
from gta.scores import statistics
from gta.scores.rows import Row, read_table
from gta.settings import Checked, Settings
from gta.worlds.settings import settings_for


class Figure(Checked):
    """Parameters of the notebooks that draw from tables. tables: the folder of their CSVs; out: of the figures."""

    tables: str
    out: str
    smoke: bool

    def rows(self, table: str) -> list[Row]:
        """Of one of the tables. Raises FileNotFoundError, with the target that makes it."""
        return read_table(ROOT / self.tables / f"{table}.csv")

    def paired(self, table: str) -> pd.DataFrame:
        """The paired comparisons of one of the tables (`gta.scores.statistics.paired`)."""
        return statistics.read(ROOT / self.tables / f"{table}_paired.csv")


class Aviary(Figure):
    """Parameters of `notebooks/aviary.ipynb`. runs: the folder of the runs on the worlds 0 to `worlds` - 1."""

    runs: str
    worlds: int

    def folder(self, world: int) -> str:
        """Of the run on a world, with the encoder of the same seed, whatever else its name says. Raises FileNotFoundError."""
        pattern = f"{self.runs}/aviary-{world}-embedded*-s{world}"
        found = sorted(ROOT.glob(pattern))
        if not found:
            raise FileNotFoundError(f"{pattern}: there is no such run; `snakemake aviary` makes it")
        return str(found[-1])

    def settings(self, world: int) -> Settings:
        """Of that run."""
        return settings_for("embedded", "aviary", seed=world, **({"iterations": 2} if self.smoke else {}))
