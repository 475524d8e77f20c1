"""Peers that learn from labelled images: against their papers' equations as loops in float64, worked by hand, and in their limits."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gta.encoders.encoder import text_forward
from gta.peers import cache, context, probe, reading, susx, texts
from gta.peers.reading import Prompts
from reference import unit, world

NAMES, TEMPLATE = ["one", "two", "five"], "a picture of the digit {}"


@pytest.fixture
def setting():
    """20 images, 12 labelled ones of 3 classes, 3 class texts, in 10 dimensions, float64."""
    x, _, support, labels = world(20, 3, 10, shots=12)
    return x, unit(x[:3] + 0.2), support, labels


# Tip-Adapter


def tip_adapter_by_loops(clip, x, keys, labels, alpha, beta):
    logits = clip.clone()
    for i in range(len(x)):
        for s, label in enumerate(labels):
            logits[i, label] += alpha * math.exp(-beta * (1 - sum(float(a) * float(b) for a, b in zip(x[i], keys[s], strict=True))))
    return logits


def test_tip_adapter_against_its_equations(setting):
    x, classes, support, labels = setting
    clip = texts.clip_logits(x, classes, 12.0)
    expected = tip_adapter_by_loops(clip, x, support, labels.tolist(), 1.3, 4.2)
    assert torch.allclose(cache.tip_adapter(clip, x, support, labels, alpha=1.3, beta=4.2), expected, atol=1e-10)


def test_tip_adapter_worked_by_hand():
    """f = (1, 0), keys (1, 0) of class 1 and (0, 1) of classes 0 and 1, beta = ln 4: affinities 1, 1/4, 1/4.

    CLIP's logits (3, 2) and alpha = 2 give (3 + 2/4, 2 + 2 (1 + 1/4)) = (3.5, 4.5).
    """
    axes = torch.eye(2, dtype=torch.float64)
    keys, labels = axes[[0, 1, 1]], torch.tensor([1, 0, 1])
    logits = cache.tip_adapter(torch.tensor([[3.0, 2.0]]).double(), axes[:1], keys, labels, alpha=2.0, beta=math.log(4))
    assert torch.allclose(logits, torch.tensor([[3.5, 4.5]]).double(), atol=1e-12)


def test_limits_of_the_cache(setting):
    x, classes, support, labels = setting
    clip = texts.clip_logits(x, classes, 12.0)
    assert torch.equal(cache.tip_adapter(clip, x, support, labels, alpha=0.0), clip)
    adapter = cache.tip_adapter(clip, x, support, labels, alpha=1.3, beta=2.0)
    assert torch.equal(susx.tip_x(clip, x, support, labels, classes, alpha=1.3, beta=2.0, gamma=0.0), adapter)
    counts = torch.bincount(labels, minlength=3)
    assert torch.allclose(cache.tip_adapter(clip, x, support, labels, alpha=2.0, beta=0.0), clip + 2.0 * counts)
    untrained = cache.fit_keys(12.0, classes, support[None], labels, seed=0, epochs=0)
    assert torch.allclose(untrained, support, atol=1e-12)


def test_keys_are_the_unit_mean_of_the_views(setting):
    _, _, support, _ = setting
    views = torch.stack([support, unit(support + 0.3)])
    assert torch.allclose(cache.keys_of(views), unit(support + unit(support + 0.3)), atol=1e-12)


def test_tip_adapter_f_takes_adamw_steps_along_the_gradient(setting):
    """One epoch of one batch: AdamW's first step is decay by 1e-3 / 100, then minus 1e-3 g / (|g| + 1e-4), with g by differences."""
    _, classes, support, labels = setting
    views = support[None]

    def loss(keys):
        logits = tip_adapter_by_loops(texts.clip_logits(support, classes, 12.0), support, keys, labels.tolist(), 1.0, 5.5)
        return -sum(float(row.log_softmax(0)[label]) for row, label in zip(logits, labels, strict=True)) / len(labels)

    gradient, step = torch.zeros_like(support), 1e-5
    for s in range(3):
        for d in range(10):
            moved = support.clone()
            moved[s, d] += step
            up = loss(moved)
            moved[s, d] -= 2 * step
            gradient[s, d] = (up - loss(moved)) / (2 * step)
    fitted = cache.fit_keys(12.0, classes, views, labels, seed=0, epochs=1)
    expected = support * (1 - 1e-3 * 1e-2) - 1e-3 * gradient / (gradient.abs() + 1e-4)
    assert torch.allclose(fitted[:3], expected[:3], atol=1e-6)


def test_the_search_leaves_the_paper_only_for_more(setting):
    labels = torch.tensor([0, 1, 1])

    def logits(a: float, b: float) -> torch.Tensor:
        """Two of three right at a = 1, all at a = 2, whatever b."""
        return torch.eye(2)[[0, 1, 1] if a == 2 else [0, 1, 0]]

    assert cache.best(logits, labels, {"a": 1, "b": 9}, a=[0, 1], b=[5, 6]) == {"a": 1, "b": 9}
    assert cache.best(logits, labels, {"a": 1, "b": 9}, a=[0, 1, 2], b=[5, 6]) == {"a": 2, "b": 5}


# Linear probe


def test_the_probe_against_newtons_method():
    """The minimum of C sum_i -log softmax(W f_i + b)_y_i + |W|^2 / 2 in float64, by steps of H^-1 g."""
    x, _, support, labels = world(20, 3, 10, shots=30)
    strength, padded = 2.0, torch.cat([support, torch.ones(30, 1).double()], 1)

    def loss(flat):
        weight = flat.view(3, 11)
        lost = -(padded @ weight.T).log_softmax(1)[torch.arange(30), labels].sum()
        # A shift of all biases is free: any one will do.
        return strength * lost + weight[:, :10].square().sum() / 2 + 1e-9 * weight[:, 10].square().sum()

    flat = torch.zeros(33, dtype=torch.float64)
    for _ in range(50):
        gradient = torch.autograd.functional.jacobian(loss, flat)
        flat = flat - torch.linalg.solve(torch.autograd.functional.hessian(loss, flat), gradient)
    expected = torch.cat([x, torch.ones(20, 1).double()], 1) @ flat.view(3, 11).T
    found = probe.linear_probe(x, support, labels, 3, strength)
    assert torch.allclose(found.softmax(1), expected.softmax(1), atol=1e-6)


def test_the_probe_worked_by_hand():
    """Features 1 and -1 of the second and the first class: C 2 ln(1 + e^-w) + w^2 / 2 is least at w = 2 C / (1 + e^w).

    w = ln 3 for C = 2 ln 3, and the probabilities are w's logistic: 3/4 and 1/4.
    """
    points = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    probabilities = probe.linear_probe(points, points, torch.tensor([1, 0]), 2, 2 * math.log(3)).softmax(1)
    assert torch.allclose(probabilities, torch.tensor([[0.25, 0.75], [0.75, 0.25]]).double(), atol=1e-6)


def test_the_probe_of_two_classes_and_of_a_class_without_images():
    x, _, support, labels = world(20, 2, 10, shots=30)
    two = probe.linear_probe(x, support, labels, 2)
    of_three = probe.linear_probe(x, support, labels * 2, 3)
    assert two.shape == (20, 2) and torch.allclose(of_three[:, [0, 2]], two)
    assert torch.allclose(of_three[:, 1], two.amin(1))
    apart = torch.eye(10).double()[[0] * 5 + [1] * 5]
    assert probe.linear_probe(apart, apart, torch.tensor([0] * 5 + [1] * 5), 2).argmax(1).tolist() == [0] * 5 + [1] * 5


# CoOp and CoCoOp


@pytest.fixture(scope="module")
def exact(encoder):
    """The embedded encoder in float64."""
    return encoder.copy(torch.float64)


def text_by_hand(encoder, name, vectors):
    """Equation 2 of CoOp in float64: start, context (L, w), name and end, plus positions, through the blocks, read at the end."""
    model = encoder.model
    embedded = model.token_embedding.weight[[int(t) for t in encoder.tokens([name])[0] if t != 0]]
    hidden = torch.cat([embedded[:1], vectors, embedded[1:]]) + model.positional_embedding[: len(embedded) + len(vectors)]
    mask = torch.full((len(hidden),) * 2, -math.inf, dtype=torch.float64).triu(1)
    for block in model.transformer.resblocks:
        hidden = block(hidden[None], attn_mask=mask)[0]
    return unit(model.ln_final(hidden)[-1] @ model.text_projection)


def test_the_words_of_a_template_as_context_are_the_template(exact):
    start = context.words_as_context(exact, "a picture of the digit ")
    nothing = torch.zeros(0, 96, dtype=torch.float64)
    expected = torch.stack([text_by_hand(exact, TEMPLATE.format(name), nothing) for name in NAMES])
    assert start.shape == (1, 5, 96)
    assert torch.allclose(Prompts(exact, NAMES, "", start.shape[1]).features(start), expected, atol=1e-9)
    assert torch.allclose(exact.text_features([TEMPLATE.format(name) for name in NAMES]), expected, atol=1e-9)


@pytest.mark.parametrize("chunk", [64, 2, 1])
@pytest.mark.parametrize("classes", [1, 3])
def test_learned_prompts_against_the_text_tower_by_hand(exact, classes, chunk):
    """Unified contexts, read in one sequence, and class-specific ones, read as texts; by chunks."""
    vectors = context.random_context(exact, seed=1, length=3, classes=classes).double()
    names = [*NAMES[:2], "five five"]  # of other lengths
    expected = [text_by_hand(exact, name, vectors[label % classes]) for label, name in enumerate(names)]
    assert torch.allclose(Prompts(exact, names, "", 3, chunk).features(vectors), torch.stack(expected), atol=1e-9)


def test_a_text_tower_that_is_not_causal_is_read_as_texts(exact, monkeypatch):
    vectors = context.random_context(exact, seed=1, length=3).double()
    in_sequence = Prompts(exact, NAMES, "", 3).features(vectors)
    monkeypatch.setattr(reading, "causal", lambda model: False)
    monkeypatch.setattr(Prompts, "_read_sequence", lambda *_: pytest.fail("read in one sequence"))
    assert torch.allclose(Prompts(exact, NAMES, "", 3).features(vectors), in_sequence, atol=1e-9)


def learned_by_loops(encoder, start, meta, scale, views, labels, epochs, batch, seed):
    """Both papers in float64, an image and a class at a time: the context and h after SGD with momentum 0.9 and decay 5e-4, whose rate
    is 1e-5 in the first epoch and a cosine from 2e-3 after it. meta: W_1, b_1, W_2, b_2, or nothing for CoOp."""
    weights = [each.detach().clone().requires_grad_() for each in (start, *meta)]
    speeds = [torch.zeros_like(each) for each in weights]
    chance = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        rate = 2e-3 * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2 if epoch else 1e-5
        for rows in torch.randperm(len(labels), generator=chance).split(batch):
            loss = 0.0
            for i in rows.tolist():
                x, shift = views[epoch % len(views)][i], 0.0
                if meta:
                    _, first, first_bias, second, second_bias = weights
                    shift = second @ (first @ x + first_bias).clamp_min(0) + second_bias
                of_classes = [text_by_hand(encoder, name, weights[0][c % len(start)] + shift) for c, name in enumerate(NAMES)]
                logits = torch.stack([scale * x @ text for text in of_classes])
                loss = loss + logits.logsumexp(0) - logits[labels[i]]
            for weight, speed, gradient in zip(weights, speeds, torch.autograd.grad(loss / len(rows), weights), strict=True):
                speed.mul_(0.9).add_(gradient + 5e-4 * weight.detach())
                weight.data -= rate * speed
    return [each.detach() for each in weights]


@pytest.mark.parametrize("method", ["CoOp", "CoOp, class-specific", "CoCoOp"])
def test_training_against_its_equations(exact, method):
    views = unit(torch.randn(2, 7, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    start = 50 * context.random_context(exact, 0, 2, classes=3 if "specific" in method else 1).double()  # where decay counts too
    meta = context.meta_network(exact, 96, seed=0).double() if method == "CoCoOp" else None
    options = {"epochs": 4, "batch": 1 if meta else 3, "seed": 5}
    beginning = [each.clone() for each in meta.parameters()] if meta else []
    expected = learned_by_loops(exact, start, beginning, 10.0, views, labels, **options)
    done = context.learn(Prompts(exact, NAMES, "", 2, chunk=2), start, meta, 10.0, views, labels, **options)
    found = [done.context, *(meta.parameters() if meta else ())]
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(found, expected, strict=True))
    assert (done.context - start).abs().max() > 5e-4


def test_learned_contexts_worked_by_hand():
    """A text tower that adds context and name: names (3, 3) and (4, 2), x = (1, 0), scale 10.

    CoOp, equation 3: v = (0, 1) gives texts (3, 4) / 5 and (4, 3) / 5, cosines 0.6 and 0.8, p = 1 / (1 + e^2) of the first class.
    CoCoOp, equation 3: v = (0, -1) and h(x) = (0, 2) relu(x_1 - 0) + (0, 0), so that v(x) = (0, 1): the same. x = (0, 1) is not shifted:
    texts (3, 2) / sqrt(13) and (4, 1) / sqrt(17), logits 20 / sqrt(13) and 10 / sqrt(17).
    """

    class Adding:
        def features(self, vectors):
            return unit(vectors.sum(-2) + torch.tensor([[3.0, 3.0], [4.0, 2.0]]))

    x = torch.eye(2)
    coop = context.Learned(Adding(), torch.tensor([[[0.0, 1.0]]]), None, 10.0)
    assert coop.predict(x[:1]).softmax(1)[0, 0] == pytest.approx(1 / (1 + math.exp(2)), rel=1e-5)
    meta = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU(), torch.nn.Linear(1, 2))
    for place, values in zip(meta.parameters(), ([[1.0, 0.0]], [0.0], [[0.0], [2.0]], [0.0, 0.0]), strict=True):
        place.data = torch.tensor(values)
    cocoop = context.Learned(Adding(), torch.tensor([[[0.0, -1.0]]]), meta, 10.0)
    assert torch.allclose(cocoop.predict(x), torch.tensor([[6.0, 8.0], [20 / 13**0.5, 10 / 17**0.5]]))


def test_the_first_epoch_warms_up_and_the_cosine_begins_after_it():
    assert [context.rate(epoch, 4) for epoch in range(4)] == pytest.approx([1e-5, 2e-3, 1e-3 * (1 + 0.5**0.5), 1e-3])


@pytest.mark.parametrize("shape", [(1, 4, 96), (3, 4, 96), (5, 1, 4, 96)])
def test_chunks_and_checkpoints_change_neither_features_nor_gradients(exact, shape):
    """Of a unified context, of class-specific ones, and of those of five images."""
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    for chunk in (64, 2, 1):
        vectors = start.clone().requires_grad_()
        features = Prompts(exact, NAMES, "", 4, chunk).features(vectors)
        (features * torch.arange(features.numel()).view_as(features).sin()).sum().backward()
        results.append((features.detach(), vectors.grad))
    for features, gradient in results[1:]:
        assert torch.allclose(features, results[0][0], atol=1e-9) and torch.allclose(gradient, results[0][1], atol=1e-9)


def test_an_image_conditional_context_is_that_of_each_image_alone(encoder):
    """CoCoOp, equation 3: v_m(x) = v_m + h(x), h(x) = W_2 relu(W_1 x + b_1) + b_2, for each of four images on its own."""
    x = unit(torch.randn(4, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    start = context.words_as_context(encoder, "a picture of the digit")
    meta = context.meta_network(encoder, 96, seed=0)
    prompts = Prompts(encoder, NAMES, "", 5)
    logits = context.Learned(prompts, start, meta, 10.0).predict(x)
    (first, _, second) = meta
    for image, row in zip(x, logits, strict=True):
        hidden = (first.weight @ image + first.bias).clamp_min(0)
        shifted = start[0] + (second.weight @ hidden + second.bias)
        assert torch.allclose(row, 10.0 * prompts.features(shifted[None]) @ image, atol=1e-9)
    assert first.out_features == 128 // 16


def test_where_coop_starts(encoder):
    """At random, or at the words of a template: no epoch at all, and class-specific contexts start alike."""
    options = {"views": torch.eye(128)[None, :3], "labels": torch.arange(3), "epochs": 0, "seed": 4}
    words = context.words_as_context(encoder, "a picture of the digit")
    assert torch.equal(context.coop(encoder, NAMES, TEMPLATE, **options, from_words=True).context, words)
    assert torch.equal(
        context.coop(encoder, NAMES, TEMPLATE, **options, from_words=True, class_specific=True).context, words.expand(3, -1, -1)
    )
    at_random = context.coop(encoder, NAMES, TEMPLATE, **options).context
    assert at_random.shape == (1, 16, 96) and at_random.std() == pytest.approx(0.02, rel=0.1)


def test_limits_of_learned_contexts(encoder):
    x = unit(torch.randn(4, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    start, meta = context.words_as_context(encoder, "a picture of the digit"), context.meta_network(encoder, 96, seed=0)
    prompts = Prompts(encoder, NAMES, "", 5)
    coop = context.Learned(prompts, start, None, encoder.logit_scale)
    clip = texts.clip_logits(x, encoder.encode_texts([TEMPLATE.format(name) for name in NAMES]), encoder.logit_scale)
    assert torch.allclose(coop.predict(x), clip, atol=1e-4)
    for parameter in meta[2].parameters():
        parameter.data.zero_()
    assert torch.allclose(context.Learned(prompts, start, meta, encoder.logit_scale).predict(x), coop.predict(x), atol=1e-4)


def test_training_lowers_the_loss_repeats_and_leaves_the_encoder_alone(encoder, glyphs):
    from gta.encoders.images import load_images

    images, labels = glyphs
    chosen = (labels == 1) | (labels == 2) | (labels == 5)
    kept = [image for image, keep in zip(images, chosen, strict=True) if keep]
    x, y = (
        encoder.encode_images(load_images(kept, encoder, progress=False).pixels),
        torch.searchsorted(torch.tensor([1, 2, 5]), labels[chosen]),
    )
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    for longer, learn in (
        (40, lambda epochs: context.coop(encoder, NAMES, "{}", x[None], y, epochs=epochs, seed=0)),
        (40, lambda epochs: context.coop(encoder, NAMES, "{}", x[None], y, epochs=epochs, seed=0, class_specific=True)),
        (6, lambda epochs: context.cocoop(encoder, NAMES, TEMPLATE, x[None], y, epochs=epochs, seed=0)),
    ):
        losses = [float(F.cross_entropy(learn(epochs).predict(x), y)) for epochs in (1, longer)]
        assert losses[1] < losses[0]
        assert torch.equal(learn(2).predict(x), learn(2).predict(x))
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in encoder.model.parameters())


def test_other_names_take_a_unified_context_and_not_a_class_specific_one(encoder):
    prompts, others = Prompts(encoder, NAMES, "", 4), Prompts(encoder, ["six", "nine"], "", 4)
    unified, specific = (context.random_context(encoder, 0, 4, classes) for classes in (1, 3))
    learned = context.Learned(prompts, unified, None, 1.0).for_classes(others)
    assert torch.allclose(learned.predict(torch.eye(128).double()[:2]), others.features(unified)[:, :2].T, atol=1e-6)
    with pytest.raises(ValueError, match="knows no other classes"):
        context.Learned(prompts, specific, None, 1.0).for_classes(others)


def test_a_context_that_does_not_fit_is_refused(encoder):
    with pytest.raises(ValueError, match=r"40 context vectors and the longest class name take 43 tokens, the encoder reads 32"):
        Prompts(encoder, NAMES, "", 40)


def test_epochs_are_those_of_the_next_listed_shots():
    assert [context.epochs_for(shots) for shots in (1, 2, 3, 4, 8, 16, 100)] == [50, 100, 100, 100, 200, 200, 200]


def test_prompts_read_what_the_encoder_itself_reads(encoder):
    """With no place for a context the text tower sees the plain name."""
    prompts = Prompts(encoder, NAMES, "", 0)
    plain = F.normalize(text_forward(encoder.model, encoder.tokens(NAMES)), dim=1)
    assert np.allclose(prompts.features(torch.zeros(1, 0, 96)).detach(), plain.detach(), atol=1e-6)
