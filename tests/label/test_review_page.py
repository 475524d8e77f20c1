"""The page of a review: who may reach it, and that a browser answers by keys, keeps all of it, and runs nothing that a name says."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from driven import Chromium
from gta.files import ROOT
from gta.label import server
from gta.label.answers import NONE, UNSURE, read
from gta.label.review import Review
from gta.label.server import Server, Sitting
from reviewed import HOSTILE_CLASSES, HOSTILE_FILES, labelled

MANY = [*(f"species {i:02d}" for i in range(30)), "grey heron", "great grey shrike"]


@contextmanager
def serving(review, items):
    with Server(Sitting(review, items)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def request(running, path, method="GET", body=None, token=None, **headers):
    connection = HTTPConnection("127.0.0.1", running.server_port, timeout=20)
    host = f"127.0.0.1:{running.server_port}"
    sent = {"Host": host, **({"Origin": f"http://{host}", "Content-Type": "application/json"} if method == "POST" else {})}
    sent = {name: value for name, value in {**sent, **{k.replace("_", "-"): v for k, v in headers.items()}}.items() if value is not None}
    connection.request(method, f"/{running.token if token is None else token}/{path}", body, sent)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def post(running, path, **body):
    return json.loads(request(running, path, "POST", json.dumps(body))[2])


def test_only_the_page_itself_can_answer(tmp_path):
    ann = labelled(tmp_path)
    with serving(ann, ann.round("uncertain", 4)) as running:
        port, body = running.server_port, json.dumps({"image": 0, "label": 0})
        assert running.server_address[0] == "127.0.0.1" and len(running.token) >= 32
        refused = [
            request(running, "", token="x" * len(running.token)),
            request(running, "round", token=""),
            request(running, "round", Host=f"evil.example:{port}"),  # another name that was pointed at this machine
            request(running, "round", Host=""),
            request(running, "answer", "POST", body, Origin="http://evil.example"),
            request(running, "answer", "POST", body, Origin="null"),
            request(running, "answer", "POST", body, Origin=None),
            request(running, "answer", "POST", body, Content_Type="text/plain"),  # what a form of another site can send
        ]
        assert [status for status, _, _ in refused] == [403] * len(refused)
        assert all(running.token.encode() not in said for _, _, said in refused)
        assert request(running, "answer", "POST", " " * 20_000)[0] == 413
        assert [
            request(running, "answer", "POST", bad)[0]
            for bad in ("{", "[]", "{}", '{"image": 99, "label": 0}', '{"image": -1, "label": 0}')
        ] == [400] * 5
        assert request(running, "../../predictions.csv")[0] == request(running, "image/99")[0] == request(running, "review.py")[0] == 404
        assert read(ann.file) == []
        forwarded = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}  # by ssh, to another port
        assert request(running, "answer", "POST", body, **forwarded)[0] == 200 and len(read(ann.file)) == 1


def test_the_page_may_load_nothing_from_elsewhere(tmp_path):
    ann = labelled(tmp_path)
    with serving(ann, ann.round("uncertain", 4)) as running:
        for path in ("", "review.js", "review.css", "round", "image/0"):
            status, headers, body = request(running, path)
            assert status == 200 and body and headers["Content-Security-Policy"].startswith("default-src 'none'; ")
            assert "unsafe" not in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
        page, script = (request(running, path)[2].decode() for path in ("", "review.js"))
    assert not re.search(r"\son\w+=|https?:|<script>|style=", page)
    assert not re.search(r"https?:|innerHTML|insertAdjacent|document\.write|\beval\b", script)


def test_an_answer_is_on_the_disk_before_the_page_hears_of_it(tmp_path):
    ann = labelled(tmp_path)
    items = ann.round("uncertain", 4)
    with serving(ann, items) as running:
        classes = len(HOSTILE_CLASSES)
        assert post(running, "answer", image=0, label=2) == {"answers": [2, None, None, None], "changes": 1, "last": 0}
        assert post(running, "answer", image=0, label=2)["changes"] == 1  # the same again, as of a second tab
        post(running, "answer", image=1, label=classes)
        post(running, "answer", image=0, label=classes + 1)
        said = [(items[0].path, HOSTILE_CLASSES[2]), (items[1].path, NONE), (items[0].path, UNSURE)]
        assert [(answer.path, answer.label) for answer in read(ann.file)] == said
        assert post(running, "undo", changes=3)["answers"] == [2, classes, None, None]
        assert post(running, "undo", changes=3)["answers"] == [2, classes, None, None]  # the same request again takes nothing back
        assert post(running, "undo", changes=2)["answers"] == [2, None, None, None]
        assert [(answer.path, answer.label) for answer in read(ann.file)][3:] == [(items[0].path, HOSTILE_CLASSES[2]), (items[1].path, "")]
    assert Review(tmp_path / "out", "ann").mine == {items[0].path: HOSTILE_CLASSES[2]}
    again = Sitting(Review(tmp_path / "out", "ann"), items)
    assert again.state() == {"answers": [2, None, None, None], "changes": 1, "last": 0}


def test_what_cannot_be_written_is_told_to_the_page_and_is_no_answer(tmp_path, monkeypatch):
    ann = labelled(tmp_path)
    items = ann.round("uncertain", 2)

    def full(*_):
        raise OSError(28, "No space left on device")

    with serving(ann, items) as running:
        monkeypatch.setattr("gta.label.review.answers.append", full)
        status, _, said = request(running, "answer", "POST", json.dumps({"image": 0, "label": 0}))
        assert status == 507 and b"No space left" in said
        assert json.loads(request(running, "state")[2]) == {"answers": [None, None], "changes": 0, "last": None}


def test_a_picture_that_is_gone_is_no_error_of_the_server(tmp_path):
    ann = labelled(tmp_path)
    items = ann.round("uncertain", 3)
    ann.path_of[items[0].path].unlink()
    ann.path_of[items[1].path].write_bytes(b"GIF89a")
    with serving(ann, items) as running:
        assert [request(running, f"image/{i}")[0] for i in range(3)] == [404, 404, 200]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


def answered(tab):
    return tab.value("[...round.answers]")


def ready(tab):
    tab.wait("!document.getElementById('round').hidden && document.getElementById('picture').complete")
    return tab


@pytest.mark.slow
def test_in_a_browser_a_round_is_answered_by_keys_and_taken_back(tmp_path, chromium):
    ann = labelled(tmp_path, classes=["zero", "one", "two"])
    items = ann.round("uncertain", 5)
    with serving(ann, items) as running:
        tab = ready(chromium.open(running.url))
        tab.press("3", "Enter", "n", "x")  # pressed faster than answers come back: each means the image that is seen
        first = ["zero", "one", "two"].index(items[1].proposal)
        tab.wait("round.answers.filter(a => a !== null).length === 4")
        assert answered(tab) == [2, first, 3, 4, None]
        tab.press("u", "u")
        tab.wait("round.changes === 2")
        assert answered(tab) == [2, first, None, None, None] and tab.value("current") == 2
        tab.press("s", "ArrowRight", "ArrowLeft", "1")
        tab.wait("round.answers[3] === 0")
        tab.press("1", "1")  # the last one, then the skipped one comes again
        tab.wait("round.answers.every(a => a !== null)")
        assert "4 of 5" not in tab.value("document.title") and "Enter finishes" in tab.value("document.body.innerText")
        tab.press("Enter")
        tab.wait("!document.getElementById('end').hidden")
        assert running.finished.is_set() and tab.console() == []
        assert all(url.startswith(running.url) or url.startswith("data:") for url in tab.requested())
    assert ann.mine == {item.path: label for item, label in zip(items, ["two", items[1].proposal, "zero", "zero", "zero"], strict=True)}


@pytest.mark.slow
def test_in_a_browser_a_reload_and_a_second_tab_see_one_state(tmp_path, chromium):
    ann = labelled(tmp_path, classes=["zero", "one", "two"])
    items = ann.round("uncertain", 4)
    with serving(ann, items) as running:
        one = ready(chromium.open(running.url))
        one.press("1", "2")
        one.wait("round.changes === 2")
        one.reload()
        ready(one)
        assert answered(one) == [0, 1, None, None] and one.value("current") == 2
        two = ready(chromium.open(running.url))
        two.press("3")
        two.wait("round.changes === 3")
        one.value("window.dispatchEvent(new Event('focus'))")
        one.wait("round.changes === 3")
        assert answered(one) == [0, 1, 2, None] and len(read(ann.file)) == 3
        one.press("u")
        one.wait("round.changes === 2")
        two.value("window.dispatchEvent(new Event('focus'))")
        two.wait("round.changes === 2")
        assert answered(two) == [0, 1, None, None]
    assert [answer.label for answer in read(ann.file)] == ["zero", "one", "two", ""]


@pytest.mark.slow
def test_in_a_browser_hostile_names_stay_text(tmp_path, chromium):
    ann = labelled(tmp_path, images=6)
    items = ann.round("uncertain", 6)
    assert {item.path for item in items} == set(HOSTILE_FILES)
    with serving(ann, items) as running:
        tab = ready(chromium.open(running.url))
        for i, item in enumerate(items):
            tab.wait(f"current === {i} && document.getElementById('picture').complete")
            assert tab.value("document.getElementById('picture').naturalWidth") == 40
            assert tab.value("document.getElementById('name').textContent") == server.shown(item.path)
            assert server.shown(item.path) in tab.value("document.getElementById('picture').alt")
            tab.press("Enter")
        tab.wait("round.answers.every(a => a !== null)")
        text = tab.value("document.getElementById('classes').textContent")
        assert all(server.shown(name) in text for name in HOSTILE_CLASSES) and "\u202e" not in tab.value(
            "document.documentElement.outerHTML"
        )
        assert tab.value("document.querySelectorAll('script').length") == 1 and tab.value("document.images.length") == 1
        assert tab.console() == []
    assert ann.mine == {item.path: item.proposal for item in items}


@pytest.mark.slow
def test_in_a_browser_one_of_many_classes_is_found_by_typing(tmp_path, chromium):
    ann = labelled(tmp_path, classes=MANY)
    with serving(ann, ann.round("uncertain", 3)) as running:
        tab = ready(chromium.open(running.url))
        tab.press("/", *"grey", "Enter")  # what begins so comes before what holds it; letters are no commands here
        tab.wait("round.changes === 1")
        tab.press("/", *"shri", "Enter", "/", *"nn", "Escape", "Enter")
        tab.wait("round.changes === 3")
        proposed = tab.value("round.images[2].proposal")
        assert answered(tab) == [MANY.index("grey heron"), MANY.index("great grey shrike"), proposed]
        assert tab.console() == []


@pytest.mark.slow
def test_in_a_browser_a_wrong_token_shows_nothing(tmp_path, chromium):
    ann = labelled(tmp_path)
    with serving(ann, ann.round("uncertain", 3)) as running:
        tab = chromium.open(running.url.replace(running.token, "guess"))
        assert tab.value("document.body.innerText") == "open the whole address that the command printed last"


@pytest.mark.slow
def test_in_a_browser_a_kill_loses_no_answer_and_doubles_none(tmp_path, chromium):
    ann = labelled(tmp_path, classes=["zero", "one", "two"])
    words = [sys.executable, "-m", "gta", "review", str(tmp_path / "out"), "--reviewer", "ann", "--images", "6"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start():
        process = subprocess.Popen(words, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
        return process, re.search(r"http://\S+", process.stdout.readline())[0]

    process, url = start()
    tab = ready(chromium.open(url))
    tab.press("1", "2", "3", "u")
    tab.until(lambda: len(read(ann.file)) == 4)
    tab.wait("round.changes === 2")
    process.send_signal(signal.SIGKILL)
    process.wait()
    tab.press("2")
    tab.wait("!document.getElementById('alert').hidden")
    assert "Start it again" in tab.value("document.getElementById('alert').innerText") and answered(tab)[:3] == [0, 1, None]
    process, url = start()
    tab = ready(chromium.open(url))
    assert answered(tab) == [0, 1, None, None, None, None] and tab.value("current") == 2
    tab.press("u")
    tab.wait("round.changes === 1")
    process.kill()
    process.wait()
    assert [answer.label for answer in read(ann.file)] == ["zero", "one", "two", "", ""]
