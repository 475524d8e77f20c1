"""What `doctor` finds on a machine, and the command that it gives for what is missing."""

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gta import doctor
from gta.__main__ import main
from gta.data import manifests
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


@pytest.fixture
def endpoint(monkeypatch):
    """A server that lists one model, to whoever brings the key."""

    class Models(BaseHTTPRequestHandler):
        def do_GET(self):
            good = self.path == "/v1/models" and self.headers["Authorization"] == f"Bearer {KEY}"
            self.send_response(200 if good else 401)
            self.end_headers()
            self.wfile.write(b'{"object": "list", "data": [{"id": "llama3.1", "object": "model"}]}')

        def log_message(self, *_):
            pass

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = HTTPServer(("127.0.0.1", 0), Models)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_asked_for_its_models_and_the_key_is_shown_to_nobody(bare, endpoint, monkeypatch):
    assert by_name(doctor.examine(bare, f"llama3.1@{endpoint}"))["language model"].ready
    other = by_name(doctor.examine(bare, f"gpt@{endpoint}"))["language model"]
    assert not other.ready and "does not list 'gpt'" in other.found
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "x")
    refused = doctor.examine(bare, f"llama3.1@{endpoint}")
    assert "401" in by_name(refused)["language model"].found and KEY not in doctor.table(refused)
    for bad in ("llama3.1", "llama3.1@http://127.0.0.1:1/v1", "llama3.1@nonsense"):
        check = by_name(doctor.examine(bare, bad))["language model"]
        assert not check.ready and check.mend
