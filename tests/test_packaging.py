"""pyproject.toml, requirements.lock and environment.yml say the same, and nothing names a host."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import ALL_ALONE, THIRDS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gta.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = [
    Requirement(line) for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
]
VERSIONS = {canonicalize_name(r.name): next(iter(r.specifier)).version for r in LOCK}


def declared():
    return [Requirement(text) for text in [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]]


def test_the_lock_pins_every_dependency_within_its_bounds():
    assert all(re.fullmatch(r"==\S+", str(r.specifier)) and r.url is None for r in LOCK)
    for requirement in declared():
        assert VERSIONS[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_dependency_of_the_package_has_a_lower_bound():
    assert all(">=" in text for text in PROJECT["dependencies"])


def test_the_conda_environment_says_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert conda[0] == f"python{PROJECT['requires-python']}"
    assert pip == ["--requirement requirements.lock", "--no-deps --editable ."]


def test_no_lock_or_configuration_names_a_host():
    for name in ("requirements.lock", "environment.yml", "pyproject.toml", "Makefile", ".ci/run"):
        assert not re.search(r"https?://|file://|--index-url|--find-links", (ROOT / name).read_text(encoding="utf-8")), name


def test_torch_is_an_ordinary_build():
    assert VERSIONS["torch"] != "2.13.0" and "+" not in VERSIONS["torch"]


def test_every_room_is_installed():
    rooms = {str(file.parent.relative_to(ROOT)).replace("/", ".") for file in (ROOT / "gta").rglob("__init__.py")}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert {name for name in listed if not name.startswith("gta.shipped")} == rooms


@pytest.mark.slow
def test_an_installed_package_works_from_another_folder(tmp_path):
    """`pip install .` without a checkout: what commands read of the repository is in the package, and nothing is written into it."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site"), "."]
    subprocess.run(pip, cwd=ROOT, check=True)
    (tmp_path / "home").mkdir()
    before = {file for file in (tmp_path / "site").rglob("*") if "__pycache__" not in file.parts}

    def run(*words):
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path / "home",
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            encoding="utf-8",
        )

    assert "python -m gta data fetch eurosat" in run("-m", "gta", "doctor").stdout
    assert "8,100" in run("-m", "gta", "data", "verify", "eurosat", "--root", "data").stdout
    assert run("-m", "gta.worlds.digits", "digits").returncode == 0
    label = ["--classes", "digits/classes.txt", "--encoder", "embedded", "--llm", "fieldguide", "--iterations", "1", "--out", "out"]
    done = run("-m", "gta", "label", "digits/images", *label)
    assert done.returncode == 0 and (tmp_path / "home/out/report.html").exists(), done.stderr
    assert {file for file in (tmp_path / "site").rglob("*") if "__pycache__" not in file.parts} == before


def test_every_slow_test_has_its_turn():
    """In one of the three thirds, of a browser, or named as too long for any."""
    found = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r"mark\.slow\n(?:@.*\n)*def (test_\w+)", text))
        found |= set(re.findall(r"marks=pytest\.mark\.slow.*\ndef (test_\w+)", text))
    listed = set.union(*THIRDS.values())
    assert found - listed - ALL_ALONE == {name for name in found if "browser" in name}
    assert listed <= found
