"""Pretrain the embedded CLIP encoders: `python -m gta.workshop.pretrain glyphs --seeds 0 1 2 3 4`, or `birds`.

The loss is the adaptation loss of step 3. All captions of the batch that are true of an image are its positives, so that two
images of one letter or one bird are not pushed apart. The images and captions come from `gta.workshop.lessons`.
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
from gta.encoders.encoder import WordTokenizer, text_forward
from gta.files import write_atomically
from gta.workshop.lessons import LESSONS, Lesson


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A tokenizer with the words of all captions. Padding is 0 and the end token is the last one, as open_clip expects."""
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "<start>", *words, "<end>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed")])
    ends = [(token, vocabulary[token]) for token in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return tokenizer


def preprocess(images: Tensor, lesson: Lesson) -> Tensor:
    """Apply the saved preprocessing to uint8 (B, 3, H, W); returns float (B, 3, size, size)."""
    size = lesson.model["vision_cfg"]["image_size"]
    resized = F.interpolate(images.float(), size=(size, size), mode="bicubic", antialias=True).clamp(0, 255) / 255
    return (resized - lesson.preprocess["mean"][0]) / lesson.preprocess["std"][0]


def train(model: open_clip.CLIP, tokenize, lesson: Lesson, seed: int, steps: int) -> list[tuple[int, float, float]]:
    """Train in place. Returns the curve: (step, mean training loss since the last point, loss on one held-out batch of 512)."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    matrices, others = ([p for p in model.parameters() if (p.ndim >= 2) is wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lesson.peak, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lesson.peak, total_steps=steps, pct_start=min(0.1, 100 / steps), cycle_momentum=False
    )

    def loss_of(images: Tensor, captions: list[str], positives: Tensor) -> Tensor:
        features = model.encode_image(preprocess(images, lesson), normalize=True)
        return adaptation_loss(features, text_forward(model, tokenize(captions)), positives, model.logit_scale.exp())

    held_out = lesson.batch(512, "held_out", random.Random(0), torch.Generator().manual_seed(0))
    curve, losses = [], []
    for step in tqdm(range(1, steps + 1), desc=f"seed {seed}", mininterval=10):
        loss = loss_of(*lesson.batch(lesson.batch_size, "train", rng, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        losses.append(loss.item())
        if step % 50 == 0 or step == steps:
            model.eval()  # batch norms must collect statistics only in training
            with torch.no_grad():
                curve.append((step, sum(losses) / len(losses), loss_of(*held_out).item()))
            model.train()
            losses = []
    return curve


def pretrain(lesson: Lesson, seed: int, steps: int, folder: Path) -> None:
    """Pretrain one encoder. Writes `seed<seed>.safetensors` (fp16), its curve, and the tokenizer and configuration of all seeds."""
    tokenizer = train_tokenizer(lesson.texts)
    model_cfg = {**lesson.model, "text_cfg": {**lesson.model["text_cfg"], "vocab_size": tokenizer.get_vocab_size()}}
    config = {"model_cfg": model_cfg, "preprocess_cfg": lesson.preprocess}
    write_atomically(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    write_atomically(folder / "open_clip_config.json", json.dumps(config, indent=2) + "\n")
    torch.manual_seed(seed)
    model = open_clip.CLIP(**model_cfg).to(memory_format=lesson.memory_format)
    curve = train(model, WordTokenizer(folder / "tokenizer.json", model.context_length), lesson, seed, steps)
    weights = {name: (w.half() if w.is_floating_point() else w).contiguous() for name, w in model.state_dict().items()}
    write_atomically(folder / f"seed{seed}.safetensors", save(weights))
    lines = [f"{step},{train_loss:.4f},{held_out_loss:.4f}\n" for step, train_loss, held_out_loss in curve]
    write_atomically(folder / f"seed{seed}.curve.csv", "".join(["step,train_loss,held_out_loss\n", *lines]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lesson", choices=LESSONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lesson = LESSONS[arguments.lesson]
    for seed in arguments.seeds:
        pretrain(lesson, seed, arguments.steps or lesson.steps, arguments.out or lesson.folder)
