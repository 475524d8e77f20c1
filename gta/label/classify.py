"""Label images with the model in this folder, without any other file: `python classify.py IMAGE ...`, or `classify(images)`.

Needs onnxruntime, pillow and numpy alone. It is for files with 8 bits a channel.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FACTS = json.loads((Path(__file__).parent / "classify.json").read_text(encoding="utf-8"))
MODEL = onnxruntime.InferenceSession(str(Path(__file__).parent / "model.onnx"), providers=["CPUExecutionProvider"])


def classify(images):
    """[(class, confidence)] of image files, each alone."""
    side, found = FACTS["side"], []
    for image in images:
        picture = ImageOps.exif_transpose(Image.open(image)).convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        short = min(picture.size)
        size = (side, side) if FACTS["squash"] else [int(side * length / short) for length in picture.size]
        picture = picture.resize(size, FACTS["resample"])
        left, top = (round((length - side) / 2) for length in picture.size)
        pixels = np.asarray(picture.crop((left, top, left + side, top + side))).transpose(2, 0, 1)
        z = MODEL.run(["z"], {"pixels": pixels[None]})[0][0]
        found.append((FACTS["class_names"][int(z.argmax())], float(z.max())))
    return found


if __name__ == "__main__":
    for name, (label, confidence) in zip(sys.argv[1:], classify(sys.argv[1:]), strict=True):
        print(f"{name}\t{label}\t{confidence:.4f}")
