"""Augmentations of the embedded worlds: against another program's arithmetic, and what they must leave alone."""

import colorsys

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.stats import binomtest, kstest

from gta.worlds import views
from gta.worlds.views import BirdView, GlyphView

VIEWS = {"glyph": (GlyphView(), (3, 8, 8)), "large glyph": (GlyphView(8), (3, 8, 8)), "bird": (BirdView(32), (3, 32, 32))}
SIZES = {"glyph": (8, 8), "large glyph": (20, 31), "bird": (50, 64)}


def noise(height, width, seed=0):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def seen(view, image, seed):
    torch.manual_seed(seed)
    return view(image)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_hangs_on_the_seed_alone_and_leaves_its_image_as_it_was(name):
    (view, shape), image = VIEWS[name], noise(*SIZES[name])
    before = image.clone()
    for seed in range(5):
        first = seen(view, image, seed)
        assert (first.dtype, first.shape) == (torch.uint8, shape)
        assert torch.equal(first, seen(view, image, seed)) and not torch.equal(first, seen(view, image, seed + 5))
    assert torch.equal(image, before)


def test_views_of_other_sizes_have_other_names():
    """By which a run that goes on knows its augmentation."""
    assert len({repr(view) for view in (GlyphView(), GlyphView(8), GlyphView(9), BirdView(8), BirdView(9))}) == 5


def given(monkeypatch, *values):
    """What the next views draw, in place of chance."""
    monkeypatch.setattr(views, "_between", lambda low, high, count: list(values))


@pytest.mark.parametrize("turn", [-1.0, 0.4, 1.0])
@pytest.mark.parametrize("size", [-1.0, 0.0, 0.7])
def test_a_glyph_is_turned_and_scaled_as_scipy_does(monkeypatch, turn, size):
    """About the middle of the image, read between pixels by straight lines; inside, where no border is read."""
    image = noise(31, 31)
    given(monkeypatch, turn, 0.0, 0.0, size, 0.0)
    angle, factor, middle = np.radians(8 * turn), 1 + 0.1 * size, np.array([15.0, 15.0])
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / factor  # from a place in the view, (y, x)
    expected = [affine_transform(channel.double().numpy(), back, middle - back @ middle, order=1) for channel in image]
    found = GlyphView()(image)
    assert np.abs(found.numpy()[:, 5:-5, 5:-5] - np.stack(expected)[:, 5:-5, 5:-5]).max() <= 0.5 + 1e-9


def test_a_glyph_is_shifted_by_whole_pixels_and_nothing_comes_in_from_outside(monkeypatch):
    image = noise(50, 50)
    given(monkeypatch, 0.0, 1.0, -1.0, 0.0, 0.0)
    found = GlyphView()(image)
    assert torch.equal(found[:, :-3, 3:], image[:, 3:, :-3])
    assert not found[:, -3:].any() and not found[:, :, :3].any()
    given(monkeypatch, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert torch.equal(GlyphView()(image), image)


def test_a_glyph_slants(monkeypatch):
    """A vertical bar of 40 rows leans by 40 tan(8 degrees) = 5.6 columns."""
    image = torch.zeros(3, 61, 61, dtype=torch.uint8)
    image[:, 10:51, 29:32] = 255
    given(monkeypatch, 0.0, 0.0, 0.0, 0.0, 1.0)
    found = GlyphView()(image).double()[0]
    middles = [float((found[row] * torch.arange(61)).sum() / found[row].sum()) for row in (10, 30, 50)]
    assert abs(middles[0] - middles[2]) == pytest.approx(40 * np.tan(np.radians(8)), abs=0.1) and middles[1] == pytest.approx(30, abs=0.1)


def test_no_glyph_is_flipped_and_half_of_the_birds_are():
    """A glyph that is lit at the upper left stays so; a bird that is lit at the left is lit at the right in half of its views."""
    glyph, bird = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 40, 40, dtype=torch.uint8)
    glyph[:, :3, :3], bird[:, :, :18] = 200, 200
    for seed in range(300):
        found = seen(GlyphView(), glyph, seed).double()
        assert found[:, :, :4].sum() > 2 * found[:, :, 4:].sum() and found[:, :4].sum() > 2 * found[:, 4:].sum()
    flipped = 0
    for seed in range(300):
        found = seen(BirdView(16), bird, seed).double()
        flipped += bool(found[:, :, 8:].sum() > found[:, :, :8].sum())
    assert binomtest(flipped, 300).pvalue > 1e-3


def test_a_crop_lies_within_the_image_and_keeps_half_of_it_at_least():
    """In sizes that a crop of every ratio fits into; area and logarithm of the ratio are uniform, but for whole pixels."""
    height, width = 600, 800
    torch.manual_seed(0)
    crops = [views._crop(height, width) for _ in range(3000)]
    assert all(top >= 0 and left >= 0 and top + h <= height and left + w <= width for top, left, h, w in crops)
    areas, ratios = (np.array(of) for of in zip(*((h * w / height / width, w / h) for *_, h, w in crops), strict=True))
    assert 0.499 < areas.min() < 0.51 and areas.max() <= 1 and ratios.min() > 0.748 and ratios.max() < 1.336
    small = areas < 0.55  # those always fit, so nothing is drawn again
    assert kstest((np.log(ratios[small]) - np.log(0.75)) / np.log(16 / 9), "uniform").pvalue > 1e-3
    assert kstest((areas[small] - 0.5) / 0.05, "uniform").pvalue > 1e-3
    free = [((top + 0.5) / (height - h + 1), (left + 0.5) / (width - w + 1)) for top, left, h, w in crops if h < 540 and w < 740]
    assert all(kstest(places, "uniform").pvalue > 1e-3 for places in zip(*free, strict=True))


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (1, 1), (3, 3)])
def test_where_no_crop_fits_the_middle_square_is_taken(height, width):
    for seed in range(50):
        torch.manual_seed(seed)
        top, left, h, w = views._crop(height, width)
        assert 0 < h <= height and 0 < w <= width and 0 <= top <= height - h and 0 <= left <= width - w
    if height * width == 400:
        assert h == w == 10 and (top, left) == ((height - 10) // 2, (width - 10) // 2)
    assert seen(BirdView(8), noise(height, width), 0).shape == (3, 8, 8)


def test_a_bird_is_its_crop_as_it_is_where_neither_size_nor_light_changes(monkeypatch):
    image = noise(40, 50)
    monkeypatch.setattr(views, "_crop", lambda height, width: (3, 7, 24, 24))
    given(monkeypatch, 0.0, 0.0, 0.0, 0.0)
    assert torch.equal(BirdView(24)(image), image[:, 3:27, 7:31])
    given(monkeypatch, -0.1, 0.0, 0.0, 0.0)
    assert torch.equal(BirdView(24)(image), image[:, 3:27, 7:31].flip(-1))


@pytest.mark.parametrize("first", [-0.5, 0.5])
def test_light_and_contrast_by_hand(monkeypatch, first):
    """Light times 1.1, contrast around the mean grey times 0.9, in either order, each cut to 0 to 255."""
    image = noise(12, 12).clamp(40, 200)
    monkeypatch.setattr(views, "_crop", lambda height, width: (0, 0, 12, 12))
    given(monkeypatch, 0.0, first, 0.5, -0.5)
    exact = image.double().numpy()

    def contrast(v):
        grey = np.tensordot([0.2989, 0.587, 0.114], v, 1).mean()
        return grey + 0.9 * (v - grey)

    expected = contrast(1.1 * exact) if first < 0 else 1.1 * contrast(exact)
    assert np.abs(BirdView(12)(image).numpy() - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("colour", [(180, 100, 60), (60, 180, 100), (100, 60, 180), (170, 170, 60), (60, 170, 170), (90, 60, 150)])
def test_no_hue_changes(colour):
    """Of an image of one colour that has room in light and contrast; in whole levels of a channel a hue is known to about a hundredth."""
    image = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 20, 30)
    hue, lights = colorsys.rgb_to_hsv(*colour)[0], []
    for seed in range(40):
        found = seen(BirdView(8), image, seed)
        (pixel,) = found.flatten(1).T.unique(dim=0).tolist()
        assert colorsys.rgb_to_hsv(*pixel)[0] == pytest.approx(hue, abs=0.01)
        lights.append(sum(pixel) / sum(colour))
    assert min(lights) < 0.9 and max(lights) > 1.1
