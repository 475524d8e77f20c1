"""Peers that learn from labelled images: against their papers' equations as loops in float64, worked by hand, and in their limits."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gta.encoders import text_forward
from gta.peers import cache, context, probe, susx, texts
from reference import world

NAMES, TEMPLATE = ["one", "two", "five"], "a picture of the digit {}"


def unit(rows):
    return rows / rows.norm(dim=-1, keepdim=True)


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


def test_the_probe_is_at_the_minimum_of_its_loss():
    """Gradients of C sum_i cross-entropy + |W|^2 / 2 vanish, by the definition of multinomial logistic regression."""
    _, _, support, labels = world(20, 3, 10, shots=30)
    strength = 2.0
    logits = probe.linear_probe(torch.cat([torch.zeros(1, 10).double(), torch.eye(10).double()]), support, labels, 3, strength)
    bias, weight = logits[0], (logits[1:] - logits[0]).T
    error = (support @ weight.T + bias).softmax(1) - F.one_hot(labels, 3)
    assert torch.allclose(strength * error.T @ support + weight, torch.zeros(3, 10).double(), atol=1e-3)
    assert torch.allclose(error.sum(0), torch.zeros(3).double(), atol=1e-3)


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
    double = encoder.copy()
    double.model.double()
    return double


def test_the_words_of_a_template_as_context_are_the_template(exact):
    start = context.words_as_context(exact, "a picture of the digit ")
    prompts = context.Prompts(exact, NAMES, "", start.shape[1])
    expected = exact.text_features([TEMPLATE.format(name) for name in NAMES])
    assert start.shape == (1, 5, 96)
    assert torch.allclose(prompts.features(start), expected, atol=1e-6)


def test_learned_prompts_against_the_text_tower_by_hand(exact):
    """Equation 2: embeddings of start, context, name, end, plus positions, through the blocks, read at the end token."""
    vectors = context.random_context(exact, seed=1, length=3, classes=3).double()
    model, tokens = exact.model, exact.tokens(NAMES)
    expected = []
    for label in range(3):
        name = [int(t) for t in tokens[label] if t != 0]
        embedded = model.token_embedding.weight[name]
        sequence = torch.cat([embedded[:1], vectors[label], embedded[1:]]) + model.positional_embedding[: len(name) + 3]
        mask = torch.full((len(sequence),) * 2, -math.inf, dtype=torch.float64).triu(1)
        hidden = sequence[None]
        for block in model.transformer.resblocks:
            hidden = block(hidden, attn_mask=mask)
        expected.append(model.ln_final(hidden)[0, -1] @ model.text_projection)
    features = context.Prompts(exact, NAMES, "", 3).features(vectors)
    assert torch.allclose(features, unit(torch.stack(expected)).detach().float(), atol=1e-6)


def test_chunks_and_checkpoints_change_neither_features_nor_gradients(encoder):
    start = context.random_context(encoder, seed=0, length=4)
    results = []
    for chunk in (64, 2, 1):
        vectors = start.clone().requires_grad_()
        features = context.Prompts(encoder, NAMES, "", 4, chunk).features(vectors)
        (features * torch.arange(features.numel()).view_as(features).sin()).sum().backward()
        results.append((features.detach(), vectors.grad))
    for features, gradient in results[1:]:
        assert torch.allclose(features, results[0][0], atol=1e-6) and torch.allclose(gradient, results[0][1], atol=1e-5)


def test_an_image_conditional_context_is_that_of_each_image_alone(encoder):
    """CoCoOp, equation 3: v_m(x) = v_m + h(x), h(x) = W_2 relu(W_1 x + b_1) + b_2, for each of four images on its own."""
    x = unit(torch.randn(4, 128, generator=torch.Generator().manual_seed(0)))
    start = context.words_as_context(encoder, "a picture of the digit")
    meta = context.meta_network(encoder, 96, seed=0)
    prompts = context.Prompts(encoder, NAMES, "", 5)
    logits = context.Learned(prompts, start, meta, 10.0).predict(x)
    (first, _, second) = meta
    for image, row in zip(x, logits, strict=True):
        hidden = (first.weight @ image + first.bias).clamp_min(0)
        shifted = start[0] + (second.weight @ hidden + second.bias)
        assert torch.allclose(row, 10.0 * prompts.features(shifted[None]) @ image, atol=1e-5)
    assert first.out_features == 128 // 16


def test_limits_of_learned_contexts(encoder):
    x = unit(torch.randn(4, 128, generator=torch.Generator().manual_seed(0)))
    start, meta = context.words_as_context(encoder, "a picture of the digit"), context.meta_network(encoder, 96, seed=0)
    prompts = context.Prompts(encoder, NAMES, "", 5)
    coop = context.Learned(prompts, start, None, encoder.logit_scale)
    clip = texts.clip_logits(x, encoder.encode_texts([TEMPLATE.format(name) for name in NAMES]), encoder.logit_scale)
    assert torch.allclose(coop.predict(x), clip, atol=1e-4)
    for parameter in meta[2].parameters():
        parameter.data.zero_()
    assert torch.allclose(context.Learned(prompts, start, meta, encoder.logit_scale).predict(x), coop.predict(x), atol=1e-4)


def test_one_step_of_coop_is_sgd_on_cross_entropy(exact):
    """A warm-up epoch of one batch: v - 1e-5 (gradient + 5e-4 v), the gradient by differences of -mean log softmax."""
    x = unit(torch.randn(6, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).float()
    labels, start = torch.tensor([0, 1, 2, 0, 1, 2]), context.random_context(exact, seed=0, length=2).double()
    start[0, 1, 50] = 60.0  # where decay weighs as much as the gradient
    prompts = context.Prompts(exact, NAMES, "", 2)
    done = context.learn(prompts, start, None, 10.0, x[None], labels, epochs=1, batch=6, seed=0)

    def loss(vectors):
        inserted = prompts.features(vectors).double()
        return -float((10.0 * x.double() @ inserted.T).log_softmax(1)[torch.arange(6), labels].mean())

    for place in ((0, 0, 3), (0, 1, 50)):
        moved, less = start.clone(), start.clone()
        moved[place] += 1e-2
        less[place] -= 1e-2
        gradient = (loss(moved) - loss(less)) / 2e-2
        step = float(done.context[place] - start[place]) / -1e-5
        assert step == pytest.approx(gradient + 5e-4 * float(start[place]), rel=0.02, abs=2e-3)


def test_training_lowers_the_loss_repeats_and_leaves_the_encoder_alone(encoder, glyphs):
    from gta.images import load_images

    images, labels = glyphs
    chosen = (labels == 1) | (labels == 2) | (labels == 5)
    kept = [image for image, keep in zip(images, chosen, strict=True) if keep]
    x, y = (
        encoder.encode_images(load_images(kept, encoder, progress=False).pixels),
        torch.searchsorted(torch.tensor([1, 2, 5]), labels[chosen]),
    )
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    for longer, learn in (
        (40, lambda epochs: context.coop(encoder, NAMES, "", x[None], y, epochs=epochs, seed=0)),
        (40, lambda epochs: context.coop(encoder, NAMES, "", x[None], y, epochs=epochs, seed=0, class_specific=True)),
        (6, lambda epochs: context.cocoop(encoder, NAMES, TEMPLATE, x[None], y, epochs=epochs, seed=0)),
    ):
        losses = [float(F.cross_entropy(learn(epochs).predict(x), y)) for epochs in (1, longer)]
        assert losses[1] < losses[0]
        assert torch.equal(learn(2).predict(x), learn(2).predict(x))
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in encoder.model.parameters())


def test_other_names_take_a_unified_context_and_not_a_class_specific_one(encoder):
    prompts, others = context.Prompts(encoder, NAMES, "", 4), context.Prompts(encoder, ["six", "nine"], "", 4)
    unified, specific = (context.random_context(encoder, 0, 4, classes) for classes in (1, 3))
    learned = context.Learned(prompts, unified, None, 1.0).for_classes(others)
    assert torch.allclose(learned.predict(torch.eye(128)[:2]), others.features(unified)[:, :2].T, atol=1e-6)
    with pytest.raises(ValueError, match="knows no other classes"):
        context.Learned(prompts, specific, None, 1.0).for_classes(others)


def test_a_context_that_does_not_fit_is_refused(encoder):
    with pytest.raises(ValueError, match=r"40 context vectors and the longest class name take 43 tokens, the encoder reads 32"):
        context.Prompts(encoder, NAMES, "", 40)


def test_epochs_are_those_of_the_next_listed_shots():
    assert [context.epochs_for(shots) for shots in (1, 2, 3, 4, 8, 16, 100)] == [50, 100, 100, 100, 200, 200, 200]


def test_prompts_read_what_the_encoder_itself_reads(encoder):
    """With no place for a context the text tower sees the plain name."""
    prompts = context.Prompts(encoder, NAMES, "", 0)
    plain = F.normalize(text_forward(encoder.model, encoder.tokens(NAMES)), dim=1)
    assert np.allclose(prompts.features(torch.zeros(1, 0, 96)).detach(), plain.detach(), atol=1e-6)
