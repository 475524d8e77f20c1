"""The forms in which other tools read labels. Each writer gives {name of a file: its bytes, or the image that it is}.

Sources: Label Studio, https://labelstud.io/guide/predictions; FiftyOne, `FiftyOneImageClassificationDataset` of
https://docs.voxel51.com/user_guide/import_datasets.html; MegaDetector, https://lila.science/megadetector-output-format, version 1.6.
"""

import io
import json
import os
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes
from xml.sax.saxutils import quoteattr

from gta.files import IMAGE_SUFFIXES
from gta.label.labelled import FIRST, Labelled, Row
from gta.label.safe import safe_names
from gta.label.tables import table

Files = dict[str, bytes | Path]
FLOATS = ("confidence", "margin", "unfitness", "confidence_at_rank")
WHOLE, IMAGE = "1", "whole image"  # MegaDetector: the one category of detections, since nothing is detected
INDEX = "index.csv"


@dataclass(frozen=True)
class Choices:
    """media: whether images become part of the export; url: what Label Studio reads before the path of an image."""

    media: bool = False
    url: str | None = None


def to_csv(labelled: Labelled, choices: Choices) -> Files:
    """`labels.csv`: what is known of each image, the label that counts first."""
    return {"labels.csv": table([*FIRST, *labelled.columns], [_cells(row, labelled) for row in labelled.rows]).encode()}


def to_parquet(labelled: Labelled, choices: Choices) -> Files:
    """`labels.parquet`: the same with types: classes are dictionaries, numbers float32; `gta` in its metadata has the classes."""
    import pyarrow as pa
    from pyarrow import parquet

    names = [*FIRST, *labelled.columns]
    columns = list(zip(*(_cells(row, labelled) for row in labelled.rows), strict=True)) or [()] * len(names)
    arrays = []
    for name, cells in zip(names, columns, strict=True):
        if name in FLOATS:
            arrays.append(pa.array([float(cell) if cell else None for cell in cells], pa.float32()))
        elif name in ("label", "reviewed", "predicted", "runner_up", "clip", "label_at_rank", "rank", "reviewer"):
            arrays.append(pa.array([cell or None for cell in cells], pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array([cell if name == "path" else cell or None for cell in cells], pa.string()))
    facts = json.dumps({"classes": labelled.classes, "made by": labelled.maker}, ensure_ascii=False)
    stream = io.BytesIO()
    parquet.write_table(pa.table(arrays, names).replace_schema_metadata({"gta": facts}), stream)
    return {"labels.parquet": stream.getvalue()}


def to_labelstudio(labelled: Labelled, choices: Choices) -> Files:
    """`tasks.json` to import, with the model's label as a prediction and a reviewer's as an annotation, and `config.xml`, the labelling
    interface. The score is the model's confidence; images are read from its local storage, or from `url`."""
    if choices.url is None and labelled.base is None:
        raise ValueError("Label Studio needs to know where images lie; name --images FOLDER, or --url PREFIX")
    prefix = choices.url or f"/data/local-files/?d={quote_from_bytes(os.fsencode(labelled.base.name))}/"  # type: ignore[union-attr]
    tasks = []
    for row in labelled.rows:
        address = prefix + quote_from_bytes(os.fsencode(labelled.relative(row.path)))
        task: dict = {"data": {"image": address, "path": row.path}, "predictions": [], "annotations": []}
        if row.predicted:
            task["predictions"].append({"model_version": labelled.maker, "score": row.confidence, "result": [_choice(row.predicted)]})
        if row.reviewed:
            task["data"] |= {"reviewer": row.reviewer, "reviewed": row.reviewed}
            task["annotations"].append({"result": [_choice(row.label)] if row.label else []})
        tasks.append(task)
    options = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in labelled.classes)
    image, asked = '<Image name="image" value="$image"/>', '<Choices name="label" toName="image" choice="single">'
    config = f"<View>\n  {image}\n  {asked}\n{options}\n  </Choices>\n</View>\n"
    return {"tasks.json": _json(tasks), "config.xml": config.encode()}


def to_fiftyone(labelled: Labelled, choices: Choices) -> Files:
    """`labels.json` with confidences, and `data.json`, where images lie, or `data/` with the images themselves."""
    numbers = {name: i for i, name in enumerate(labelled.classes)}
    called = safe_names((row.path for row in labelled.rows), suffixes=True)
    labels: dict[str, dict | None] = {}
    places: dict[str, Path] = {}
    for number, row in enumerate(labelled.rows):
        file = Path(called[row.path])
        key = f"{number:06d}-{file.stem}"  # FiftyOne leaves suffixes out, so that a.jpg and a.png would be one image
        places[f"{key}{file.suffix}"] = labelled.place(row.path)
        told = {"path": row.path, "predicted": row.predicted, "reviewed": row.reviewed, "reviewer": row.reviewer}
        labels[key] = None
        for name, confidence in row.ranking()[:1]:
            labels[key] = {"label": numbers[name], "confidence": confidence, "attributes": told}
    files: Files = {"labels.json": _json({"classes": labelled.classes, "labels": labels})}
    if choices.media:
        return files | {f"data/{name}": place for name, place in places.items()}
    return files | {"data.json": _json({name: os.path.abspath(place) for name, place in places.items()})}


def to_imagefolder(labelled: Labelled, choices: Choices) -> Files:
    """A folder a class, as torchvision's `ImageFolder` reads them, and `index.csv`, which names the image and the class of each file.
    Without `media` that listing alone. An image without a label is in the listing and in no folder."""
    folders = safe_names({row.label for row in labelled.rows if row.label}, taken=[INDEX])
    inside: dict[str, dict[str, str]] = {
        label: safe_names((row.path for row in labelled.rows if row.label == label), suffixes=True) for label in folders
    }
    files: Files = {}
    index = []
    for row in labelled.rows:
        name = f"{folders[row.label]}/{inside[row.label][row.path]}" if row.label else ""
        index.append([name, row.label, row.path, row.reviewed, row.reviewer, row.more.get("confidence", "")])
        if name and choices.media:
            files[name] = labelled.place(row.path)
    files[INDEX] = table(("file", "label", "path", "reviewed", "reviewer", "confidence"), index).encode()
    return files


def to_megadetector(labelled: Labelled, choices: Choices) -> Files:
    """`megadetector.json`: one detection an image, its box the whole image, with the classes in falling order; none without a label; a
    file that could not be read is a failure."""
    numbers = {name: str(i) for i, name in enumerate(labelled.classes)}
    images: list[dict] = []
    for row in labelled.rows:
        sure = [[numbers[name], confidence] for name, confidence in row.ranking()]
        box = {"category": WHOLE, "conf": sure[0][1], "bbox": [0.0, 0.0, 1.0, 1.0], "classifications": sure} if sure else None
        told = {"reviewed": row.reviewed, "reviewer": row.reviewer} if row.reviewed else {}
        images.append({"file": row.path, "detections": [box] if box else [], **told})
    failed = [(path, reason) for path, reason in labelled.left_out if Path(path).suffix.lower() in IMAGE_SUFFIXES]
    images += [{"file": path, "detections": None, "failure": reason} for path, reason in failed]
    info = {"format_version": "1.6", "classifier": labelled.maker}
    categories = {number: name for name, number in numbers.items()}
    content = {"info": info, "detection_categories": {WHOLE: IMAGE}, "classification_categories": categories, "images": images}
    return {"megadetector.json": _json(content)}


FORMATS: dict[str, Callable[[Labelled, Choices], Files]] = {
    "labelstudio": to_labelstudio,
    "fiftyone": to_fiftyone,
    "imagefolder": to_imagefolder,
    "csv": to_csv,
    "megadetector": to_megadetector,
    "parquet": to_parquet,
}


def _cells(row: Row, labelled: Labelled) -> list[str]:
    return [*astuple(row)[: len(FIRST)], *(row.more.get(column, "") for column in labelled.columns)]


def _choice(label: str) -> dict:
    """A result of Label Studio: the choice of a class."""
    return {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def _json(content: object) -> bytes:
    """In ASCII: some readers open files in the encoding of their machine, and a path may hold bytes that are no UTF-8."""
    return (json.dumps(content, indent=1) + "\n").encode()
