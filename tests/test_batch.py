"""The whole batch in smoke size, in a copy of the repository: what is made again, and what is not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gta.files import ROOT

pytestmark = pytest.mark.slow


def snakemake(folder, *arguments):
    done = subprocess.run(
        ["snakemake", "demo", "--config", "smoke=1", *arguments], cwd=folder, env=_env(folder), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _env(folder):
    return {**os.environ, "PYTHONPATH": str(folder)}


def to_make(folder) -> dict[str, int]:
    """How many jobs of each rule a dry run lists."""
    text = snakemake(folder, "--dry-run", "--quiet", "host")
    jobs = text.partition("Job stats:")[2].partition("total")[0].splitlines()[3:]
    return {name: int(count) for name, count in (line.split() for line in jobs if line.strip()) if name != "demo"}


def test_only_what_depends_on_a_change_is_made_again(tmp_path):
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    runs = tmp_path / "runs/smoke"

    def edit(file: Path, change):
        file.write_text(change(file.read_text()))

    assert to_make(tmp_path) == {"run": 3, "table": 1, "notebook": 6, "page": 6}
    snakemake(tmp_path)
    assert to_make(tmp_path) == {}

    table = runs / "tables/zero_shot.csv"
    edit(table, lambda text: text.rpartition("\n")[0].rpartition("\n")[0] + "\n")
    assert to_make(tmp_path) == {"table": 1, "notebook": 1, "page": 1}
    snakemake(tmp_path)
    assert to_make(tmp_path) == {}

    (runs / "figures/zero_shot.png").unlink()
    assert to_make(tmp_path) == {"notebook": 1, "page": 1}
    snakemake(tmp_path)

    edit(tmp_path / "gta/figures.py", lambda text: text + "# a line\n")
    assert to_make(tmp_path) == {"notebook": 6, "page": 6}
    shutil.copy(ROOT / "gta/figures.py", tmp_path / "gta/figures.py")

    edit(tmp_path / "gta/pages.py", lambda text: text + "# a line\n")
    assert to_make(tmp_path) == {"page": 6}
    shutil.copy(ROOT / "gta/pages.py", tmp_path / "gta/pages.py")

    rows = runs / "zero_shot/digits-embedded-s1/rows.csv"
    edit(rows, lambda text: text.replace("smoke", "done"))
    assert to_make(tmp_path) == {"run": 1, "table": 1, "notebook": 1, "page": 1}
