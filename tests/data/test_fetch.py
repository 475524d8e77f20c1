"""Fetching from a server that plays the Hub: cut, flipped, gated, gone, malicious."""

import hashlib
import io
import json
import random
import shutil
import zipfile

import pytest
import yaml
from huggingface_hub import constants, file_download

import hub as fake
from gta.__main__ import main
from gta.data import fetch, lock, manifests, tasks, unpack
from gta.data.verify import verify
from published import LINES, picture, put_copy

REVISION = "ceb3112337fb6e1bf71534e355ca5569b63f19a6"
IN_HUB = f"/someone/data/resolve/{REVISION}/dtd.zip"


def zip_of(folder, **more) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent))
        for name, content in more.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch):
    with fake.serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(file_download.constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 128)  # what is kept of a cut download is whole chunks
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield server


@pytest.fixture
def dtd(hub, cut, tmp_path):
    """DTD with a Hub source and an address, both served, neither fetched yet."""
    content = zip_of(put_copy("dtd", tmp_path / "made"))
    shutil.rmtree(tmp_path / "made")
    hub.files = {IN_HUB: content, "/dtd.zip": content}
    hub_source = {"kind": "hub", "repository": "someone/data", "repository_type": "model", "revision": REVISION}
    change(
        "dtd",
        sources=[
            {**hub_source, "paths": ["dtd.zip"], "evidence": "memory"},
            {"kind": "url", "paths": [f"{hub.url}/dtd.zip"], "evidence": "memory"},
        ],
    )
    return content


def change(name, **fields):
    """Change the cut manifest of a dataset."""
    file = manifests.FOLDER / f"{name}.yaml"
    data = {**yaml.safe_load(file.read_text(encoding="utf-8")), **fields}
    file.unlink()  # a link to the shared one
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


def images(root):
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*.jpg"))}


def whole(root):
    """Every image of the split has the bytes that were packed, and nothing of the download is left."""
    for split in LINES["dtd"].values():
        for path, _, _ in split:
            assert (root / "dtd/images" / path).read_bytes() == picture(path)
    assert not list(root.rglob("*.zip")) and not list(root.glob(".unpack-*"))
    return True


def test_one_command_fetches_verifies_and_locks(dtd, hub, cut, capsys):
    assert main(["data", "fetch", "dtd", "--root", str(cut)]) == 0
    said = capsys.readouterr().out
    size = f"{len(dtd) / 1e6:,.1f} MB to fetch"
    assert size in said and "GB free" in said and REVISION in said and said.rstrip().endswith("ready")
    assert said.index(size) < said.index("locked in") and whole(cut)
    locked = json.loads((manifests.FOLDER / "lock/dtd.json").read_text(encoding="utf-8"))
    assert locked["archives"] == {"dtd.zip": {"sha256": hashlib.sha256(dtd).hexdigest(), "bytes": len(dtd)}}
    assert locked["counts"] == {"train": 6, "val": 3, "test": 6} and REVISION in locked["source"]
    sums = (cut / "dtd/SHA256SUMS").read_bytes()
    assert locked["sums"] == hashlib.sha256(sums).hexdigest()
    assert f"{hashlib.sha256(picture('banded/banded_0060.jpg')).hexdigest()}  banded/banded_0060.jpg\n" in sums.decode()
    gets = len([entry for entry in hub.log if entry[0] == "GET"])
    assert main(["data", "fetch", "dtd", "--root", str(cut)]) == 0
    assert len([entry for entry in hub.log if entry[0] == "GET"]) == gets and "is there already" in capsys.readouterr().out
    assert len(tasks.load("dtd", cut).images) == 6


POINTS = sorted(random.Random(0).sample(range(1, 9_000), 20))


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", ["hub", "url"])
def test_a_download_that_was_cut_ends_in_the_right_bytes(point, kind, dtd, hub, cut):
    """Cut once, and cut for good and begun again by the next command."""
    assert len(dtd) > max(POINTS)
    sources = yaml.safe_load((manifests.FOLDER / "dtd.yaml").read_text(encoding="utf-8"))["sources"]
    change("dtd", sources=[source for source in sources if source["kind"] == kind])
    hub.cuts = [point]
    if kind == "url":
        with pytest.raises(fetch.CannotFetch, match=f"the connection ended at {point:,} of"):
            fetch.fetch("dtd", cut, say=str)
    assert fetch.fetch("dtd", cut, say=str).ready and whole(cut)
    kept = point if kind == "url" else point // 128 * 128
    assert kept == 0 or any(begin == f"bytes={kept}-" for _, _, begin in hub.log)


@pytest.mark.parametrize("kind", ["hub", "url"])
def test_a_server_that_cuts_for_good_leaves_what_the_next_command_goes_on_with(kind, dtd, hub, cut):
    sources = yaml.safe_load((manifests.FOLDER / "dtd.yaml").read_text(encoding="utf-8"))["sources"]
    change("dtd", sources=[source for source in sources if source["kind"] == kind])
    hub.cuts = [500, 0, 0, 0, 0, 0, 0]
    with pytest.raises(fetch.CannotFetch):
        fetch.fetch("dtd", cut, say=str)
    assert not (cut / "dtd").exists()
    hub.cuts, hub.ranges = [], False  # and now the server cannot resume either
    assert fetch.fetch("dtd", cut, say=str).ready and whole(cut)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("at", [0, 1234, 5678, -1])
def test_a_flipped_byte_is_caught_by_name_and_the_next_source_is_tried(at, dtd, hub, cut, capsys):
    at %= len(dtd)
    hub.files[IN_HUB], hub.claimed[IN_HUB] = flipped(dtd, at), dtd
    assert main(["data", "fetch", "dtd", "--root", str(cut)]) == 0
    assert "WrongBytes: dtd.zip has another SHA-256" in capsys.readouterr().out and whole(cut)


def test_an_archive_that_is_not_the_pinned_one_is_refused(dtd, hub, cut):
    sources = yaml.safe_load((manifests.FOLDER / "dtd.yaml").read_text(encoding="utf-8"))["sources"]
    change("dtd", sources=[sources[0] | {"sha256": "0" * 64}, sources[1] | {"md5": "0" * 32}], steps="ask at ROOT")
    with pytest.raises(fetch.CannotFetch) as error:
        fetch.fetch("dtd", cut, say=str)
    for words in ("dtd.zip: the Hub offers", "dtd.zip has another MD5", f"ask at {cut}"):
        assert words in str(error.value)
    assert not (cut / "dtd").exists()


def test_later_fetches_are_held_against_the_lock(dtd, hub, cut, tmp_path):
    assert fetch.fetch("dtd", cut, say=str).ready
    other = zip_of(cut / "dtd", **{"dtd/new.txt": b"new"})
    hub.files[IN_HUB] = other
    with pytest.raises(fetch.WrongBytes, match=r"dtd\.zip is not the file that was fetched first"):
        fetch.fetch("dtd", tmp_path / "elsewhere", say=str)


def test_runs_are_held_against_the_lock(dtd, cut):
    assert fetch.fetch("dtd", cut, say=str).ready
    sums = cut / "dtd/SHA256SUMS"
    sums.write_text(sums.read_text(encoding="utf-8").replace("0", "1", 1), encoding="utf-8")
    with pytest.raises(ValueError, match="SHA256SUMS is not the one that"):
        tasks.load("dtd", cut)
    (manifests.FOLDER / "lock/dtd.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not a lock file"):
        lock.read("dtd")


def test_a_changed_image_of_a_fetched_copy_is_told_by_name(dtd, cut):
    assert fetch.fetch("dtd", cut, say=str).ready
    file = cut / "dtd/images/banded/banded_0060.jpg"
    file.write_bytes(flipped(file.read_bytes(), file.stat().st_size // 2))
    assert ("not the bytes that were fetched", 1, "banded/banded_0060.jpg") in verify("dtd", cut).problems


def test_a_malicious_zip_writes_nothing_outside_of_its_folder(dtd, hub, cut, tmp_path):
    evil = io.BytesIO(dtd)
    with zipfile.ZipFile(evil, "a") as archive:
        archive.writestr("../../evil.jpg", b"evil")
    hub.files[IN_HUB] = evil.getvalue()
    with pytest.raises(unpack.BadArchive, match=r"'\.\./\.\./evil\.jpg' would be written outside"):
        fetch.fetch("dtd", cut, say=str)
    assert not list(tmp_path.rglob("evil*")) and images(tmp_path) == {} and not (manifests.FOLDER / "lock").exists()


def test_a_disk_that_is_too_small_is_told_before_the_download(dtd, hub, cut, monkeypatch, capsys):
    usage = shutil.disk_usage(cut)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=len(dtd)))
    assert main(["data", "fetch", "dtd", "--root", str(cut)]) == 1
    assert "GB are needed; give another --root" in capsys.readouterr().err
    assert not [entry for entry in hub.log if entry[0] == "GET"]


def test_what_is_gated_or_gone_ends_in_exact_steps(dtd, hub, cut, capsys):
    hub.gated, hub.gone = {IN_HUB}, {"/dtd.zip"}
    change("dtd", steps="Ask the authors.\nPut it into ROOT/dtd.")
    assert main(["data", "fetch", "dtd", "--root", str(cut)]) == 1
    said = capsys.readouterr().err
    assert "GatedRepo" in said and "404" in said and f"Put it into {cut}/dtd." in said


def test_imagenet_and_cars_say_what_to_do_by_hand(cut, capsys):
    change("stanford_cars", sources=[])
    for name, words in {
        "imagenet": ("image-net.org", "29b22e2961454d5413ddabcf34fc5622"),
        "stanford_cars": ("cars_train/00001.jpg",),
    }.items():
        assert main(["data", "fetch", name, "--root", str(cut)]) == 1
        said = capsys.readouterr().err
        assert all(word in said for word in words) and str(cut) in said


def test_a_copy_of_the_users_is_accepted_by_path(cut, tmp_path, capsys):
    mine = put_copy("imagenet", tmp_path / "mine")
    assert main(["data", "fetch", "imagenet", "--root", str(cut), "--from", str(mine)]) == 0
    assert "stays where it is" in capsys.readouterr().out and not list(cut.iterdir())
    archive = tmp_path / "cars.zip"
    archive.write_bytes(zip_of(put_copy("stanford_cars", tmp_path / "made")))
    assert main(["data", "fetch", "stanford_cars", "--root", str(cut), "--from", str(archive)]) == 0
    assert len(tasks.load("stanford_cars", cut).images) == 3 and archive.exists()
    assert str(tmp_path) not in lock.file("stanford_cars").read_text(encoding="utf-8")


def test_the_split_file_is_added_and_checked(hub, cut, tmp_path):
    """Official archives lack it; its address is pinned by hash."""
    made = put_copy("eurosat", tmp_path / "made")
    content = (made / "split_zhou_EuroSAT.json").read_bytes()
    (made / "split_zhou_EuroSAT.json").unlink()
    hub.files = {"/EuroSAT_RGB.zip": zip_of(made / "2750"), "/split.json": content}
    pin = yaml.safe_load((manifests.FOLDER / "eurosat.yaml").read_text(encoding="utf-8"))["split_file"]
    source = {"kind": "url", "paths": [f"{hub.url}/EuroSAT_RGB.zip"], "evidence": "memory"}
    change("eurosat", sources=[source], split_file=pin | {"url": f"{hub.url}/split.json"})
    hub.files["/split.json"] = flipped(content, 100)
    with pytest.raises(fetch.WrongBytes, match="is not the paper's split file"):
        fetch.fetch("eurosat", cut, say=str)
    hub.files["/split.json"] = content
    assert fetch.fetch("eurosat", cut, say=str).ready and len(tasks.load("eurosat", cut).images) == 3


def test_a_copy_that_lacks_nothing_but_the_split_file_gets_it_alone(hub, cut):
    base = put_copy("stanford_cars", cut)
    content = (base / "split_zhou_StanfordCars.json").read_bytes()
    (base / "split_zhou_StanfordCars.json").unlink()
    hub.files = {"/split.json": content}
    pin = yaml.safe_load((manifests.FOLDER / "stanford_cars.yaml").read_text(encoding="utf-8"))["split_file"]
    change("stanford_cars", split_file=pin | {"url": f"{hub.url}/split.json"})
    assert fetch.fetch("stanford_cars", cut, say=str).ready
    assert [(command, path) for command, path, _ in hub.log] == [("GET", "/split.json")]
