import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.data import DataLoader

import reference
from gta.adapt import Selection, _views_ahead, adapt, adaptation_loss, confident_images, draw_texts, natural_augmentation, parameter_groups
from gta.data.tasks import glyph_augmentation
from gta.encoders.images import load_images
from gta.settings import Settings


@given(st.integers(1, 7), st.integers(2, 5), st.integers(0, 10_000))
def test_loss_and_gradients_equal_the_double_loop(size, d, seed):
    generator = torch.Generator().manual_seed(seed)
    image, text = (F.normalize(torch.randn(size, d, generator=generator, dtype=torch.float64), dim=1).requires_grad_() for _ in range(2))
    positives = (torch.rand(size, size, generator=generator) < 0.4) | torch.eye(size, dtype=torch.bool)
    losses = [f(image, text, positives, 20.0) for f in (adaptation_loss, reference.adaptation_loss)]
    assert abs(losses[0] - losses[1]) < 1e-10
    for fast, naive in zip(*(torch.autograd.grad(loss, (image, text)) for loss in losses), strict=True):
        torch.testing.assert_close(fast, naive, atol=1e-9, rtol=1e-9)


def test_confident_images_by_hand():
    z = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    chosen = confident_images(z, 2)
    assert chosen.images.tolist() == [0, 1, 3, 2]
    assert chosen.classes.tolist() == [[True, False], [True, False], [False, True], [False, True]]


def test_an_image_chosen_by_two_classes_belongs_to_both():
    z = torch.tensor([[0.5, 0.5], [0.1, 0.2]])
    assert confident_images(z, 1).classes.tolist() == [[True, True]]


@given(st.permutations(range(12)))
def test_selection_does_not_depend_on_the_order_of_images(order):
    z = torch.rand(12, 3, generator=torch.Generator().manual_seed(1))
    chosen, shuffled = confident_images(z, 4), confident_images(z[list(order)], 4)
    assert [order[i] for i in shuffled.images.tolist()] == chosen.images.tolist()
    assert torch.equal(chosen.classes, shuffled.classes)


def test_drawn_texts_belong_to_the_image_and_are_equally_likely():
    texts = [["a"], ["b1", "b2", "b3"], ["c"]]
    classes = torch.tensor([[True, True, False]]).repeat(4000, 1)
    torch.manual_seed(0)
    drawn, owners = draw_texts(classes, texts)
    assert all(text in texts[owner] for text, owner in zip(drawn, owners.tolist(), strict=True))
    shares = [drawn.count(text) / 4000 for text in ("a", "b1", "b2", "b3", "c")]
    assert shares[4] == 0
    assert shares[:4] == pytest.approx([0.25] * 4, abs=0.03)


def test_groups_hold_every_parameter_once_but_the_logit_scale(encoder):
    projections, rest = parameter_groups(encoder.model, Settings())
    assert {id(p) for p in projections["params"]} == {id(encoder.model.visual.proj), id(encoder.model.text_projection)}
    grouped = [id(p) for group in (projections, rest) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for name, p in encoder.model.named_parameters() if name != "logit_scale")


def test_adapt_lowers_its_loss_repeats_itself_and_leaves_the_scale_alone(encoder, glyphs):
    images, classes = glyphs
    pixels = load_images(images, encoder).pixels
    selection = Selection(torch.arange(60), F.one_hot(classes, 10).bool())
    texts = [
        [f"a picture of the digit {name}"] for name in ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    ]
    settings = Settings(lr=1e-4, lr_projection=1e-4, batch_size=30)

    def losses():
        mine = encoder.copy()
        run = [adapt(mine, pixels.__getitem__, selection, texts, settings, lambda image: image, seed=t) for t in range(4)]
        return run, mine

    (first, mine), (second, _) = losses(), losses()
    assert first == second
    assert first[-1] < first[0]
    assert torch.equal(mine.model.logit_scale, encoder.model.logit_scale)
    assert not torch.equal(mine.model.visual.proj, encoder.model.visual.proj)


def test_adapt_leaves_the_global_random_state_alone(encoder, glyphs):
    pixels = load_images(glyphs[0][:4], encoder).pixels
    state = torch.random.get_rng_state()
    adapt(
        encoder.copy(),
        pixels.__getitem__,
        Selection(torch.arange(4), torch.ones(4, 1).bool()),
        [["a picture of the digit one"]],
        Settings(),
        lambda i: i,
        0,
    )
    assert torch.equal(state, torch.random.get_rng_state())


def test_natural_augmentation_keeps_dtype_and_size():
    image = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    changed = natural_augmentation(32)(image)
    assert (changed.dtype, changed.shape) == (torch.uint8, (3, 32, 32))


@pytest.mark.parametrize(
    ("architecture", "projections"),
    [
        ("ViT-B-32-quickgelu", {"visual.proj", "text_projection"}),
        ("RN50", {"visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias", "text_projection"}),
        ("ViT-B-16-SigLIP", {"text.text_projection.weight", "text.text_projection.bias"}),  # its image tower ends without one
        ("coca_ViT-B-32", {"visual.proj", "text.text_projection"}),
        ("convnext_base", {"visual.head.proj.weight", "text_projection"}),
        ("EVA02-B-16", {"visual.trunk.head.weight", "visual.trunk.head.bias", "text.text_projection"}),
    ],
)
def test_projections_are_found_by_their_role(architecture, projections):
    with torch.device("meta"):
        model = open_clip.create_model(architecture, device="meta")
    groups = parameter_groups(model, Settings())
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in groups[0]["params"]} == projections
    learning = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted([*learning, *({"logit_scale", "logit_bias"} & set(names.values()))]) == sorted(names.values())


def test_what_is_drawn_does_not_depend_on_workers(encoder, glyphs, monkeypatch):
    images = load_images(glyphs[0], encoder)
    selection = Selection(torch.arange(60), F.one_hot(glyphs[1], 10).bool())
    batches = torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(16)

    def views(workers):
        loader = _views_ahead(images.original, glyph_augmentation(32), selection, batches, 5, encoder.device)
        return torch.cat(list(DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, num_workers=workers)))

    alone = views(0)
    assert torch.equal(alone, views(2))
    assert not torch.equal(alone[0], images.pixels[batches[0][0]])
