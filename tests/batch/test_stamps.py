import json

import pytest

from gta import hashes
from gta.batch import stamps
from gta.batch.stamps import Step
from gta.files import ROOT, write_atomically


@pytest.fixture
def step(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "SOURCES", tmp_path)
    for name, text in {
        "gta/a.py": "import gta.b\nSTYLE = 'a.mplstyle'",
        "gta/a.mplstyle": "axes.grid: True",
        "gta/b.py": "x = 1",
        "gta/c.py": "x = 2",
        "run.py": "from gta import a",
        "in.txt": "1",
    }.items():
        write_atomically(tmp_path / name, text)
    write_atomically(tmp_path / "out.csv", "row\n")
    made = Step(tmp_path / "stamp.json", tmp_path / "run.py", (tmp_path / "out.csv",), (tmp_path / "in.txt",), {"seed": 0})
    made.finish()
    return made


def test_a_true_claim_stands(step):
    assert step.refresh() is None and step.marker.exists()


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("gta/b.py", "x = 3", "source_hash"),
        ("run.py", "from gta import a, b", "source_hash"),
        ("gta/a.mplstyle", "axes.grid: False", "source_hash"),
        ("in.txt", "2", "inputs"),
        ("out.csv", "", "outputs"),
        ("stamp.json", "{", "stamp"),
    ],
)
def test_a_change_takes_the_marker_and_nothing_else_and_undone_gives_it_back(step, tmp_path, file, text, reason):
    before = (tmp_path / file).read_text(encoding="utf-8")
    write_atomically(tmp_path / file, text)
    assert reason in step.refresh()
    assert not step.marker.exists() and (tmp_path / "out.csv").exists()
    write_atomically(tmp_path / file, before)
    assert step.refresh() is None and step.marker.exists()


def test_a_module_that_is_not_imported_and_a_new_date_change_nothing(step, tmp_path):
    write_atomically(tmp_path / "gta/c.py", "x = 99")
    (tmp_path / "out.csv").touch()
    assert step.refresh() is None


@pytest.mark.parametrize(("file", "key"), [("gta/b.py", "source_hash"), ("in.txt", "inputs")])
def test_what_was_edited_while_a_step_was_made_is_not_said_to_have_made_it(step, tmp_path, file, key):
    before, begun = step.stamp.read_text(encoding="utf-8"), step.begin()
    write_atomically(tmp_path / file, "x = 4")
    with pytest.raises(ValueError, match=f"{key} changed while"):
        step.finish(begun)
    assert step.stamp.read_text(encoding="utf-8") == before


def test_a_step_that_is_made_while_others_look_keeps_its_marker(step, tmp_path):
    look = hashes.Hashes()
    assert step.refresh(look) is None
    write_atomically(tmp_path / "in.txt", "2")
    step.finish()  # by a batch that goes on meanwhile
    assert step.refresh(look) is None and step.marker.exists()


def test_a_missing_output_and_other_parameters_take_the_marker(step, tmp_path):
    other = Step(step.stamp, step.entry, step.outputs, step.inputs, {"seed": 1})
    assert other.refresh() == "parameters changed"
    (tmp_path / "out.csv").unlink()
    assert "out.csv is missing" in step.refresh()


def test_the_sources_of_a_notebook_are_what_it_reaches():
    names = {file.relative_to(ROOT).as_posix() for file in hashes.sources(ROOT / "notebooks/zero_shot.ipynb")}
    assert {"gta/transduct/solver.py", "gta/affinity.py", "gta/adapt.py", "gta/worlds/fieldguide.py", "notebooks/zero_shot.ipynb"} <= names
    assert not any(name.startswith(("gta/workshop/", "gta/batch/", "gta/charts/")) for name in names)


def test_what_is_not_complete_is_not_published(step, tmp_path):
    index = [{"paper": "Table 1, zero-shot", "csv": "out.csv"}]
    stamps.publish([(step, step.outputs)], tmp_path, tmp_path / "results", index)
    assert (tmp_path / "results/out.csv").read_text(encoding="utf-8") == "row\n"
    assert json.loads((tmp_path / "results/provenance.json").read_text(encoding="utf-8"))["out.csv"]["parameters"] == {"seed": 0}
    assert (tmp_path / "results/index.csv").read_text(encoding="utf-8") == 'paper,csv\n"Table 1, zero-shot",out.csv\n'
    step.stamp.unlink()
    with pytest.raises(ValueError, match="not complete"):
        stamps.publish([(step, step.outputs)], tmp_path, tmp_path / "elsewhere", index)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "a", "old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "a", 3)
    assert [(f.name, f.read_text(encoding="utf-8")) for f in tmp_path.iterdir()] == [("a", "old")]
