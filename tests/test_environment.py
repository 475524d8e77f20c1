"""What a user's machine brings along, and must not change or break a run: locale, matplotlibrc, read-only folders, papermill's types."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from PIL import Image

from gta.__main__ import main
from gta.files import ROOT
from gta.llm.ledger import Ledger
from gta.settings import Settings
from gta.studies.parameters import RunParameters
from small import latin_1

ASCII = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}  # the poorest locale: no character but ASCII


def python(*words, **more):
    """A process of Python in the ASCII locale, or in the environment that is given."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(more.pop("env", ASCII))}
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, encoding="utf-8", env=environment, cwd=ROOT, **more)


REQUEST = {"model": "m", "messages": [], "schema": {}, "sampling": {}, "sample": 0}


@pytest.mark.parametrize("locale", [lambda _: ASCII, latin_1], ids=["ASCII", "Latin-1"])
def test_a_ledger_is_healthy_in_every_locale(locale, tmp_path, tmp_path_factory):
    """A paid answer was called damaged, and the user was told to delete it."""
    given = locale(tmp_path_factory.mktemp("locale"))
    ledger = Ledger(tmp_path)
    entry = {**ledger.find(REQUEST, "'Möwe'"), "status": "answered", "answer": ["a béak"]}
    ledger.save(entry)
    code = f"from gta.llm.ledger import Ledger; print(ascii([e['answer'] for e in Ledger({str(tmp_path)!r})]))"
    done = python("-c", code, env=given)
    assert done.stdout.strip() == r"[['a b\xe9ak']]", done.stderr


@pytest.fixture
def photos(tmp_path):
    """Two images under names that are not ASCII, and one class that the embedded encoder knows."""
    (tmp_path / "übung").mkdir()
    for name in ("möwe.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "übung" / name)
    (tmp_path / "classes.txt").write_text("one\ntwo", encoding="utf-8")
    return tmp_path


def test_labels_are_the_same_in_every_locale(photos):
    """File names, class names and examples are UTF-8, and what the terminal does not have is escaped."""
    (photos / "labels.csv").write_text("path,label\nmöwe.png,two\n", encoding="utf-8")
    words = ["-m", "gta", "label", photos / "übung", "--classes", photos / "classes.txt", "--encoder", "embedded", "--iterations", "1"]
    words += ["--labelled", photos / "labels.csv"]
    done = python(*words, "--out", photos / "ascii")
    assert done.returncode == 0, done.stderr
    assert main([str(word) for word in (*words[2:], "--out", photos / "utf8")]) == 0
    assert (photos / "ascii/predictions.csv").read_bytes() == (photos / "utf8/predictions.csv").read_bytes()


def test_a_refusal_can_be_printed_in_every_locale(photos):
    (photos / "labels.csv").write_text("path,label\nmöwe2.png,two\n", encoding="utf-8")
    words = ["-m", "gta", "label", photos / "übung", "--classes", photos / "classes.txt", "--encoder", "embedded", "--out", photos / "out"]
    done = python(*words, "--labelled", photos / "labels.csv")
    assert done.returncode == 1 and r"line 2: no image 'm\xf6we2.png' in" in done.stderr and "Traceback" not in done.stderr


PLOT = """
import sys
from matplotlib import pyplot as plt
from gta.charts import style
figure, axis = plt.subplots()
axis.plot([1, 2], label="a")
axis.legend()
style.save(figure, sys.argv[1], "plot")
"""


def test_a_users_matplotlibrc_has_no_say_in_figures(tmp_path):
    for folder in ("rc", "none"):
        (tmp_path / folder).mkdir()
    given = ["font.size: 30", "axes.facecolor: black", "lines.linewidth: 9", "savefig.pad_inches: 3", "svg.fonttype: none"]
    (tmp_path / "rc/matplotlibrc").write_text("\n".join(given), encoding="utf-8")
    for folder in ("rc", "none"):
        done = python("-c", PLOT, tmp_path / folder, env={"MPLCONFIGDIR": str(tmp_path / folder), "MPLBACKEND": "agg"})
        assert done.returncode == 0, done.stderr
    for name in ("plot.png", "plot.svg"):
        assert (tmp_path / "rc" / name).read_bytes() == (tmp_path / "none" / name).read_bytes()


GIVEN = {"dataset": "digits", "backbone": "embedded", "pretrained": None, "revision": None, "seed": 0, "store": "runs/store"}
GIVEN |= {
    "llm": "fieldguide",
    "ledger": "runs/ledger",
    "mode": "record",
    "max_calls": None,
    "iterations": None,
    "smoke": True,
    "out": "runs/x",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [("revision", 1234567), ("llm", 5), ("dataset", 2024), ("pretrained", True), ("out", 1e5), ("backbone", float("inf"))],
)
def test_a_number_for_a_text_is_refused_with_the_mend(name, value):
    with pytest.raises(ValueError) as caught:
        RunParameters.read({**GIVEN, name: value})
    assert str(caught.value) == f"{name} is a text, and -p made {value!r} of it; -r {name} TEXT leaves it as it is"


def test_other_faults_are_told_as_before():
    with pytest.raises(ValueError, match="iterations\n  Input should be greater"):
        Settings.read({"iterations": 0})


def papermill(tmp_path, *words):
    return python("-m", "papermill", ROOT / "notebooks/attributes.ipynb", tmp_path / "out.ipynb", "-p", "smoke", "True", *words, env={})


@pytest.mark.slow
def test_papermill_tells_how_a_text_is_given(tmp_path):
    done = papermill(tmp_path, "-p", "revision", "1234567")
    assert "ValueError: revision is a text, and -p made 1234567 of it; -r revision TEXT leaves it as it is" in done.stderr


def test_what_cannot_be_written_is_told_with_the_parameter_that_moves_it(tmp_path, monkeypatch):
    """As in a read-only checkout; whoever is root may write everywhere, so the system's word is put in its mouth."""
    closed, real = tmp_path / "checkout", os.access
    closed.mkdir()
    monkeypatch.setattr("os.access", lambda path, mode, **more: str(closed) not in str(path) and real(path, mode, **more))
    monkeypatch.setattr("gta.studies.parameters.ROOT", closed)
    for name in ("store", "ledger", "out"):
        free = {other: str(tmp_path / other) for other in ("store", "ledger", "out") if other != name}
        message = f"{name} 'runs/x': nothing can be written in {closed}; -p {name} FOLDER names another"
        with pytest.raises(ValueError) as caught:
            RunParameters(**{**GIVEN, **free, name: "runs/x"})
        assert message in str(caught.value)
    moved = {name: str(tmp_path / name) for name in ("store", "out")}
    assert RunParameters(**{**GIVEN, **moved, "mode": "replay"}), "a ledger that is only read may be closed"
    with pytest.raises(ValueError, match="nothing can be written"):
        RunParameters(**{**GIVEN, **moved})
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"store .*: nothing can be written in .*/file; -p store FOLDER names another"):
        RunParameters(**{**GIVEN, **moved, "ledger": str(tmp_path), "store": str(tmp_path / "file/store")})


def test_a_closed_folder_for_labels_is_told_before_anything_is_read(photos, monkeypatch, capsys):
    """The system's word is put in its mouth here too."""
    (photos / "closed").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: "closed" not in str(path))
    words = ["label", photos / "übung", "--classes", photos / "classes.txt", "--encoder", "embedded", "--out", photos / "closed/out"]
    assert main([str(word) for word in words]) == 1
    said = f"out '{photos}/closed/out': nothing can be written in {photos}/closed; name another folder"
    assert capsys.readouterr().err.strip() == said


def test_notebooks_keep_characters_in_every_locale(tmp_path):
    """papermill, nbformat and the kernel beside our own code, as the batch starts them."""
    said = tmp_path / "said.txt"
    code = f"word = 'Möwe'\nopen({str(said)!r}, 'w').write(word)\nprint(word)"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)], metadata=kernel), tmp_path / "a.ipynb")
    done = python(
        "-c", f"from gta.batch.kernels import execute; execute({str(tmp_path / 'a.ipynb')!r}, {str(tmp_path / 'b.ipynb')!r}, {{}})"
    )
    assert done.returncode == 0, done.stderr
    (cell,) = [cell for cell in json.loads((tmp_path / "b.ipynb").read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cell["outputs"][0]["text"] == ["Möwe\n"] and said.read_text(encoding="utf-8") == "Möwe"
