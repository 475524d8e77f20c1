"""pyproject.toml, requirements.lock and environment.yml say the same, and nothing names a host."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gta.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
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
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert conda[0] == f"python{PROJECT['requires-python']}"
    assert pip == ["--requirement requirements.lock", "--no-deps --editable ."]


def test_no_lock_or_configuration_names_a_host():
    for name in ("requirements.lock", "environment.yml", "pyproject.toml", "Makefile", ".ci/run"):
        assert not re.search(r"https?://|file://|--index-url|--find-links", (ROOT / name).read_text()), name


def test_torch_is_an_ordinary_build():
    assert VERSIONS["torch"] != "2.13.0" and "+" not in VERSIONS["torch"]
