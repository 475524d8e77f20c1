"""The README's example runs, and its numbers are those of the published table."""

import re

import pandas as pd
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


def test_the_numbers_of_labelling_are_the_measured_ones():
    """Every line of the two tables, against the means over seeds."""
    means = pd.read_csv(ROOT / "results/benchmarks/label.csv").groupby(["part", "setting", "measure"]).value.mean()
    text = (ROOT / "docs/label.md").read_text()
    told = [line.strip("| ").split(" | ")[1:] for line in text.splitlines() if re.match(r"\|.* \d+\.\d \|$", line)]
    inductive = ("digits, llm none", "digits, llm fieldguide", "aviary, llm fieldguide")
    measures = [("inductive", inductive, name) for name in ("CLIP", "predict", "transduct the new images alone", "transduct all images")]
    names = ("unfitness", "energy of the text logits", "1 - CLIP's confidence", "1 - confidence", "distance to the nearest prototype")
    measures += [("unknowns", ("hands, llm none", "digits, llm none", "aviary, llm fieldguide"), name) for name in names]
    for line, (part, settings, name) in zip(told, measures, strict=True):
        found = [means.get((part, setting, name), means.get((part, setting, f"{name}+attributes"))) for setting in settings]
        assert line == [f"{value:.1f}" for value in found]


def test_a_document_without_marks_is_refused():
    with pytest.raises(ValueError, match=r"no lines <!-- results: t\.csv -->"):
        tables.with_summary("# A text", "t.csv")


CARDS = [f"gta/embedded/{folder}/README.md" for folder in ("encoders", "bird_encoders")]
DOCS = [f"docs/{name}.md" for name in ("reproduction", "first-hour", "aviary", "label", "tables", "peers")]


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", *DOCS, *CARDS])
def test_links_lead_somewhere(file):
    folder = (ROOT / file).parent
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / file).read_text())
    assert [t for t in targets if not t.startswith("http") and not (folder / t).exists()] == []
