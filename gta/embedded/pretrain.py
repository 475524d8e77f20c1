"""Pretrain the embedded CLIP encoders on rendered glyphs: `python -m gta.embedded.pretrain --seed 0`.

The loss is the adaptation loss of step 3, an image paired with every caption of its batch that is true of it, so that
two images of one letter are not pushed apart. Captions are a name, a name with attributes, or attributes alone.
"""

import argparse
import json
import math
import random
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from gta.adapt import adaptation_loss
from gta.embedded.glyphs import FACTS, KIND, NAMES, render
from gta.encoders import EMBEDDED, WordTokenizer, text_forward
from gta.files import write_atomically

MODEL: dict = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 96, "layers": 4, "head_width": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 0, "width": 96, "heads": 3, "layers": 2},
}
PREPROCESS: dict = {"mean": [0.3] * 3, "std": [0.35] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
SENTENCE = "a picture of the {kind} {name}"


def caption(name: str, rng: random.Random) -> tuple[str, str | None, frozenset[str]]:
    """A true caption, the name that it says (or None), and the attributes that it says."""
    facts = frozenset(rng.sample(FACTS[name], rng.choice([1, 1, 2])))
    said = " and ".join(sorted(facts, key=lambda _: rng.random()))
    sentence, kind = SENTENCE.format(kind=KIND[name], name=name), rng.random()
    if kind < 0.3:
        return sentence, name, frozenset()
    return (f"{sentence} with {said}", name, facts) if kind < 0.55 else (f"a character with {said}", None, facts)


def train_tokenizer() -> Tokenizer:
    """The vocabulary of all captions: padding is 0 and the end token is last, where open_clip looks for it."""
    sentences = [SENTENCE.format(kind=KIND[name], name=name) for name in NAMES] + [fact for facts in FACTS.values() for fact in facts]
    words = sorted({word for sentence in sentences for word in sentence.split()} | {"character", "with", "and"})
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "<start>", *words, "<end>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed")])
    ends = [(token, vocabulary[token]) for token in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return tokenizer


def preprocess(images: Tensor) -> Tensor:
    """What the saved preprocessing does to uint8 (B, 3, H, W): float (B, 3, 32, 32)."""
    size = MODEL["vision_cfg"]["image_size"]
    resized = F.interpolate(images.float(), size=(size, size), mode="bicubic", antialias=True).clamp(0, 255) / 255
    return (resized - PREPROCESS["mean"][0]) / PREPROCESS["std"][0]


def batch(size: int, style: str, tokenize, rng: random.Random, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images, tokens, and which caption is true of which image, bool (size, size)."""
    characters = torch.randint(len(NAMES), (size,), generator=generator)
    texts, names, facts = zip(*(caption(NAMES[c], rng) for c in characters), strict=True)
    true_of = [
        [said in (None, name) and said_facts <= set(FACTS[name]) for name in NAMES] for said, said_facts in zip(names, facts, strict=True)
    ]
    return preprocess(render(characters, style, generator)), tokenize(list(texts)), torch.tensor(true_of)[:, characters].T


def train(
    model: open_clip.CLIP, tokenize, seed: int, steps: int, batch_size: int = 256, peak: float = 1e-3
) -> list[tuple[int, float, float]]:
    """Train in place, seeded; the curve is (step, mean training loss since the last point, loss on held-out styles)."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    matrices, others = ([p for p in model.parameters() if (p.ndim >= 2) is wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps, pct_start=min(0.1, 100 / steps), cycle_momentum=False
    )
    held_out = batch(512, "held_out", tokenize, random.Random(0), torch.Generator().manual_seed(0))
    curve, losses = [], []
    for step in tqdm(range(1, steps + 1), desc=f"seed {seed}", mininterval=10):
        loss = _loss(model, *batch(batch_size, "train", tokenize, rng, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        losses.append(loss.item())
        if step % 50 == 0 or step == steps:
            with torch.no_grad():
                curve.append((step, sum(losses) / len(losses), _loss(model, *held_out).item()))
            losses = []
    return curve


def _loss(model: open_clip.CLIP, images: Tensor, tokens: Tensor, positives: Tensor) -> Tensor:
    return adaptation_loss(model.encode_image(images, normalize=True), text_forward(model, tokens), positives, model.logit_scale.exp())


def pretrain(seed: int, steps: int, folder: Path) -> None:
    """Write `seed<seed>.safetensors` (fp16), its curve, and the tokenizer and configuration that all seeds share."""
    tokenizer = train_tokenizer()
    config = {
        "model_cfg": {**MODEL, "text_cfg": {**MODEL["text_cfg"], "vocab_size": tokenizer.get_vocab_size()}},
        "preprocess_cfg": PREPROCESS,
    }
    write_atomically(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    write_atomically(folder / "open_clip_config.json", json.dumps(config, indent=2) + "\n")
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config["model_cfg"])
    curve = train(model, WordTokenizer(folder / "tokenizer.json", model.context_length), seed, steps)
    write_atomically(folder / f"seed{seed}.safetensors", save({name: w.half().contiguous() for name, w in model.state_dict().items()}))
    lines = [f"{step},{train_loss:.4f},{held_out_loss:.4f}\n" for step, train_loss, held_out_loss in curve]
    write_atomically(folder / f"seed{seed}.curve.csv", "".join(["step,train_loss,held_out_loss\n", *lines]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    arguments = parser.parse_args()
    pretrain(arguments.seed, arguments.steps, arguments.out)
