"""What is recorded of a tower: its output is untouched, and scores are q k^T / sqrt(d) from its weights, by loops."""

import copy
import math
from functools import partial

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transformer import Transformer
from torch import nn

from gta.distil.taps import blocks, recording, size

transformers = pytest.importorskip("transformers")

TEXT = {"context_length": 7, "vocab_size": 11, "width": 12, "heads": 3, "layers": 2}
TOKENS = torch.tensor([[1, 5, 2, 10, 0, 0, 0], [1, 4, 4, 3, 9, 8, 10]])
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def clip(**text):
    vision = {"image_size": 16, "layers": 2, "width": 12, "patch_size": 8, "head_width": 4}
    return open_clip.CLIP(8, vision, {**TEXT, **text})


def bert(**changes):
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16, "vocab_size": 11}
    return transformers.BertModel(transformers.BertConfig(**{**sizes, **changes}), add_pooling_layer=False)


def vit(**changes):
    return timm.create_model("test_vit", img_size=32, **{"depth": 2, "num_heads": 3, "embed_dim": 12, "num_classes": 0, **changes})


def made(kind):
    """A tower of two blocks, a function that runs it, of each block (q weight, q bias, k weight, k bias) and the norm before attention."""
    torch.manual_seed(1)
    if kind == "bert":
        tower = bert()
        heads = [block.attention.self for block in tower.encoder.layer]
        run = partial(tower, input_ids=TOKENS, attention_mask=(TOKENS > 0).long())
        weights = [(of.query.weight, of.query.bias, of.key.weight, of.key.bias) for of in heads]
        return tower, lambda: run().last_hidden_state, weights, [nn.Identity()] * 2
    if kind == "timm":
        tower = vit(qk_norm=False)
        run, norms = partial(tower, IMAGES.repeat(1, 1, 2, 2)), [block.norm1 for block in tower.blocks]
        joint = [(block.attn.qkv.weight, block.attn.qkv.bias) for block in tower.blocks]
    else:
        model = clip()
        tower, run = (
            (model.visual, partial(model.visual, IMAGES)) if kind == "image" else (model.transformer, partial(model.encode_text, TOKENS))
        )
        joint = [(block.attn.in_proj_weight, block.attn.in_proj_bias) for block in blocks(tower)]
        norms = [block.ln_1 for block in blocks(tower)]
    width = size(tower)[1]
    return tower, run, [(w[:width], b[:width], w[width : 2 * width], b[width : 2 * width]) for w, b in joint], norms


def scores_by_loops(x, weights, heads=3):
    """q_i . k_j / sqrt(d) of each head, float64."""
    wq, bq, wk, bk = (w.detach().double().numpy() for w in weights)
    x, d = x.detach().double().numpy(), wq.shape[0] // heads
    found = np.zeros((x.shape[0], heads, x.shape[1], x.shape[1]))
    for b, h, i, j in np.ndindex(found.shape):
        rows = slice(h * d, (h + 1) * d)
        found[b, h, i, j] = (wq[rows] @ x[b, i] + bq[rows]) @ (wk[rows] @ x[b, j] + bk[rows]) / math.sqrt(d)
    return found


@pytest.mark.parametrize("kind", ["image", "text", "timm", "bert"])
@pytest.mark.parametrize("grad", [False, True])
def test_the_output_is_bit_for_bit_the_same_and_scores_are_those_of_the_weights(kind, grad):
    tower, run, weights, norms = made(kind)
    tower.eval()
    with torch.set_grad_enabled(grad):
        expected = run()
        with recording(tower) as seen:
            output = run()
        assert torch.equal(output, expected)
        for m, of_block in enumerate(weights):
            by_loops = scores_by_loops(norms[m](seen.hidden[m]), of_block)
            np.testing.assert_allclose(seen.scores[m + 1].detach().numpy(), by_loops, rtol=2e-4, atol=2e-5)
    assert list(seen.hidden) == [0, 1, 2] and list(seen.scores) == [1, 2] and seen.embedding is seen.hidden[0]
    assert torch.equal(run(), expected) and not any(module._forward_hooks or module._forward_pre_hooks for module in tower.modules())
    assert seen.hidden[2].requires_grad is grad


@pytest.mark.parametrize("kind", ["image", "text", "timm", "bert"])
def test_scores_and_states_have_gradients_down_to_the_first_block(kind):
    tower, run, _, _ = made(kind)
    with recording(tower) as seen:
        run()
    seen.scores[2].square().mean().backward()
    first, last = ([p.grad is not None and bool(p.grad.any()) for p in block.parameters()] for block in blocks(tower))
    assert all(first[-2:]) and any(last) and not any(last[-2:])  # the end of the last block comes after its scores


def test_scores_are_what_the_models_themselves_take_the_softmax_of():
    """Torch's own attention gives its weights when asked, and BERT's eager attention its probabilities."""
    model = clip().eval()
    with recording(model.visual) as seen:
        model.visual(IMAGES)
    block = model.visual.transformer.resblocks[1]
    x = block.ln_1(seen.hidden[1])
    told = block.attn(x, x, x, need_weights=True, average_attn_weights=False)[1]
    torch.testing.assert_close(seen.scores[2].softmax(-1), told)
    eager = bert(attn_implementation="eager").eval()
    mask = (TOKENS > 0).long()
    with recording(eager) as seen:
        told = eager(input_ids=TOKENS, attention_mask=mask, output_attentions=True).attentions
    hidden = torch.where(mask[:, None, None] > 0, 0.0, -torch.inf)
    torch.testing.assert_close((seen.scores[1] + hidden).softmax(-1), told[0])


@pytest.mark.parametrize("kind", ["timm", "open_clip"])
def test_norms_of_heads_come_before_the_scores(kind):
    """The unfused path of both libraries hands the softmaxed scores to a dropout, where they can be seen."""
    torch.manual_seed(0)
    if kind == "timm":
        tower, x = vit(qk_norm=True), IMAGES.repeat(1, 1, 2, 2)
        for block in tower.blocks:
            block.attn.fused_attn = False
        attention = tower.blocks[1].attn
        nn.init.normal_(attention.q_norm.weight)
        told = []
        attention.attn_drop.register_forward_pre_hook(lambda _, given: told.append(given[0]))
        with recording(tower.eval()) as seen:
            tower(x)
        torch.testing.assert_close(seen.scores[2].softmax(-1), told[0])
        return
    tower = Transformer(12, 2, 3, qk_norm=True).eval()
    with recording(tower) as seen:
        tower(torch.randn(2, 5, 12))
    attention, x = tower.resblocks[0].attn, tower.resblocks[0].ln_1(seen.embedding)
    q, k, v = (part.unflatten(-1, (3, 4)).transpose(1, 2) for part in nn.functional.linear(x, attention.in_proj_weight).chunk(3, -1))
    weights = seen.scores[1].softmax(-1)
    mixed = attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, attention(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(seen.scores[1], q @ k.mT / 2)


def test_only_what_is_asked_for_is_kept():
    model = clip()
    with recording(model.visual, (2,)) as seen:
        model.visual(IMAGES)
    assert list(seen.hidden) == [0, 2] and list(seen.scores) == [2] and size(model.visual) == (2, 12)
    with recording(model.visual, ()) as seen:
        model.visual(IMAGES)
    assert list(seen.hidden) == [0] and not seen.scores


def test_a_second_run_is_refused_and_hooks_are_gone_after_an_error():
    model = clip()
    with pytest.raises(RuntimeError, match="ran twice"), recording(model.visual):
        model.visual(IMAGES)
        model.visual(IMAGES)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_other_towers_are_refused_by_their_name():
    convolutions = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    with pytest.raises(ValueError, match=r"ModifiedResNet has no transformer block that is read here: open_clip's and timm's ViT"):
        size(open_clip.CLIP(8, convolutions, TEXT).visual)
    strange = copy.deepcopy(clip().visual)
    strange.transformer.resblocks[1].attn = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="attention of kind Linear in ResidualAttentionBlock is not read here"), recording(strange):
        pass
