import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from gta.images import UnreadableImages, load_images


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
        load_images([], encoder).pixels
