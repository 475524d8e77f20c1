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
    assert set(manifests.names()) | {"GPU", "disk", "memory", "of today", "language model", "ViT-B/32", "ViT-B/16", "ViT-L/14"} == set(
        checks
    )
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
    assert "no encoder of today" in said and "docs/encoders.md" in said
    assert re.search(r"ready +ViT-B/32 +here", said) and re.search(r"missing +ViT-B/16", said)


def test_memory_says_which_encoders_fit(bare, monkeypatch, tmp_path):
    """By hand, for ViT-B/32: 151.3 million parameters of 4 bytes, twice for labels, six times and 32 times 87 MB for adapt."""
    (small,) = [encoder for encoder in manifests.encoders() if encoder.name == "ViT-B/32"]
    assert doctor.needed(small, adapt=False) / 1e9 == pytest.approx(1.1 + 2 * 0.605, abs=0.01)
    assert doctor.needed(small, adapt=True) / 1e9 == pytest.approx(1.1 + 6 * 0.605 + 32 * 0.087, abs=0.01)
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(doctor, "LIMITS", [tmp_path / "none", limit])

    def memory(allowed):
        limit.write_text(f"{allowed}\n", encoding="ascii")
        return by_name(doctor.examine(bare))["memory"]

    some = memory(8 * 10**9)
    assert some.ready and some.found == "8.0 GB in this machine; enough to adapt ViT-B/32"
    assert some.mend.startswith("for labels without adapt (--iterations 1) also MobileCLIP2-S0, ") and "PE-Core-L/14-336" in some.mend
    labels, large = memory(5 * 10**9).mend.split("; ")
    assert "ViT-B/32, " in labels and large == "too small for PE-Core-L/14-336"
    none = memory(10**9)
    assert not none.ready and none.found.endswith("enough to adapt no encoder") and none.mend.startswith("too small for ViT-B/32, ")
    assert set(none.mend.removeprefix("too small for ").split(", ")) > {of.name for of in manifests.encoders("today")}
    assert float(memory("max").found.split()[0]) > 1  # no limit: what the machine has


def test_memory_is_that_of_the_gpu_where_there_is_one(bare, monkeypatch):
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor.torch.cuda, "mem_get_info", lambda: (1, 80 * 10**9))
    monkeypatch.setattr(doctor.torch.cuda, "get_device_name", lambda: "a GPU")
    check = by_name(doctor.examine(bare))["memory"]
    assert check.found.startswith("80.0 GB on the GPU; enough to adapt ViT-B/32, ") and not check.mend


def test_an_encoder_of_today_is_told_apart_from_another_file_of_its_name(bare, monkeypatch, tmp_path):
    """The cache of the Hub keeps a file under the hash of its content, and links to it."""
    (known,) = [encoder for encoder in manifests.encoders("today") if encoder.name == "SigLIP2-B/16"]

    def cache(content):
        (tmp_path / content).write_bytes(b"")
        (link := tmp_path / known.files[0]).unlink(missing_ok=True)
        link.symlink_to(tmp_path / content)
        monkeypatch.setattr(doctor, "try_to_load_from_cache", lambda hub, file: str(link) if hub == known.hub else None)
        return by_name(doctor.examine(bare))["of today"]

    assert cache(known.sha256[known.files[0]]) == doctor.Check("of today", True, "in the cache: SigLIP2-B/16")
    other = cache("0" * 64)
    assert (
        not other.ready
        and other.mend == f"SigLIP2-B/16 is not the file that its manifest knows; --revision {known.revision} reads that one"
    )


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
