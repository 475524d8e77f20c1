"""The README's example runs, and its numbers are those of the published table."""

import re

import pytest

from gta import tables
from gta.files import ROOT

README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("'") == 20


def test_the_numbers_are_the_published_ones(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert tables.with_summary(README, "results/tables/zero_shot.csv") == README


def test_a_document_without_marks_is_refused():
    with pytest.raises(ValueError, match=r"no lines <!-- results: t\.csv -->"):
        tables.with_summary("# A text", "t.csv")


@pytest.mark.parametrize(
    "file",
    ["README.md", "docs/reproduction.md", "docs/first-hour.md", "docs/label.md", "CONTRIBUTING.md", "gta/embedded/encoders/README.md"],
)
def test_links_lead_somewhere(file):
    folder = (ROOT / file).parent
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / file).read_text())
    assert [t for t in targets if not t.startswith("http") and not (folder / t).exists()] == []
