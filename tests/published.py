"""Small copies of the paper's datasets, in the layouts that circulate. File names come from the published lists and the official
naming rules (`data/published.yaml`), folders from CoOp's DATASETS.md and the released program: never from the manifests."""

import hashlib
import io
import json
from pathlib import Path

import yaml
from PIL import Image

from gta.data import manifests

LINES = yaml.safe_load((Path(__file__).parent / "data/published.yaml").read_text(encoding="utf-8"))
SPLIT_FILES = {
    "caltech101": "Caltech101",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "food101": "Food101",
    "oxford_flowers": "OxfordFlowers",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "sun397": "SUN397",
    "ucf101": "UCF101",
}
# (folder of the dataset, folder of the images in it), CoOp's and the released program's.
LAYOUTS = {
    "caltech101": [("caltech-101", "101_ObjectCategories"), ("Caltech101", "101_ObjectCategories")],
    "cub": [("CUB_200_2011", "images")],
    "dtd": [("dtd", "images"), ("DTD", "images")],
    "eurosat": [("eurosat", "2750")],
    "fgvc_aircraft": [("fgvc_aircraft", "."), ("fgvc-aircraft-2013b", "data")],
    "food101": [("food-101", "images"), ("Food101", "images")],
    "imagenet": [("imagenet", "images"), ("imagenet", ".")],
    "oxford_flowers": [("oxford_flowers", "jpg"), ("Flower102", "jpg")],
    "oxford_pets": [("oxford_pets", "images"), ("OxfordPets", "images")],
    "stanford_cars": [("stanford_cars", "."), ("StanfordCars", ".")],
    "sun397": [("sun397", "SUN397"), ("SUN397", "SUN397")],
    "ucf101": [("ucf101", "UCF-101-midframes"), ("UCF101", "UCF-101-midframes")],
}


def picture(path: str, format: str = "JPEG") -> bytes:
    """An image that only this path has."""
    buffer = io.BytesIO()
    digest = hashlib.sha256(path.encode()).digest()
    Image.frombytes("RGB", (3, 3), digest[:27]).resize((24, 24), Image.Resampling.NEAREST).save(buffer, format)
    return buffer.getvalue()


def put(file: Path, content: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def lines(name: str, split: str) -> list:
    return LINES[name][split]


def put_lists(name: str, folder: Path) -> None:
    """The published lists of a dataset, cut to our lines."""
    if name in SPLIT_FILES:
        put(folder / f"split_zhou_{SPLIT_FILES[name]}.json", json.dumps(LINES[name], indent=4))
    elif name == "fgvc_aircraft":
        for split, entries in LINES[name].items():
            text = "".join(f"{Path(path).stem} {variant}\n" for path, _, variant in entries)
            put(folder / f"images_variant_{split}.txt", text)
    elif name == "cub":
        images = [(path, label, "1" if split == "train" else "0") for split, entries in LINES[name].items() for path, label, _ in entries]
        put(folder / "images.txt", "".join(f"{i} {path}\n" for i, (path, _, _) in enumerate(images, 1)))
        put(folder / "image_class_labels.txt", "".join(f"{i} {label + 1}\n" for i, (_, label, _) in enumerate(images, 1)))
        put(folder / "train_test_split.txt", "".join(f"{i} {train}\n" for i, (_, _, train) in enumerate(images, 1)))


def put_copy(name: str, root: Path, layout: int = 0) -> Path:
    """A whole copy; returns its folder."""
    folder, images = LAYOUTS[name][layout]
    put_lists(name, root / folder / ("data" if images == "data" else "."))
    for entries in LINES[name].values():
        for path, _, _ in entries:
            put(root / folder / images / path, picture(path))
    return root / folder


def cut_manifests(folder: Path) -> Path:
    """Manifests whose sizes and hash of the split file are those of our lines, and which are the real ones in all else."""
    for name, splits in LINES.items():
        data = yaml.load((manifests.FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
        data["splits"] = {split: len(entries) for split, entries in splits.items()}
        if name in SPLIT_FILES:
            put_lists(name, folder / "lists")
            content = (folder / f"lists/split_zhou_{SPLIT_FILES[name]}.json").read_bytes()
            pin = data["split_file"]
            if "git_blob" in pin:
                pin["git_blob"] = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            else:
                pin["sha256"] = hashlib.sha256(content).hexdigest()
        put(folder / f"{name}.yaml", yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False))
    return folder
