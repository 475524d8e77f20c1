"""A labelled folder for tests of a review, made without an encoder: what `gta label` would have left, and hostile names."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from gta.label import folder, kept
from gta.label.jobs import Options
from gta.label.review import Review

HOSTILE_FILES = ["<img src=x onerror=alert(1)>.png", "quo\"te's.png", "\u202egnp.live.png", "a\nb.png", "=cmd().png", "{{ 7*7 }}.png"]
HOSTILE_CLASSES = ["<script>alert(1)</script>", '"><b onclick=alert(2)>', "\u202eenarc", "{{ 7*7 }}", "javascript:alert(3)"]


def labelled(home, images=12, classes=HOSTILE_CLASSES, seed=0):
    """`home/out` as a run leaves it: random margins and features. Image i is one colour."""
    rng = np.random.default_rng(seed)
    (home / "images").mkdir(parents=True, exist_ok=True)
    names = [*HOSTILE_FILES, *(f"{i:03d}.png" for i in range(len(HOSTILE_FILES), images))][:images]
    paths = [home / "images" / name for name in names]
    for path in paths:
        Image.new("RGB", (40, 30), tuple(int(value) for value in rng.integers(0, 256, 3))).save(path)
    (home / "classes.txt").write_text("\n".join(classes), encoding="utf-8")
    features = torch.nn.functional.normalize(torch.tensor(rng.normal(size=(images, 4))).float(), dim=1)
    options = Options(images=str(home / "images"), classes=str(home / "classes.txt"), encoder="embedded", out=str(home / "out"))
    job = SimpleNamespace(out=home / "out", options=options, classes=SimpleNamespace(names=tuple(classes)))
    kept.leave(job, SimpleNamespace(names=names, paths=paths, result=SimpleNamespace(features=features)))
    margins = rng.uniform(0, 1, images)
    rows = [
        (name, classes[i % len(classes)], f"{(1 + margins[i]) / 2:.4f}", classes[(i + 1) % len(classes)], f"{margins[i]:.4f}", "", "0.1")
        for i, name in enumerate(names)
    ]
    (home / "out/predictions.csv").write_text(folder.table(folder.COLUMNS, rows), encoding="utf-8")
    return Review(home / "out", "ann")
