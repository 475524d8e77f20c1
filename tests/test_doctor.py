"""What `doctor` finds on a machine, and the command that it gives for what is missing."""

import re

import pytest

from endpoint import chat, endpoint, error, reply
from gta import doctor
from gta.__main__ import main
from gta.data import manifests
from gta.llm.chat import Question
from published import put_copy

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def bare(cut, tmp_path, monkeypatch):
    """A machine without GPU and with an empty cache of the Hub."""
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "try_to_load_from_cache", lambda repository, file: None)
    return cut


def by_name(checks):
    return {check.what: check for check in checks}


def test_a_bare_machine_is_told_a_command_for_everything(bare):
    checks = by_name(doctor.examine(bare))
    assert set(manifests.names()) | {"GPU", "disk", "language model", "ViT-B/32", "ViT-B/16", "ViT-L/14"} == set(checks)
    for name in manifests.names():
        assert not checks[name].ready and checks[name].mend == f"python -m gta data fetch {name} --root {bare}"
    assert checks["ViT-B/32"].mend.startswith("""python -c "from gta import encoders; encoders.load('ViT-B/32')\"""")
    assert not checks["GPU"].ready and checks["disk"].ready


def test_what_is_there_is_ready_and_what_is_wrong_is_named(bare, monkeypatch, capsys):
    put_copy("eurosat", bare)
    (put_copy("dtd", bare) / "images/banded/banded_0060.jpg").unlink()
    monkeypatch.setattr(doctor, "try_to_load_from_cache", lambda repository, file: "here" if "patch32" in repository else None)
    assert main(["doctor", "--root", str(bare)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"ready +eurosat +train 3, val 2, test 3 in \S+ \(not locked", said)
    assert re.search(r"missing +dtd +test: missing: banded/banded_0060\.jpg\n +python -m gta data verify dtd --root", said)
    assert re.search(r"ready +ViT-B/32 +here", said) and re.search(r"missing +ViT-B/16", said)


ZEBRA = Question("", "zebra").about


def test_an_endpoint_is_asked_a_real_question_with_a_schema(bare, monkeypatch):
    """As a run asks it, and the key is shown to nobody."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with endpoint(lambda _, request, headers: reply() if headers["Authorization"] == f"Bearer {KEY}" else error(401)) as (url, seen):
        found = by_name(doctor.examine(bare, f"llama3.1@{url}"))["language model"]
        assert found.ready and found.found == f"llama3.1 at {url} says of a zebra 'a long tail', and 1 more"
        assert "zebra" in seen.text(0) and seen.requests[0]["response_format"]["json_schema"]["strict"]
        monkeypatch.setenv("OPENAI_API_KEY", KEY + "x")
        refused = doctor.examine(bare, f"llama3.1@{url}")
        told = f"{ZEBRA}: POST {url}/chat/completions answered 401: no; the key of OPENAI_API_KEY was sent: set the one of this endpoint"
        assert by_name(refused)["language model"].found == told and KEY not in doctor.table(refused)


def test_what_is_wrong_with_an_endpoint_is_told(bare):
    def language_model(llm):
        return by_name(doctor.examine(bare, llm))["language model"]

    for bad in ("llama3.1", "llama3.1@http://127.0.0.1:1/v1", "llama3.1@nonsense", "m@http://127.0.0.1:1/v1?key=hunter2"):
        check = language_model(bad)
        assert not check.ready and check.mend and "hunter2" not in f"{check}"
    with endpoint([error(503, message="Loading model")]) as (url, _):
        assert "answered 503: Loading model" in language_model(f"m@{url}").found
    with endpoint([reply(body=chat("I am a poet. I do not list. I sing."))]) as (url, _):
        check = language_model(f"m@{url}")
        assert check.found == f"m at {url} answers, but not with a list: prose instead of a list"
        assert check.mend == f"name another model; then ask again: python -m gta doctor --llm m@{url}"
    with endpoint(lambda _, request, __: error(400, message="unknown: temperature") if "temperature" in request else reply()) as (url, _):
        assert language_model(f"m@{url}").found.endswith("1 more; it refuses temperature=0.0, which is left out")
