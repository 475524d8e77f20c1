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


@pytest.mark.parametrize(("document", "table"), [("README.md", "zero_shot"), ("docs/aviary.md", "aviary")])
def test_the_numbers_are_the_published_ones(document, table, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / document).read_text()
    assert tables.with_summary(text, f"results/tables/{table}.csv") == text


def test_a_document_without_marks_is_refused():
    with pytest.raises(ValueError, match=r"no lines <!-- results: t\.csv -->"):
        tables.with_summary("# A text", "t.csv")


CARDS = [f"gta/embedded/{folder}/README.md" for folder in ("encoders", "bird_encoders")]
DOCS = [f"docs/{name}.md" for name in ("reproduction", "first-hour", "aviary", "label")]


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", *DOCS, *CARDS])
def test_links_lead_somewhere(file):
    folder = (ROOT / file).parent
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / file).read_text())
    assert [t for t in targets if not t.startswith("http") and not (folder / t).exists()] == []
