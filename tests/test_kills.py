"""kill -9 at random moments of a run: what follows is what would have been, and nothing that was finished is done again."""

import multiprocessing
import random
import time

import pytest
import torch

from gta.checkpoints import Checkpoints
from gta.llm.ledger import Ledger
from killed_loop import work

# Forks of one process that has torch and what `killed_loop` needs: a start costs no import. It does not see the folder of the tests.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["gta.loop", "gta.scores.results", "gta.worlds.fieldguide"])


def finish(folder):
    folder.mkdir(exist_ok=True)
    (folder / "calls").touch()
    process = PROCESSES.Process(target=work, args=(folder,))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return (folder / "out.json").read_text(encoding="utf-8"), (folder / "calls").read_text(encoding="utf-8").splitlines()


def kill(folder, event, delay):
    """Kill a run `delay` seconds after its call number `event`; returns the stage it died in, None where it had ended before."""
    folder.mkdir()
    process = PROCESSES.Process(target=work, args=(folder,))
    process.start()
    while process.is_alive() and (
        not (folder / "calls").exists() or len((folder / "calls").read_text(encoding="utf-8").splitlines()) < event
    ):
        time.sleep(0.002)
    time.sleep(delay)
    alive = process.is_alive()
    process.kill()
    process.join()
    calls = (folder / "calls").read_text(encoding="utf-8").splitlines()
    (folder / "calls").unlink()
    return calls[-1].split(" ", 2)[2] if alive else None


def unfinished(calls, folder):
    """Of an undisturbed run's calls, those of stages that no whole checkpoint holds."""
    found = [state for run in (folder / "state").glob("*") if (state := Checkpoints(run).latest(torch.device("cpu")))]
    if not found:
        return calls
    facts, done = found[0].facts, set()
    for line in calls:
        _, iteration, stage = line.split(" ", 2)
        if int(iteration) < facts["iteration"] or (int(iteration) == facts["iteration"] and (stage in facts["done"] or facts["finished"])):
            done.add((iteration, stage))
    return [line for line in calls if tuple(line.split(" ", 2)[1:]) not in done]


def check(tmp_path, kills):
    chance = random.Random(0)
    whole, calls = finish(tmp_path / "whole")
    stages = set()
    for number in range(kills):
        folder = tmp_path / str(number)
        stages.add(kill(folder, 1 + (len(calls) - 1) * number // kills, 0.3 * chance.random() ** 2))
        expected, asked = unfinished(calls, folder), attempts(folder)
        again, calls_again = finish(folder)
        assert again == whole
        assert calls_again == expected
        assert int((folder / "calls.llm").read_text(encoding="utf-8")) == attempts(folder) - asked  # no answer is paid for twice
    return stages


def attempts(folder):
    return sum(len(entry["attempts"]) for entry in Ledger(folder / "ledger"))


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    check(tmp_path, kills=2)


@pytest.mark.slow
def test_thirty_kills(tmp_path):
    assert {"encode", "transduct", "generate", "transduct again", "adapt"} <= check(tmp_path, kills=30)
