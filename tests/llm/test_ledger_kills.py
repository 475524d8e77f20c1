"""kill -9 at random moments: what was paid for is used, and the bank is that of a run that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from endpoint import chat, endpoint, error, reply
from gta.files import ROOT
from gta.llm.ledger import Ledger

QUESTIONS, CONCURRENT = 200, 8


def behave(number, request, _):
    """A fixed answer to each question, one in ten useless: given up after four tries. It takes a moment, and sometimes fails."""
    text = request["messages"][0]["content"].partition("\n")[0]
    chance = random.Random(text)
    if random.random() < 0.03:
        return error(500)
    content = "no list" if chance.random() < 0.1 else json.dumps({"attributes": [f"mark {chance.randrange(10**6)}", "a tail"]})
    return reply(body=chat(content), hang=0.002 + 0.01 * random.random())


def start(url, folder):
    command = [sys.executable, str(ROOT / "tests/killed_run.py"), url, str(folder / "ledger"), str(folder / "bank.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "sk-kill-test-secret"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")


def finish(url, folder):
    process = start(url, folder)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return (folder / "bank.json").read_bytes()


def kill_then_rerun(url, seen, folder, chance, undisturbed):
    begin = len(seen)
    process, moment = start(url, folder), chance.randrange(1, 240)
    while len(seen) - begin < moment and process.poll() is None:
        threading.Event().wait(0.001)
    threading.Event().wait(0.01 * chance.random())
    was_killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {entry["about"]: len(entry["attempts"]) for entry in Ledger(folder / "ledger")}  # each one whole
    asked = Counter(request["messages"][0]["content"] for request in seen.requests[begin:])
    second = len(seen)
    assert finish(url, folder) == undisturbed
    again = Counter(request["messages"][0]["content"] for request in seen.requests[second:])
    final = {entry["about"]: entry for entry in Ledger(folder / "ledger")}
    assert len(final) == QUESTIONS
    # Every answered request that the ledger holds is paid for once; only those in flight at the kill are asked again.
    assert not [about for about, attempts in before.items() if len(final[about]["attempts"]) < attempts]
    answered = [text for text, _ in (asked & again).items() if "could not be used" not in text]
    assert len(answered) <= CONCURRENT
    return was_killed


def check(tmp_path, kills):
    chance = random.Random(0)
    with endpoint(behave) as (url, seen):
        undisturbed = finish(url, tmp_path / "whole")
        killed = [kill_then_rerun(url, seen, tmp_path / str(i), chance, undisturbed) for i in range(kills)]
    assert sum(killed) >= 0.8 * kills  # the others had ended before
    written = "".join(file.read_text(encoding="utf-8") for file in tmp_path.rglob("*") if file.is_file())
    assert "sk-kill-test-secret" not in written


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    check(tmp_path, kills=2)


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    check(tmp_path, kills=50)
