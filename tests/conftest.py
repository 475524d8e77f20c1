"""Small real things that many tests share: the committed encoders, a few glyph images, a served guide."""

import numpy as np
import pytest
import torch

from gta import encoders
from gta.data import manifests
from gta.worlds.fieldguide import language_model
from gta.worlds.glyphs import DIGITS, NAMES, render
from published import cut_manifests

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def encoder():
    return encoders.load("embedded", seed=0, device="cpu")


@pytest.fixture(scope="session")
def glyphs():
    """60 digits in held-out styles: uint8 arrays (8, 8, 3) and their classes."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(60) % len(DIGITS)
    names = torch.tensor([NAMES.index(name) for name in DIGITS])
    return list(render(names[classes], "held_out", generator).permute(0, 2, 3, 1).numpy()), classes


@pytest.fixture
def guide_llm():
    with language_model("fieldguide", 0) as llm:
        yield llm


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def cut_folder(tmp_path_factory):
    return cut_manifests(tmp_path_factory.mktemp("manifests"))


@pytest.fixture
def cut(tmp_path, cut_folder, monkeypatch):
    """An empty root for small copies (`published.put_copy`), while the manifests are those of our lines and nothing is locked."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    for file in cut_folder.glob("*.yaml"):
        (folder / file.name).symlink_to(file)
    (folder / "encoders").symlink_to(manifests.FOLDER / "encoders")
    monkeypatch.setattr(manifests, "FOLDER", folder)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"
