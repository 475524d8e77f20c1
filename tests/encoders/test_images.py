import io
import json
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from gta.encoders import decode
from gta.encoders.images import Images, UnreadableImages, load_images
from small import full_beyond


def test_the_store_is_the_encoders_own_preprocessing(encoder, rng):
    photo = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    whole = image_transform_v2(PreprocessCfg(size=32, mean=encoder.mean, std=encoder.std, interpolation="bicubic"), is_train=False)(photo)
    stored = load_images([photo], encoder).pixels.float() / 255
    stored = (stored - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(3, 1, 1)
    torch.testing.assert_close(stored[0], whole)


def test_paths_arrays_and_pictures_are_one(encoder, rng, tmp_path):
    array = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    pixels = load_images(
        [tmp_path / "a.png", str(tmp_path / "a.png"), array, Image.fromarray(array), torch.from_numpy(array)], encoder
    ).pixels
    assert (pixels == pixels[:1]).all()


def test_a_turned_photo_is_set_upright(encoder, rng, tmp_path):
    array = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(array).copy()).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(load_images([tmp_path / "turned.png"], encoder).pixels, load_images([array], encoder).pixels)


def test_all_unreadable_images_are_named_at_once(encoder, tmp_path):
    good, bad, gone = tmp_path / "good.png", tmp_path / "bad.jpg", tmp_path / "gone.png"
    Image.new("RGB", (8, 8)).save(good)
    bad.write_bytes(b"no image")
    with pytest.raises(UnreadableImages, match=r"3 of 4 images .*\n.*bad\.jpg.*\n.*gone\.png.*\n.*images\[3\].*uint8"):
        load_images([good, bad, gone, np.zeros((4, 4))], encoder)


def test_no_image_is_an_error(encoder):
    with pytest.raises(ValueError, match="at least one"):
        load_images([], encoder)


def test_every_kind_of_image_gives_the_pixels_that_a_reader_sees(encoder, rng, tmp_path):
    """The truth is the picture before it was saved in each kind."""
    array = np.repeat(np.repeat(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), 8, 0), 8, 1)
    picture, grey = Image.fromarray(array), Image.fromarray(array[..., 0])
    clear = picture.convert("RGBA")
    clear.putalpha(0)
    files = {
        "palette.png": (picture.quantize(16), picture),
        "sixteen.png": (Image.fromarray(array[..., 0].astype(np.uint16) * 257), grey),
        "sixteen.tif": (Image.fromarray(array[..., 0].astype(np.uint16) * 257), grey),
        "clear.png": (clear, Image.new("RGB", picture.size, "white")),
        "bilevel.png": (grey.convert("1"), grey.convert("1")),
        "cmyk.tif": (picture.convert("CMYK"), picture),
    }
    for name, (saved, _) in files.items():
        saved.save(tmp_path / name)
    picture.save(tmp_path / "animated.gif", save_all=True, append_images=[Image.new("RGB", picture.size)])
    files["animated.gif"] = (None, picture)
    pixels = load_images([tmp_path / name for name in files], encoder).pixels
    for row, (name, (_, seen)) in zip(pixels, files.items(), strict=True):
        truth = load_images([seen.convert("RGB")], encoder).pixels[0]
        assert (row.int() - truth.int()).abs().max() <= 2, name


def test_what_is_too_large_or_has_no_range_is_listed_and_may_be_skipped(encoder, rng, tmp_path):
    good = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(good).save(tmp_path / "good.png")
    photo = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(photo, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(photo.getvalue()[:-300])
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(tmp_path / "float.tif")
    files = [tmp_path / name for name in ("cut.jpg", "good.png", "empty.png", "huge.png", "float.tif", "good.png")]
    with pytest.raises(
        UnreadableImages, match=r"(?s)4 of 6 .*cut\.jpg.*truncated.*empty\.png.*huge\.png.*exceeds.*float\.tif.*8 or 16 bits"
    ):
        load_images(files, encoder)
    images = load_images(files, encoder, skip_bad=True)
    assert sorted(images.skipped) == [0, 2, 3, 4]
    assert torch.equal(images.pixels, load_images([good, good], encoder).pixels)
    assert torch.equal(images.original(1), torch.from_numpy(good).permute(2, 0, 1))
    with pytest.raises(UnreadableImages):
        load_images(files[:1], encoder, skip_bad=True)


def test_a_store_is_made_once_for_its_content(encoder, rng, tmp_path, monkeypatch):
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(file)
    first = load_images(files, encoder, store=tmp_path / "store")
    decoded = []
    monkeypatch.setattr(
        "gta.encoders.images.decode", lambda image, decode=load_images.__globals__["decode"]: decoded.append(image) or decode(image)
    )
    again = load_images([file.rename(file.with_name(f"new{file.name}")) for file in files], encoder, store=tmp_path / "store")
    assert not decoded and again.sha256 == first.sha256 and torch.equal(again.pixels, first.pixels)
    files = sorted(tmp_path.glob("new*"))
    Image.new("RGB", (40, 50)).save(files[1])
    other = load_images(files, encoder, store=tmp_path / "store")
    assert len(decoded) == 3 and other.sha256 != first.sha256 and not other.pixels[1].any()


def test_a_damaged_or_unfinished_store_is_made_again(encoder, rng, tmp_path, capsys):
    arrays = list(rng.integers(0, 256, (5, 40, 40, 3), dtype=np.uint8))
    truth = load_images(arrays, encoder, store=tmp_path).pixels.clone()
    (rows,) = tmp_path.glob("*.npy")
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(content)
    assert torch.equal(load_images(arrays, encoder, store=tmp_path).pixels, truth)
    assert f"{rows}: not the bytes" in capsys.readouterr().err
    rows.with_suffix(".json").unlink()
    (tmp_path / f".{rows.name}.part").write_bytes(b"killed")
    assert torch.equal(load_images(arrays, encoder, store=tmp_path).pixels, truth)
    assert not list(tmp_path.glob(".*.part"))
    assert json.loads(rows.with_suffix(".json").read_text(encoding="utf-8"))["skipped"] == {}


def test_too_little_room_is_said_before_anything_is_decoded(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(OSError, match=r"need 0\.00 GB and 0\.00 GB are free; choose another store \(`store`; of `gta label`, `--out`\)"):
        load_images([Image.new("RGB", (8, 8))], encoder, store=tmp_path)


def test_a_store_that_cannot_be_written_is_named_with_what_moves_it(encoder, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    mend = r"choose another store \(`store`; of `gta label`, `--out`\)"
    with pytest.raises(OSError, match=rf"store '.*file/store': nothing can be written in .*/file; {mend}"):
        load_images([Image.new("RGB", (8, 8))], encoder, store=tmp_path / "file/store")
    with pytest.raises(OSError, match=rf"store '.*full' cannot be written: \[Errno 27\] File too large.*; {mend}"), full_beyond(1000):
        load_images([Image.new("RGB", (8, 8))], encoder, store=tmp_path / "full")
    with pytest.raises(OSError, match=r"cannot be written: .*; set TMPDIR to another folder"), full_beyond(1000):
        load_images([Image.new("RGB", (8, 8))], encoder)


@pytest.mark.parametrize(("shape", "expected"), [((8, 8), (32, 32)), ((50, 60), (50, 60)), ((100, 200), (64, 128)), ((10, 40), (32, 128))])
def test_an_original_has_between_one_and_two_times_the_resolution(encoder, rng, shape, expected):
    array = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    images = load_images([array], encoder)
    original = images.original(0)
    assert original.dtype == torch.uint8 and original.shape == (3, *expected)
    if shape == (8, 8):
        assert torch.equal(original, images.pixels[0])
    if shape == expected:
        assert torch.equal(original, torch.from_numpy(array).permute(2, 0, 1))
    assert torch.equal(images.original(0), original)


def test_pixels_that_are_ready_are_taken_as_they_are(rng):
    pixels = torch.from_numpy(rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8))
    images = Images.of_pixels(pixels)
    assert torch.equal(images.original(2), pixels[2]) and len(images) == 3
    assert images.sha256 != Images.of_pixels(pixels.flip(0)).sha256
    with pytest.raises(ValueError, match="must be uint8"):
        Images.of_pixels(pixels.float())


MEMORY = """
import re, sys
from pathlib import Path
from gta import encoders
from gta.encoders.images import load_images
encoder = encoders.load("embedded", seed=0, device="cpu")
files = [sys.argv[1]] * int(sys.argv[2])
images = load_images(files, encoder, store=sys.argv[3], progress=False)
encoder.encode_images(images.pixels[:64])
total = int(images.pixels.sum())
print(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    kilobytes = []
    for count in (100, 10_100):  # 10,000 images more are 31 MB of pixels
        command = [sys.executable, "-c", MEMORY.replace("\\\\", "\\"), str(tmp_path / "red.png"), str(count), str(tmp_path / "store")]
        kilobytes.append(int(subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout))
    assert kilobytes[1] - kilobytes[0] < 15_000


def test_a_file_that_another_program_would_have_to_open_is_no_image(tmp_path, encoder):
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(UnreadableImages, match="cannot identify image file"):
        load_images([tmp_path / "eps.png"], encoder)


def test_large_images_wait_for_one_another():
    room, inside, most = decode.Room(10), [], []

    def enters(pixels):
        with room.of(pixels):
            inside.append(pixels)
            most.append(sum(inside))
            inside.remove(pixels)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enters, [7, 3, 100, 5] * 25))
    assert len(most) == 100 and max(total for total in most if total < 100) <= 10


def test_a_key_is_of_the_content_whatever_the_place(encoder, glyphs):
    images = load_images([*glyphs[0][:5], glyphs[0][2]], encoder)
    keys = [images.key(row) for row in range(6)]
    assert keys[5] == keys[2] and len(set(keys)) == 5
    backwards = Images.of_pixels(images.pixels.flip(0))
    assert [backwards.key(row) for row in range(6)] == keys[::-1]


def colour_png(file, values):
    """A PNG of 16 bits a channel in colour, which Pillow reads and does not write."""

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b""))


@pytest.mark.parametrize(("bits", "told"), [(8, "no value above 255"), (12, "no value above 4,095"), (14, ""), (16, "")])
@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "colour.png"])
def test_data_of_few_bits_in_16_bit_files_are_read_by_their_own_range(encoder, rng, tmp_path, capsys, bits, told, name):
    values = np.repeat(np.repeat(rng.integers(0, 2**bits, (32, 32, 3), dtype=np.uint16), 2, 0), 2, 1)
    values[:2, :2] = 2**bits - 1
    values = values if name == "colour.png" else values[..., 0]
    colour_png(tmp_path / name, values) if name == "colour.png" else Image.fromarray(values).save(tmp_path / name)
    top = 2**bits - 1 if told else 65535  # 14 bits are visible as they are
    truth = Image.fromarray((values.astype(np.uint32) * 255 // top).astype(np.uint8)).convert("RGB")
    for _ in range(2):  # also from the store
        images = load_images([tmp_path / name], encoder, store=tmp_path / "store")
        assert (images.pixels.int() - load_images([truth], encoder).pixels.int()).abs().max() <= 2  # bicubic adds to one of rounding
        assert (images.original(0).int() - torch.from_numpy(np.asarray(truth).transpose(2, 0, 1).astype(int))).abs().max() <= 1
        said = capsys.readouterr().err
        line = f"1 images with 16 bits a channel hold {told}, so that this is taken as white: {tmp_path / name}\n"
        assert said == (line if told else "")


def test_a_black_image_stays_black_and_a_store_of_an_older_version_is_made_again(encoder, tmp_path, capsys):
    Image.fromarray(np.zeros((40, 40), dtype=np.uint16)).save(tmp_path / "black.png")
    Image.fromarray(np.full((40, 40), 4000, dtype=np.uint16)).save(tmp_path / "twelve.png")
    files = [tmp_path / "black.png", tmp_path / "twelve.png"]
    pixels = load_images(files, encoder, store=tmp_path / "store").pixels.clone()
    assert not pixels[0].any() and (pixels[1] == 249).all()
    assert capsys.readouterr().err.startswith("1 images with 16 bits")
    (facts,) = (tmp_path / "store").glob("*.json")
    old = json.loads(facts.read_text(encoding="utf-8"))
    del old["narrow"]
    facts.write_text(json.dumps(old), encoding="utf-8")
    assert torch.equal(load_images(files, encoder, store=tmp_path / "store").pixels, pixels)
    assert json.loads(facts.read_text(encoding="utf-8"))["narrow"] == {"1": 12}
