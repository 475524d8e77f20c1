"""HEIC and AVIF: read where their reader is, upright and with the time of their Exif data; told with the mend where it is not."""

import numpy as np
import pillow_heif
import pytest
from PIL import Image, features

from gta.data import folders
from gta.encoders import decode
from gta.label.groups import EXIF, TAKEN, taken

pillow_heif.register_heif_opener()


@pytest.fixture
def photo():
    """Red on the left and blue on the right, and when it was taken."""
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (32, 0, 64, 32))
    exif = image.getexif()
    exif.get_ifd(EXIF)[TAKEN] = "2026:01:01 00:00:09"
    return image, exif


@pytest.fixture(autouse=True)
def fresh():
    decode.formats.cache_clear()
    yield
    decode.formats.cache_clear()


@pytest.mark.parametrize("name", ["a.heic", "a.HIF", "a.avif"])
def test_a_photograph_is_read_as_it_is(tmp_path, photo, name):
    image, exif = photo
    file = tmp_path / name
    image.save(file, format="AVIF" if name.endswith("avif") else "HEIF", quality=95, exif=exif.tobytes())
    assert folders.images(tmp_path, folders.Links()) == ([file], [])
    picture, bits = decode.decode(file)
    assert bits is None and picture.size == (64, 32) and picture.mode == "RGB"
    for place, colour in ((8, (255, 0, 0)), (56, (0, 0, 255))):
        assert np.abs(np.array(picture.getpixel((place, 16))) - colour).max() < 30
    assert taken(file) % 60 == 9


def test_a_turned_photograph_is_upright(tmp_path, photo):
    """Of HEIC libheif turns the picture itself, and nothing here writes a turned one."""
    image, exif = photo
    exif[0x0112] = 6  # the camera was held upright: to be turned right by 90 degrees
    image.save(tmp_path / "a.avif", quality=95, exif=exif)
    picture, _ = decode.decode(tmp_path / "a.avif")
    assert picture.size == (32, 64) and picture.getpixel((16, 8))[0] > 200 and picture.getpixel((16, 56))[2] > 200


def test_a_damaged_one_is_an_error_and_no_crash(tmp_path, photo):
    photo[0].save(tmp_path / "a.heic", format="HEIF")
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    with pytest.raises(decode.UNREADABLE):
        decode.decode(tmp_path / "a.heic")


def test_without_a_reader_the_mend_is_told(tmp_path, monkeypatch):
    for name in ("a.heic", "b.avif", "c.png"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(decode, "find_spec", lambda name: None)
    monkeypatch.setattr(features, "check", lambda name: False)
    kept, left_out = folders.images(tmp_path, folders.Links())
    assert kept == [tmp_path / "c.png"]
    assert dict(left_out) == {
        tmp_path / "a.heic": ".heic: an image that pillow-heif reads: pip install 'gta-clip[heic]'",
        tmp_path / "b.avif": ".avif: an image that Pillow 11.3 or newer reads: pip install -U pillow",
    }
