"""From a folder to a reviewed and exported set: how many labels are right at each station of `python -m gta label`, `review`, `export`.

    python benchmarks/stations.py            # results/benchmarks/stations.csv; about five minutes of one core
    python benchmarks/stations.py --smoke    # 96 pictures, one iteration, under runs/smoke

Two folders of the world `aviary:0`: its 960 query pictures, and 3,000 that are drawn for it, of species at random. Species stand in their
families, a field guide is asked, and every station is the command that a user types. The reviewer is the truth: a round of 20 images is
answered in a CSV, a second one at the page's server, as the page does it. Then all six forms are written and read back. A row is a station:

answered     images with an answer so far;  accuracy  of all images, in %: the answer, else the label
others       the same of images that nobody answered;  family  of all images, in %: the family of the answer or label
named        images without an answer whose `label_at_rank` names a species or a family, in %;  named_right  of these, in %
read         images with a label in an export, as it is read back; its accuracy is that of what was read
"""

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import torch
from numpy.random import PCG64, Generator
from PIL import Image

from gta.__main__ import main as gta
from gta.files import ROOT, write_atomically
from gta.label import labelled
from gta.worlds.aviary import SIBLINGS, STRAYS, World, world
from gta.worlds.birds import SIZES, STYLES, draw, draw_look
from gta.worlds.fieldguide import draw_guide, serve
from measuring import begun, place, stamped

MANY, ROUND = 3000, 20


def main() -> None:
    smoke = begun(__doc__).smoke
    torch.set_num_threads(1)
    of, rows = world(0), []
    for count in (96,) if smoke else (len(of.labels("query")), MANY):
        with tempfile.TemporaryDirectory() as home:
            folder = few(of, Path(home)) if smoke else queries(of, Path(home)) if count < MANY else many(of, Path(home), count)
            for row in walk(folder, *(["--iterations", "1"] if smoke else [])):
                rows.append({"pictures": count, **row})
                print(json.dumps(rows[-1]), flush=True)
    frame = pd.DataFrame(rows).astype({"answered": "Int64", "read": "Int64"})  # a station has one of them
    write_atomically(place("stations", smoke), stamped(frame).to_csv(index=False))


@dataclass(frozen=True)
class Folder:
    """home: with `images`, `classes.yaml`, and `out` for the results; of: the world; truth: {path: species}, to answer and score by."""

    home: Path
    of: World
    truth: dict[str, str]

    @property
    def out(self) -> Path:
        return self.home / "out"

    def family(self, species: str) -> str:
        return f"family {self.of.names.index(species) // SIBLINGS + 1}"

    def right(self, path: str, name: str) -> bool:
        """Whether a species or a family is that of the picture."""
        return name in (self.truth[path], self.family(self.truth[path]))


def few(of: World, home: Path) -> Folder:
    """Every tenth of the query pictures."""
    return _written(of, home, of.pictures("query")[::10], of.labels("query")[::10])


def queries(of: World, home: Path) -> Folder:
    return _written(of, home, of.pictures("query"), of.labels("query"))


def many(of: World, home: Path, count: int) -> Folder:
    """New pictures as the world draws its own: the same looks, as many strays; species at random, so that sizes differ."""
    style, rng = STYLES["field"], Generator(PCG64([of.seed, 2]))
    looks = [draw_look(style, rng) for _ in of.names]
    rng = Generator(PCG64([of.seed, 4]))
    labels = rng.integers(len(of.names), size=count)
    birds, strays = of.species[labels], rng.integers(100, size=count) < STRAYS
    birds[:, -1] = (birds[:, -1] + strays * rng.integers(1, SIZES[-1], count)) % SIZES[-1]
    return _written(of, home, [draw(bird, style, looks[c], rng) for bird, c in zip(birds, labels, strict=True)], labels)


def _written(of: World, home: Path, pictures: Sequence[np.ndarray], labels: np.ndarray) -> Folder:
    """Names and their order say nothing of the species."""
    (home / "images").mkdir()
    truth = {}
    for number, i in enumerate(Generator(PCG64(of.seed)).permutation(len(pictures))):
        Image.fromarray(pictures[i]).save(home / f"images/{number:04d}.png")
        truth[f"{number:04d}.png"] = of.names[labels[i]]
    folder = Folder(home, of, truth)
    species = {name: {"parent": folder.family(name)} for name in of.names}
    classes = {"domain": "aviary", "ranks": ["family", "species"], "classes": species}
    (home / "classes.yaml").write_text(json.dumps(classes), encoding="utf-8")  # JSON is YAML
    return folder


def walk(folder: Folder, *more: str) -> Iterator[dict]:
    """A row for each station. more: words for `label`."""
    with serve(draw_guide(folder.of.seed, folder.of.facts)) as url:
        words = ["--classes", folder.home / "classes.yaml", "--encoder", "embedded", "--device", "cpu", "--llm", f"fieldguide@{url}"]
        command("label", folder.home / "images", *words, "--out", folder.out, *more)
    yield {"station": "labelled", **scored(folder)}
    answer_in_a_file(folder)
    yield {"station": "round 1, a CSV", **scored(folder)}
    answer_at_the_server(folder)
    yield {"station": "round 2, the page", **scored(folder)}
    for form, read in READERS.items():
        place = folder.home / form
        command("export", folder.out, "--to", form, "--out", place, *(["--copy"] if form == "imagefolder" else []))
        found = read(place)
        right = sum(folder.truth[path] == label for path, label in found.items())
        yield {"station": f"read from {form}", "read": len(found), "accuracy": percent(right, len(folder.truth))}


def command(*words: object) -> None:
    """A command of `python -m gta`, silently. Raises RuntimeError where it fails."""
    with open("/dev/null", "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        if gta([str(word) for word in words]):
            raise RuntimeError(" ".join(map(str, words)))


def answer_in_a_file(folder: Folder) -> None:
    command("review", folder.out, "--images", ROUND, "--file")
    file = folder.out / "round.csv"
    with open(file, newline="", encoding="utf-8") as stream:
        rows = [{**row, "label": folder.truth[row["path"]]} for row in csv.DictReader(stream)]
    pd.DataFrame(rows).to_csv(file, index=False)
    command("review", folder.out, "--read", file)


def answer_at_the_server(folder: Folder) -> None:
    """What the page sends, without a browser: the round is fetched, answered image by image, and finished."""
    words = [sys.executable, "-m", "gta", "review", str(folder.out), "--images", str(ROUND)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout
        url = process.stdout.readline().split()[1]
        with urlopen(f"{url}round") as answer:
            asked = json.load(answer)
        for number, image in enumerate(asked["images"]):
            _post(url, "answer", {"image": number, "label": asked["classes"].index(folder.truth[image["name"]])})
        _post(url, "finish", {})
        process.communicate()
    if process.returncode:
        raise RuntimeError(" ".join(words))


def _post(url: str, what: str, content: dict) -> None:
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    headers = {"Origin": origin, "Content-Type": "application/json"}
    urlopen(Request(url + what, json.dumps(content).encode(), headers)).close()


def scored(folder: Folder) -> dict[str, float]:
    """The measures of the labels as they stand: an answer wins."""
    rows = labelled.read(folder.out).rows
    others = [row for row in rows if not row.reviewed]
    named = [row for row in others if row.more["label_at_rank"]]
    return {
        "answered": len(rows) - len(others),
        "accuracy": percent(sum(row.label == folder.truth[row.path] for row in rows), len(rows)),
        "others": percent(sum(row.label == folder.truth[row.path] for row in others), len(others)),
        "family": percent(sum(folder.family(row.label) == folder.family(folder.truth[row.path]) for row in rows), len(rows)),
        "named": percent(len(named), len(others)),
        "named_right": percent(sum(folder.right(row.path, row.more["label_at_rank"]) for row in named), len(named)),
    }


def percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else float("nan")


def _of_table(rows: pd.DataFrame) -> dict[str, str]:
    return dict(zip(rows.path, rows.label, strict=True))


def _of_folders(place: Path) -> dict[str, str]:
    from torchvision.datasets import ImageFolder

    found, index = ImageFolder(str(place)), pd.read_csv(place / "index.csv").set_index("file").path
    return {index[Path(file).relative_to(place).as_posix()]: found.classes[number] for file, number in found.samples}


def _of_tasks(place: Path) -> dict[str, str]:
    found = {}
    for task in json.loads((place / "tasks.json").read_bytes()):
        (said, *_) = [*task["annotations"], *task["predictions"]]
        (file,) = parse_qs(urlsplit(task["data"]["image"]).query)["d"]
        found[Path(file).name] = said["result"][0]["value"]["choices"][0]
    return found


def _of_fiftyone(place: Path) -> dict[str, str]:
    told, places = (json.loads((place / name).read_bytes()) for name in ("labels.json", "data.json"))
    where = {Path(name).stem: Path(file).name for name, file in places.items()}
    return {where[key]: told["classes"][label["label"]] for key, label in told["labels"].items()}


def _of_detections(place: Path) -> dict[str, str]:
    told = json.loads((place / "megadetector.json").read_bytes())
    names = told["classification_categories"]
    return {image["file"]: names[box["classifications"][0][0]] for image in told["images"] for box in image["detections"]}


READERS: dict[str, Callable[[Path], dict[str, str]]] = {
    "csv": lambda place: _of_table(pd.read_csv(place / "labels.csv")),
    "parquet": lambda place: _of_table(pd.read_parquet(place / "labels.parquet")),
    "imagefolder": _of_folders,
    "labelstudio": _of_tasks,
    "fiftyone": _of_fiftyone,
    "megadetector": _of_detections,
}

if __name__ == "__main__":
    main()
