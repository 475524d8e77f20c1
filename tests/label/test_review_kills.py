"""kill -9 while a review learns: every file is the old or the new one, no answer is lost or doubled, and the next call finishes."""

import multiprocessing
import shutil
import signal

import pytest
from PIL import Image

from gta.label.answers import read
from gta.worlds.glyphs import DIGITS
from killed_review import work
from labelling import command, label, rows

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["gta.loop", "gta.label.review"])
RESULTS = ("predictions.csv", "left_out.csv", "issues.csv", "issue_summary.csv", "attributes.json")  # the page says how long it took


@pytest.fixture(scope="module")
def asked(tmp_path_factory, glyphs):
    """A labelled folder `out` of 20 glyphs, with a round of 6 that is filled in `round.csv` beside it, and a copy of it in `as_it_was`."""
    home = tmp_path_factory.mktemp("asked")
    (home / "images").mkdir()
    for i, image in enumerate(glyphs[0][:20]):
        Image.fromarray(image).save(home / f"images/{i:02d}.png")
    (home / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    assert label(home, "--device", "cpu") == 0
    assert command("review", home / "out", "--reviewer", "ann", "--images", 6, "--file") == 0
    said = {row["path"]: DIGITS[int(row["path"][:2]) % 10] for row in rows(home / "out/round.csv")}
    (home / "round.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in said.items()), encoding="utf-8")
    shutil.copytree(home / "out", home / "as_it_was")
    return home, said


def run(home, at=None):
    """The exit code, and the events."""
    (home / "events").write_text("", encoding="utf-8")
    process = PROCESSES.Process(target=work, args=(home, at))
    process.start()
    process.join(120)
    return process.exitcode, (home / "events").read_text(encoding="utf-8").splitlines()


def results(home):
    return {name: (home / "out" / name).read_bytes() for name in RESULTS}


def as_it_was(home):
    shutil.rmtree(home / "out")
    shutil.copytree(home / "as_it_was", home / "out")


def kill_at(home, said, moments):
    """Kill at each of the events for which `moments` of all events asks. Returns what the events were."""
    as_it_was(home)
    old = results(home)
    code, events = run(home)
    assert code == 0
    new, seen = results(home), []
    for at in moments(events):
        as_it_was(home)
        code, so_far = run(home, at)
        assert code == -signal.SIGKILL and len(so_far) == at
        there = results(home)
        assert all(there[name] in (old[name], new[name]) for name in RESULTS)
        assert there["predictions.csv"] == new["predictions.csv"] or there == old, "labels first: nothing is newer than they are"
        assert (home / "out/report.html").read_text(encoding="utf-8").endswith("</html>")
        assert {answer.path: answer.label for answer in read(home / "out/reviews.csv")} in ({}, said)
        assert run(home)[0] == 0
        assert results(home) == new
        assert {(answer.path, answer.label) for answer in read(home / "out/reviews.csv")} == set(said.items())
        assert len(read(home / "out/reviews.csv")) == len(said)
        assert not list((home / "out/state").glob("round-*")) and len(list((home / "out/state/review").iterdir())) == 1
        seen.append(so_far[-1])
    return seen


def test_a_kill_between_two_results_leaves_whole_files_and_the_next_call_finishes(asked):
    seen = kill_at(*asked, lambda events: [events.index("after write predictions.csv") + 1])
    assert seen == ["after write predictions.csv"]


@pytest.mark.slow
def test_kills_at_every_moment_of_learning(asked):
    seen = kill_at(*asked, lambda events: range(1, len(events) + 1))
    kinds, written = {line.split()[1] for line in seen}, {line.split()[2] for line in seen if " write " in line}
    assert kinds == {"answers", "stage", "write", "forget", "done"} and written == {*RESULTS, "report.html"}
    assert seen.count("after stage") == 5, "encode, transduct, generate, transduct again, adapt"
