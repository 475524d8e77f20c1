import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from filelock import FileLock

from gta.encoders.embeddings import features_of
from gta.encoders.images import load_images
from small import counted, full_beyond


def test_more_images_cost_only_their_own(encoder, glyphs, tmp_path, monkeypatch):
    few, all_of_them = (load_images(glyphs[0][:n], encoder) for n in (20, 60))
    direct = encoder.encode_images(all_of_them.pixels)
    calls = counted(monkeypatch)
    monkeypatch.setattr("gta.encoders.embeddings.BLOCK", 16)
    features_of(encoder, few, tmp_path)
    assert calls == [16, 4]
    torch.testing.assert_close(features_of(encoder, all_of_them, tmp_path), direct, atol=1e-12, rtol=0)
    assert sum(calls) == 60
    backwards = load_images(glyphs[0][::-1] + glyphs[0][:3], encoder)
    torch.testing.assert_close(features_of(encoder, backwards, tmp_path), torch.cat([direct.flip(0), direct[:3]]), atol=1e-12, rtol=0)
    assert sum(calls) == 60


def test_another_encoder_or_a_damaged_file_is_encoded_anew(encoder, glyphs, tmp_path, monkeypatch):
    images, calls = load_images(glyphs[0][:5], encoder), counted(monkeypatch)
    first = features_of(encoder, images, tmp_path)
    other = encoder.copy()
    other.weights_sha256 = "another"
    features_of(other, images, tmp_path)
    (file, _) = sorted(tmp_path.glob("*/*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    file.write_bytes(file.read_bytes()[:40])
    assert torch.equal(features_of(encoder, images, tmp_path), first)
    assert calls == [5, 5, 5]


def test_float32_and_float64_are_kept_apart(encoder, glyphs, tmp_path, monkeypatch):
    images, calls = load_images(glyphs[0][:5], encoder), counted(monkeypatch)
    found = [features_of(of, images, tmp_path) for of in (encoder, encoder.copy(torch.float32)) for _ in range(2)]
    assert calls == [5, 5] and [features.dtype for features in found] == [torch.float64] * 2 + [torch.float32] * 2
    torch.testing.assert_close(found[2].double(), found[0], atol=1e-5, rtol=0)


def test_features_that_cannot_be_kept_end_no_run(encoder, glyphs, tmp_path, capsys):
    images = load_images(glyphs[0][:20], encoder)
    with full_beyond(1000):
        features = features_of(encoder, images, tmp_path)
    torch.testing.assert_close(features, encoder.encode_images(images.pixels), atol=1e-12, rtol=0)
    assert "features are not kept for later: " in capsys.readouterr().err and not list(tmp_path.glob("*/*.safetensors"))


def test_a_process_does_what_no_other_holds_and_reads_what_others_wrote(encoder, glyphs, tmp_path, monkeypatch):
    monkeypatch.setattr("gta.encoders.embeddings.BLOCK", 8)
    images, direct = load_images(glyphs[0][:24], encoder), encoder.encode_images(load_images(glyphs[0][:24], encoder).pixels)
    calls = counted(monkeypatch)
    features_of(encoder, images, tmp_path / "before", False)
    shards = sorted(tmp_path.glob("before/*/*.safetensors"))
    kind, calls[:] = shards[0].parent.name, []
    with ThreadPoolExecutor(1) as thread:
        with FileLock(tmp_path / "now" / kind / f".{shards[0].stem}.lock"):  # as another process that encodes this shard
            found = thread.submit(features_of, encoder, images, tmp_path / "now", False)
            until(lambda: len(list(tmp_path.glob("now/*/*.safetensors"))) == 2)
            assert calls == [8, 8] and not found.done()
            shutil.copy(shards[0], tmp_path / "now" / kind)
        torch.testing.assert_close(found.result(), direct, atol=1e-12, rtol=0)
    assert calls == [8, 8], "the shard that the other wrote is read"


def test_a_killed_process_leaves_what_it_wrote(encoder, glyphs, tmp_path, monkeypatch):
    monkeypatch.setattr("gta.encoders.embeddings.BLOCK", 8)
    images, encode = load_images(glyphs[0][:24], encoder), type(encoder).encode_images
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(encoder), "encode_images", lambda *given, seen=[]: stopped() if seen else seen.append(1) or encode(*given))
        features_of(encoder, images, tmp_path, False)
    calls = counted(monkeypatch)
    features_of(encoder, images, tmp_path, False)
    assert calls == [8, 8]


def stopped():
    raise KeyboardInterrupt


def until(true, seconds=20):
    """Wait for what another thread does."""
    for _ in range(20 * seconds):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("not within the time")
