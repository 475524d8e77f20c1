"""The README's example runs, and the numbers in the documents are those of the published tables."""

import re

import pandas as pd
import pytest

from gta.files import ROOT
from gta.scores import sentences, statistics, tables
from gta.scores.rows import read_table

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("'") == 20


@pytest.mark.parametrize(("document", "table"), [("docs/results.md", "zero_shot"), ("docs/aviary.md", "aviary")])
def test_the_numbers_are_the_published_ones(document, table, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / document).read_text(encoding="utf-8")
    assert tables.with_summary(text, f"results/tables/{table}.csv") == text


def test_the_numbers_of_labelling_are_the_measured_ones():
    """Every line of the two tables, against the means over seeds."""
    means = pd.read_csv(ROOT / "results/benchmarks/label.csv").groupby(["part", "setting", "measure"]).value.mean()
    text = (ROOT / "docs/label.md").read_text(encoding="utf-8").partition("`python benchmarks/ranks.py`")[0]
    told = [line.strip("| ").split(" | ")[1:] for line in text.splitlines() if re.match(r"\|.* \d+\.\d \|$", line)]
    inductive = ("digits, llm none", "digits, llm fieldguide", "aviary, llm fieldguide")
    measures = [("inductive", inductive, name) for name in ("CLIP", "predict", "transduct the new images alone", "transduct all images")]
    names = ("unfitness", "energy of the text logits", "1 - CLIP's confidence", "1 - confidence", "distance to the nearest prototype")
    measures += [("unknowns", ("hands, llm none", "digits, llm none", "aviary, llm fieldguide"), name) for name in names]
    for line, (part, settings, name) in zip(told, measures, strict=True):
        found = [means.get((part, setting, name), means.get((part, setting, f"{name}+attributes"))) for setting in settings]
        assert line == [f"{value:.1f}" for value in found]


def test_the_numbers_of_groups_are_the_measured_ones():
    means = pd.read_csv(ROOT / "results/benchmarks/groups.csv").groupby(["case", "rule"])[["accuracy", "overconfidence"]].mean()
    text = (ROOT / "docs/label.md").read_text(encoding="utf-8").partition("`python benchmarks/groups.py`")[2]
    told = [line.strip("| ").split(" | ")[1:] for line in text.splitlines() if re.match(r"\|.* \d+\.\d \|$", line)]
    rules = ("alone", "log pool", "mean")
    assert told == [[f"{means.accuracy[case, rule]:.1f}" for rule in rules] for case in ("renderings", "copies", "mixed")]
    over = {key: f"{abs(value):.1f}" for key, value in means.overconfidence.items()}
    low, product, pooled, alone = (
        over[key] for key in (("renderings", "log pool"), *(("copies", of) for of in ("product", "log pool", "alone")))
    )
    said = " ".join(text.split())
    assert f"is {low} points too low in the first case" in said and means.overconfidence["renderings", "log pool"] < 0
    assert f"would be {product} points too high in the second, against {pooled} here and {alone} of images alone" in said


def test_the_numbers_of_the_peers_are_the_measured_ones():
    """Every cell of the three tables: a row's name, or that with transduction on top, a column's table, dataset and shots."""
    frame = pd.DataFrame([row.model_dump() for row in read_table(ROOT / "results/tables/peers.csv")])
    frame["dataset"] = frame.dataset.str.replace(r":\d+", "", regex=True)
    frame["name"] = [statistics.label(*names) for names in zip(frame.method, frame.variant, strict=True)]
    means = frame.groupby(["table", "dataset", "shots", "name"]).accuracy.mean()
    columns = {
        "from names alone": [("peers_zero_shot", of, 0, top) for of in ("digits", "aviary") for top in (False, True)],
        "labelled images a class": [("peers_few_shot", of, shots, False) for of in ("digits", "aviary") for shots in (4, 16)],
        "from base to new classes, 16": [
            ("peers_base_to_new", f"{of}#{half}", 16, False) for of in ("digits", "aviary") for half in ("base", "new")
        ],
    }
    cells, keys = [], []
    for line in (ROOT / "docs/peers.md").read_text(encoding="utf-8").splitlines():
        name, *values = line.strip("| ").split(" | ") if line.startswith("| ") else [""]
        keys = columns.get(name, keys)
        if keys and name not in columns and any(value[-1].isdigit() for value in values):
            pairs = zip(keys, values, strict=True)
            cells += [(means[*key, _on_top(name) if top else name], value) for (*key, top), value in pairs if value != "–"]
    assert len(cells) > 100 and [f"{mean:.1f}" for mean, _ in cells] == [value for _, value in cells]


def _on_top(name):
    return f"Trans{name}" if name in ("CLIP", "CLIP+attributes") else f"{name}, + transduction"


SAYING = {
    "README.md": "",
    "docs/results.md": "How to read it:",
    "docs/aviary.md": "How to read it:",
    "docs/label-descriptions.md": "## What the tables say",
    "docs/distil.md": "How to read it;",
    "docs/tables.md": "## What the embedded",
    "docs/views-and-sizes.md": "`snakemake second_view` measures",
}


@pytest.mark.parametrize("document", SAYING)
def test_numbers_in_sentences_are_those_of_the_published_tables(document):
    """A mark beside a number names its cell; where results are read, no number stands without one."""
    text = (ROOT / document).read_text(encoding="utf-8")
    assert sentences.filled(text) == text
    if SAYING[document]:
        assert sentences.unmarked(text.partition(SAYING[document])[2]) == []


def test_a_document_without_marks_is_refused():
    with pytest.raises(ValueError, match=r"no lines <!-- results: t\.csv -->"):
        tables.with_summary("# A text", "t.csv")


CARDS = [f"gta/worlds/{folder}/README.md" for folder in ("encoders", "bird_encoders")]
DOCS = [f"docs/{name}.md" for name in ("results", "reproduction", "presets", "first-hour", "aviary", "label", "tables", "peers")]


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", *DOCS, *CARDS])
def test_links_lead_somewhere(file):
    folder = (ROOT / file).parent
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / file).read_text(encoding="utf-8"))
    assert [t for t in targets if not t.startswith("http") and not (folder / t).exists()] == []
