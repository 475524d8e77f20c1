"""What every source notebook keeps to, and what papermill says to bad input."""

import json
import os
import re
import subprocess
import sys
import time

import nbformat
import pandas as pd
import psutil
import pytest

from gta.batch.pages import render
from gta.files import ROOT

KEY = "sk-very-secret-0123456789"
ENV = {**os.environ, "OPENAI_API_KEY": KEY}
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_a_source_notebook_is_thin_and_carries_no_output(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and "smoke" in tagged[0].source
    assert not any(word in cell.source for cell in code for word in ("def ", "class ", "lambda"))
    assert notebook.cells[0].cell_type == "markdown"


def read_parameters(file, **given):
    """What the first two code cells of a notebook make of parameters, as papermill would inject them."""
    first, second = [cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"][:2]
    namespace: dict = {}
    exec(first, namespace)
    namespace.update(given)
    exec(second, namespace)
    return namespace["parameters"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_every_notebook_takes_its_defaults_and_refuses_what_is_misspelt_or_ill_typed(file):
    assert read_parameters(file).smoke is False
    assert read_parameters(file, smoke="false").smoke is False, "papermill gives -p smoke false as a text"
    with pytest.raises(ValueError, match="unknown parameter 'smokee'; did you mean 'smoke'"):
        read_parameters(file, smokee=True)
    with pytest.raises(ValueError, match="smoke"):
        read_parameters(file, smoke="perhaps")


ASKING = [file for file in NOTEBOOKS if '"llm = ' in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", ASKING, ids=lambda f: f.stem)
def test_every_notebook_that_asks_takes_how_it_asks(file):
    given = {"temperature": 0.7, "max_tokens": None, "extra": {"top_k": 3}}
    assert read_parameters(file, sampling=given).sampling.request == {"temperature": 0.7, "top_k": 3}
    assert read_parameters(file).sampling == read_parameters(file, sampling="{timeout: 600}").sampling
    with pytest.raises(ValueError, match="unknown parameter 'temprature'; did you mean 'temperature'"):
        read_parameters(file, sampling={"temprature": 1})


# label_your_images reads its files first: tests/label/test_label.py.
@pytest.mark.parametrize("file", [file for file in ASKING if file.stem != "label_your_images"], ids=lambda f: f.stem)
def test_the_embedded_encoder_meets_no_free_language_model(file):
    """It would know too few words, and the run would end after everything was paid for."""
    with pytest.raises(ValueError, match="the encoder 'embedded' knows only the words of its own small world"):
        read_parameters(file, llm="gpt-4o@https://api.openai.com/v1")
    folder = str(ROOT / "gta/worlds/encoders")  # by another name
    with pytest.raises(ValueError, match=re.escape(f"the encoder {folder!r} knows only the words of {folder}/tokenizer.json; ")):
        read_parameters(file, llm="gpt-4o@https://api.openai.com/v1", backbone=folder)
    served = read_parameters(file, llm="fieldguide@http://127.0.0.1:8000/v1")
    assert served.backbone == "embedded"
    assert read_parameters(file, llm="gpt-4o@https://api.openai.com/v1", dataset="eurosat", backbone="ViT-B/16")
    if file.stem == "ablation_generation":
        with pytest.raises(ValueError, match="the encoder 'embedded'"):
            read_parameters(file, models=["m@http://127.0.0.1:8000/v1"])


def test_the_commands_of_the_readme_are_taken():
    commands = re.findall(r"papermill (\S+) \S+((?:\s+(?:\\\n)?\s*-p \S+ \S+)+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(commands) == 2
    for file, given in commands:
        assert read_parameters(ROOT / file, **dict(re.findall(r"-p (\S+) (\S+)", given))).llm == "gpt-4o@https://api.openai.com/v1"


def papermill(tmp_path, notebook, **parameters):
    return subprocess.run(command(tmp_path, notebook, parameters), capture_output=True, encoding="utf-8", cwd=ROOT, env=ENV)


def command(tmp_path, notebook, parameters):
    given = [
        word
        for key, value in parameters.items()
        for word in (("-y", json.dumps({key: value})) if isinstance(value, list) else ("-p", key, str(value)))
    ]
    return [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / f"notebooks/{notebook}.ipynb"),
        str(tmp_path / "out.ipynb"),
        *given,
        "--no-progress-bar",
    ]


def test_bad_input_ends_in_an_error_that_names_it_and_writes_no_result(tmp_path):
    refused(tmp_path, "zero_shot", {"sead": 1}, "unknown parameter 'sead'; did you mean 'seed'")


@pytest.mark.parametrize(
    ("notebook", "parameters", "message"),
    [
        ("zero_shot", {"dataset": "digit"}, "did you mean 'digits'"),
        ("figures/zero_shot", {"tables": "gone"}, "gone/zero_shot.csv does not exist"),
    ],
)
@pytest.mark.slow
def test_so_does_more_bad_input(tmp_path, notebook, parameters, message):
    refused(tmp_path, notebook, parameters, message)


def refused(tmp_path, notebook, parameters, message):
    done = papermill(tmp_path, notebook, out=tmp_path / "run", **parameters)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_smoke_run_writes_rows_predictions_and_bank(tmp_path):
    done = papermill(tmp_path, "zero_shot", smoke=True, out=tmp_path / "run", ledger=tmp_path / "ledger")
    assert done.returncode == 0, done.stderr
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == ["attributes.json", "predictions.npz", "regime.csv", "rows.csv"]
    assert "smoke" in (tmp_path / "run/rows.csv").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "run/attributes.json").read_text(encoding="utf-8"))["classes"][3]["name"] == "three"


def test_the_attributes_page_records_once_then_replays_and_never_shows_the_key(tmp_path):
    for run, mode in (("first", "record"), ("again", "replay")):
        done = papermill(tmp_path, "attributes", smoke=True, out=tmp_path / run, ledger=tmp_path / "ledger", mode=mode)
        assert done.returncode == 0, done.stderr
        assert KEY not in done.stdout + done.stderr
    assert re.search(
        r"(\d+) questions, \1 answered from the ledger, 0 given up; 0 calls", (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    )
    assert (tmp_path / "first/attributes.json").read_bytes() == (tmp_path / "again/attributes.json").read_bytes()
    assert not any(KEY in file.read_text(encoding="utf-8") for file in tmp_path.rglob("*") if file.is_file())
    page = render(tmp_path / "out.ipynb")
    assert "<table" in page and "became less alike" in page and "<script>" not in page.partition("<body")[2]


def test_the_page_of_the_datasets_renders_with_what_is_there(tmp_path):
    """Nothing here: every table stands, and each dataset comes with its command; no machine's path is on the page."""
    done = papermill(tmp_path, "datasets", smoke=True, root="runs/no-data-here")
    assert done.returncode == 0, done.stderr
    page = render(tmp_path / "out.ipynb")
    for words in ("4,128", "python -m gta data fetch cub --root runs/no-data-here", "nothing to show", "5,793 test images", "inferred"):
        assert words in page, words
    assert str(ROOT) not in page


EVOLUTION = ("measures.csv", "rows.csv", "predictions.npz", "maps.png", "maps.svg", "agreement.png", "accuracy.png")


@pytest.mark.slow
def test_the_evolution_page_draws_the_pair_it_is_given_and_keeps_the_oracle_out_of_the_rows(tmp_path):
    done = papermill(tmp_path, "evolution", smoke=True, out=tmp_path / "run", ledger=tmp_path / "ledger", pairs=[["four", "nine"]])
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "run" / name).exists() for name in EVOLUTION)
    assert (tmp_path / "run/measures.csv").read_text(encoding="utf-8").splitlines()[0] == "iteration,structure,own,other,gap,ece,brier"
    figure = (tmp_path / "run/maps.svg").read_text(encoding="utf-8")
    assert "<!-- four, texts -->" in figure and "<!-- nine, texts -->" in figure and "<!-- iteration 1 -->" in figure
    rows = (tmp_path / "run/rows.csv").read_text(encoding="utf-8").splitlines()
    assert "oracle_best" in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    assert "oracle_best" in rows[0] and not any("oracle" in row for row in rows[1:]), "a column, and no row"


@pytest.mark.slow
def test_the_evolution_page_goes_on_after_a_kill(tmp_path):
    """kill -9 of papermill and its kernel at three moments; at the end the page is that of a run that nothing ended."""
    options = {"iterations": 6, "ledger": tmp_path / "ledger"}
    assert papermill(tmp_path, "evolution", out=tmp_path / "whole", **options).returncode == 0
    cut = command(tmp_path, "evolution", {**options, "out": tmp_path / "cut"})
    for iterations in (1, 3, 5):
        with subprocess.Popen(cut, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while len(list((tmp_path / "cut/checkpoints").glob("*/*.json"))) <= iterations and process.poll() is None:
                time.sleep(0.02)
            assert process.poll() is None, "it ended before it was killed"
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
        assert not (tmp_path / "cut/rows.csv").exists()
    assert papermill(tmp_path, "evolution", out=tmp_path / "cut", **options).returncode == 0
    assert "going on from iteration" in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    for name in ("measures.csv", "maps.png", "agreement.png", "accuracy.png"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole, cut_rows = (pd.read_csv(tmp_path / name / "rows.csv").drop(columns="seconds") for name in ("whole", "cut"))
    assert whole.equals(cut_rows)


@pytest.mark.slow
def test_the_peers_pages_run_in_smoke_size(tmp_path):
    done = papermill(tmp_path, "peers", smoke=True, out=tmp_path / "run", ledger=tmp_path / "ledger", store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "run/rows.csv").read_text(encoding="utf-8")
    assert all(f",{table},digits" in rows for table in ("peers_zero_shot", "peers_few_shot", "peers_base_to_new"))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/peers.csv").write_text(rows, encoding="utf-8")
    done = papermill(tmp_path, "figures/peers", tables=tmp_path / "tables", out=tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "figures").glob("peers_*.png"))) == 2
