"""A dry walk through docs/first-hour.md: its own commands, for CUB with ViT-B/16, on eight made images, random weights, a local server."""

import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import open_clip
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import published
from endpoint import chat, endpoint, reply
from gta.data import manifests
from gta.encoders.weights import OPENAI, WEIGHTS
from gta.files import ROOT
from gta.scores.rows import read_table

PAGE = (ROOT / "docs/first-hour.md").read_text(encoding="utf-8")
# Commands that need the network, or that a test has behind it.
LEFT_OUT = (
    "make test",
    "source .venv/bin/activate",
    "python -m gta data fetch",
    "python -m gta data verify eurosat --root /path/to/yours",
    "git clone",
    "git -C",
)
CELL = {"eurosat": "cub", "ViT-B/32": "ViT-B/16", "ViT-B_32": "ViT-B_16"}
# No random weights are as accurate as published. In float16 a CPU takes minutes to learn from a single image, so that this run ends
# before it adapts.
SHORT = {"as_released": " -p go_on True -p iterations 1", "as_described": " -p go_on True -p smoke True"}
URL = "http://localhost:11434/v1"
MODEL = "llama3.1"
KEY = "sk-very-secret-0123456789"
FOLDERS = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross", "142.Black_Tern"]
NAMES = ["Black footed Albatross", "Laysan Albatross", "Sooty Albatross", "Black Tern"]


def typed() -> list[str]:
    """Every command of the page: its indented lines, those that go on in the next one joined."""
    lines = [line[4:] for line in PAGE.splitlines() if line.startswith("    ")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def of_the_walk(places: dict[str, str]) -> list[str]:
    """The commands that can be walked, with the words of another cell and other places; every word is on the page."""
    commands = [command for command in typed() if not command.startswith(LEFT_OUT)]
    for old, new in {**CELL, **places}.items():
        assert any(old in command for command in commands), f"{old} is not on the page"
        commands = [command.replace(old, new) for command in commands]
    return [
        command + "".join(SHORT[preset] for preset in SHORT if command.startswith("papermill") and preset in command)
        for command in commands
    ]


def test_the_commits_of_the_page_are_those_of_the_manifests():
    for name in ("adaptclipzs", "gta_clip_llama3"):
        source = manifests.attributes()[name]
        folder = f"../{source.repository.rpartition('/')[2]}"
        commands = [f"git clone {source.repository} {folder}", f"git -C {folder} checkout {source.commit}"]
        assert [command for command in typed() if command.startswith("git") and folder in command] == commands


def test_each_command_that_is_left_out_is_on_the_page():
    assert all(any(command.startswith(name) for command in typed()) for name in LEFT_OUT)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of the Hub with random weights in the place of OpenAI's."""
    (weights,) = [encoder for encoder in manifests.encoders() if encoder.name == "ViT-B/16"]
    folder = tmp_path_factory.mktemp("hub")
    repository = folder / f"models--{weights.hub.replace('/', '--')}"
    published.put(repository / "refs/main", "0" * 40)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(OPENAI[weights.name])
    file = repository / "snapshots" / ("0" * 40) / WEIGHTS[0]
    file.parent.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)
    return folder


@pytest.fixture
def walk(copy, cache, tmp_path_factory, monkeypatch):
    """A copy of the repository that knows four birds, with their images and checkouts of the published lists.

    Returns a function that types a command there: what it printed, after it ended well. Its `places` are the checkouts.
    """
    manifest = yaml.safe_load((copy / "data_manifests/cub.yaml").read_text(encoding="utf-8"))
    manifest["classes"] = [of for of in manifest["classes"] if next(iter(of)) in FOLDERS]
    lines = {
        "train": [["142.Black_Tern/Black_Tern_0079_143998.jpg", 3, FOLDERS[3]]]
        + [[f"{folder}/{folder[4:]}_0001_1.jpg", label, folder] for label, folder in enumerate(FOLDERS)],
        "val": [],
        "test": [[f"{folder}/{folder[4:]}_{i:04d}_{i}.jpg", label, folder] for label, folder in enumerate(FOLDERS) for i in (2, 3)],
    }
    manifest["splits"] = {split: len(entries) for split, entries in lines.items()}
    (copy / "data_manifests/cub.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    monkeypatch.setitem(published.LINES, "cub", lines)
    images = published.put_copy("cub", copy / "data") / "images"
    for i, (name, _, _) in enumerate(lines["test"]):  # so alike that no class is sure, and there is something to ask
        image = Image.new("RGB", (24, 24), (90, 120, 150))
        image.putpixel((0, 0), (90 + i % 2, 120 + i // 2 % 2, 150 + i // 4))
        image.save(images / name, "PNG")
    lists, pairs = tmp_path_factory.mktemp("lists"), tmp_path_factory.mktemp("pairs")
    for dataset, text in (
        ("cub", "A bird with wings of kind {}.\nA bird which has call {}.\n"),
        ("cub_location", '"A bird which lives at {}."\n'),
    ):
        for i, name in enumerate(NAMES):
            published.put(
                lists / manifests.attributes()["adaptclipzs"].datasets[dataset].path / f"{name}.txt", text.replace("{}", "ABCD"[i])
            )
    for name, other in combinations(NAMES, 2):  # one direction of each pair
        file = pairs / manifests.attributes()["gta_clip_llama3"].datasets["cub"].path / f"{name}_{other}.txt"
        published.put(file, f"a photo of a {name} bird with a darker bill.\n")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "PYTHONPATH": str(copy), "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": KEY}

    def run(command):
        done = subprocess.run(["bash", "-c", command], cwd=copy, env={**os.environ, **own}, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert KEY not in done.stdout + done.stderr, command
        return done.stdout

    run.places = {"../AdaptCLIPZS": str(lists), "../GTA-CLIP": str(pairs)}
    return run


def check_run(folder, preset, places):
    """Rows, regime and page of a run."""
    rows = {row.method: row for row in read_table(folder / "rows.csv")}
    assert {"CLIP", "TransCLIP", "GTA-CLIP"} <= set(rows)
    assert {(row.dataset, row.backbone, row.preset, row.variant, row.n_total) for row in rows.values()} == {
        ("cub", "ViT-B/16", preset, "", 8)
    }
    assert all(re.search(r", first attributes adaptclipzs-\w{8}$", row.llm) for row in rows.values())
    assert rows["GTA-CLIP"].oracle_best is not None and rows["GTA-CLIP"].oracle_best >= rows["GTA-CLIP"].accuracy
    regime = pd.read_csv(folder / "regime.csv")
    adapted = "smoke" in SHORT[preset]
    assert (regime.group.nunique() > 1) == adapted == bool((regime.gradient > 0).any()) and {preset} >= set(regime.preset)
    assert not any(place in (folder / name).read_text(encoding="utf-8") for place in places for name in ("rows.csv", "regime.csv"))
    page = (folder / "zero_shot.ipynb").read_text(encoding="utf-8")
    assert re.search(r"plain CLIP, ViT-B/16 on cub: \d+\.\d\d % here, 55\.20 % published", page)
    assert re.search(r"TransCLIP, ViT-B/16 on cub: \d+\.\d\d % here, 62\.23 % published", page)
    assert "adaptclipzs, cub: 8 texts taken" in page and "adaptclipzs, cub_location: 4 texts taken" in page
    return page


@pytest.mark.slow
def test_the_first_hour_is_walked_by_its_own_commands(walk, copy):
    keys = set()

    def answer(number, request, headers):
        keys.add(headers["Authorization"])
        return reply(body=chat(f'{{"attributes": ["a bill of length {number}", "a crown of hue {number}"]}}'))

    with endpoint(answer) as (url, seen):
        commands = of_the_walk({"../AdaptCLIPZS": walk.places["../AdaptCLIPZS"], URL: url})
        printed = {command: walk(command) for command in commands}
    said = "\n".join(printed.values())
    for what in (r"ready +ViT-B/16 +\S+safetensors", r"ready +cub +train 4, test 8", rf"ready +language model +{MODEL} at", r"\nready\n"):
        assert re.search(what, said), what
    for preset in ("as_released", "as_described"):
        check_run(copy / f"runs/{preset}/zero_shot/cub-ViT-B_16-s0", preset, walk.places.values())
        (shown,) = [text for command, text in printed.items() if f"tables show runs/{preset}/" in command]
        assert "GTA-CLIP" in shown and "oracle_best" in shown
    assert keys == {f"Bearer {KEY}"}
    asked = [{name for name in NAMES if f'"{name}"' in seen.text(i)} for i in range(len(seen)) if "zebra" not in seen.text(i)]
    assert len(asked) == len(seen) - 1, "doctor asks one question"
    assert asked and {len(names) for names in asked} == {2}, "first attributes are read, so that pairs alone are asked about"
    assert not [file for file in copy.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes() and file.suffix != ".py"]


@pytest.mark.slow
def test_the_first_hour_without_a_language_model(walk, copy):
    """The stored answers in place of the endpoint, as the page says; the run tells how many were not stored."""
    assert "-p llm gta_clip_llama3:../GTA-CLIP" in PAGE
    lists, pairs = walk.places.values()
    commands = of_the_walk({"../AdaptCLIPZS": lists, f"{MODEL}@{URL}": f"gta_clip_llama3:{pairs}"})
    for command in commands:
        if command.startswith(("mkdir", "papermill")) and "as_described/" in command:
            walk(command)
    page = check_run(copy / "runs/as_described/zero_shot/cub-ViT-B_16-s0", "as_described", walk.places.values())
    told = re.search(
        r"(\d+) questions, (\d+) with a stored answer, (\d+) with none, 0 with an empty one; no language model was asked", page
    )
    assert told and int(told[1]) == 2 * int(told[2]) == 2 * int(told[3]) > 0
