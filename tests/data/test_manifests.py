"""The manifests against figures collected apart from them, and the schema against bad files."""

import hashlib
import shutil
from typing import get_args

import open_clip
import pytest
from open_clip.pretrained import get_pretrained_cfg

from gta.data import manifests
from gta.data.encoder_facts import Preprocessing, Role
from gta.encoders.weights import OPENAI
from gta.llm import prompts

# classes, train, val, test, the paper's template, and the start of the SHA-256 of the class names in label order, a line each:
# from the split files, the official lists and the authors' program, collected independently of the manifests.
FACTS = {
    "cub": (200, 5994, 0, 5794, "a photo of a {} bird", "a7bc058a7a945cf8"),
    "fgvc_aircraft": (100, 3334, 3333, 3333, "a photo of a {}, a type of aircraft.", "e1c9e72060e63d52"),
    "stanford_cars": (196, 6509, 1635, 8041, "a photo of a {}.", "2caca90b5c02b65f"),
    "oxford_flowers": (102, 4093, 1633, 2463, "a photo of a {}, a type of flower.", "0d27092c2140383d"),
    "eurosat": (10, 13500, 5400, 8100, "a centered satellite photo of {}.", "bcff3a8022b63397"),
    "food101": (101, 50500, 20200, 30300, "a photo of {}, a type of food.", "9c0eeb5a368baacb"),
    "imagenet": (1000, 1281167, 0, 50000, "a photo of a {}.", "571ae1c583b4be7d"),
    "caltech101": (100, 4128, 1649, 2465, "a photo of a {}.", "32e75ba1ea076239"),
    "dtd": (47, 2820, 1128, 1692, "{} texture", "681d23b9cd3c2ede"),
    "oxford_pets": (37, 2944, 736, 3669, "a photo of a {}, a type of pet.", "325452254a1c260e"),
    "sun397": (397, 15880, 3970, 19850, "a photo of a {}.", "2c2220ec5edea86f"),
    "ucf101": (101, 7639, 1898, 3783, "a photo of a person doing {}.", "911d40df1647f15a"),
}


@pytest.mark.parametrize("name", FACTS)
def test_a_manifest_says_what_the_paper_used(name):
    manifest = manifests.dataset(name)
    digest = hashlib.sha256("\n".join(manifest.class_names).encode()).hexdigest()[:16]
    sizes = (manifest.splits.train, manifest.splits.val, manifest.splits.test)
    assert (len(manifest.classes), *sizes, manifest.template, digest) == FACTS[name]
    assert manifest.name == name and manifest.licence and (manifest.sources or manifest.steps)
    prompts.load(manifest.domain)


@pytest.mark.parametrize("name", FACTS)
def test_split_sizes_and_class_order_are_verified_and_the_rest_is_counted(name):
    manifest = manifests.dataset(name)
    assert manifest.evidence["classes"].startswith("verified:") and manifest.evidence["splits"].startswith("verified:")
    assert manifest.known.total() == len(manifest.evidence) + len(manifest.sources) + len(manifest.variants)
    assert len(manifest.unverified) == manifest.known["inferred"] + manifest.known["memory"]


def test_the_twelve_have_2391_classes():
    assert set(manifests.names()) == set(FACTS)
    assert sum(len(manifests.dataset(name).classes) for name in manifests.names()) == 2391


@pytest.mark.parametrize(
    ("name", "label", "folder", "expected"),
    [
        ("eurosat", 0, "AnnualCrop", "Annual Crop Land"),
        ("eurosat", 9, "SeaLake", "Sea or Lake"),
        ("caltech101", 0, "Faces", "face"),
        ("caltech101", 2, "Motorbikes", "motorbike"),
        ("caltech101", 4, "airplanes", "airplane"),
        ("food101", 16, "cheese_plate", "cheese plate"),
        ("food101", 17, "cheesecake", "cheesecake"),
        ("sun397", 94, "c/church/indoor", "indoor church"),
        ("stanford_cars", 1, "2012 Acura RL Sedan", "2012 Acura RL Sedan"),
        ("stanford_cars", 173, "2012 Ram C/V Cargo Van Minivan", "2012 Ram C/V Cargo Van Minivan"),
        ("fgvc_aircraft", 72, "F-16A/B", "F-16A/B"),
        ("dtd", 30, "polka-dotted", "polka-dotted"),
        ("cub", 140, "141.Artic_Tern", "Artic Tern"),
        ("ucf101", 100, "Yo_Yo", "Yo Yo"),
        ("imagenet", 657, "n03773504", "missile"),
        ("imagenet", 744, "n04008634", "missile"),
        ("imagenet", 836, "n04355933", "sunglasses"),
        ("imagenet", 837, "n04356056", "sunglasses"),
    ],
)
def test_the_quirks_of_the_names(name, label, folder, expected):
    a_class = manifests.dataset(name).classes[label]
    assert (a_class.folder, a_class.name) == (folder, expected)


def test_names_that_are_not_distinct_and_folders_that_are_no_class():
    imagenet = manifests.dataset("imagenet")
    assert len(set(imagenet.class_names)) == 998
    assert list(imagenet.class_names) == list(open_clip.IMAGENET_CLASSNAMES)
    folders = [c.folder for c in imagenet.classes]
    assert folders == sorted(folders)
    caltech = manifests.dataset("caltech101")
    assert {"BACKGROUND_Google", "Faces_easy"} == set(caltech.ignored)
    assert not set(caltech.ignored) & {c.folder for c in caltech.classes}


@pytest.mark.parametrize(("name", "wrong"), [("dtd", 1880), ("oxford_flowers", 6149), ("oxford_pets", 3680), ("caltech101", 6084)])
def test_sizes_that_circulate_are_known_as_wrong(name, wrong):
    assert wrong in {variant.test for variant in manifests.dataset(name).variants}


def test_the_papers_encoders_are_what_open_clip_would_load():
    weights = {manifest.name: manifest for manifest in manifests.encoders()}
    assert {name: manifest.architecture for name, manifest in weights.items()} == OPENAI
    for manifest in weights.values():
        tag = get_pretrained_cfg(manifest.architecture, manifest.pretrained)
        assert open_clip.get_model_config(manifest.architecture)["quick_gelu"] and manifest.checkpoint_sha256 in tag["url"]


ENCODERS = {of.name: of for role in get_args(Role) for of in manifests.encoders(role)}


def test_the_encoders_of_today_are_others_than_the_papers_and_stand_in_files_of_their_names():
    assert len(ENCODERS) == 13 and not set(OPENAI) & {of.name for of in manifests.encoders("today")}
    files = {file.stem for file in (manifests.FOLDER / "encoders").glob("*.yaml")}
    assert files == {name.replace("/", "-") for name in ENCODERS}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_what_open_clip_says_of_its_tag(name):
    manifest = ENCODERS[name]
    assert manifest.known.total() == len(manifest.evidence)
    if manifest.pretrained is None:  # BioCLIP 2: its repository describes it, so what is said here cannot be verified by open_clip
        assert not any(manifest.evidence[fact].startswith("verified") for fact in ("architecture", "preprocessing", "texts", "parameters"))
        return
    tag = get_pretrained_cfg(manifest.architecture, manifest.pretrained)
    assert tag["hf_hub"].strip("/") == manifest.hub
    read = {name: tuple(value) if isinstance(value, list) else value for name, value in tag.items()}
    assert {fact: read[fact] for fact in Preprocessing.model_fields} == manifest.preprocessing.model_dump()
    assert bool(tag.get("quick_gelu")) == (manifest.activation.image == "quick_gelu")


def test_no_encoder_is_there_whose_facts_contradict_each_other():
    """DFN B/16: its tag says QuickGELU, and its published accuracy stands under the name of the architecture with GELU."""
    assert not [of for of in ENCODERS.values() if of.hub == "apple/DFN2B-CLIP-ViT-B-16"]
    assert get_pretrained_cfg("ViT-B-16", "dfn2b")["quick_gelu"], "open_clip has changed its mind: read its changes, add the manifest"


def test_attribute_lists_say_how_sure_they_are():
    for name, manifest in manifests.attributes().items():
        assert manifest.known.total() == 3 + len(manifest.datasets), name
        assert {dataset.removesuffix("_location") for dataset in manifest.datasets} <= set(FACTS), name
    stray = manifests.attributes()["adaptclipzs"].datasets["dtd"].ignore  # seven pets in the folder of the textures
    assert len(stray) == 7 and set(stray) <= {c.name for c in manifests.dataset("oxford_pets").classes} | {"american pit bull terrier"}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("licence: MIT", "license: MIT", r"unknown parameter 'license'; did you mean 'licence'"),
        ("  licence: 'verified: Hub cards'\n", "", "evidence is missing for licence"),
        ("  licence: 'verified: Hub cards'", "  licence: 'sure: Hub cards'", "evidence.licence: String should match"),
        ("evidence:\n  classes", "evidence:\n  colour: memory\n  classes", "evidence for 'colour', which is no fact"),
        ("licence: MIT", "licence: MIT\nlicence: BSD", "'licence' is given twice"),
        ("  - Forest\n", "  - Forest\n  - Forest\n", "two classes share a folder"),
        ("rule: split_json", "rule: cub_lists", "belong together"),
        ("revision: ceb3112337fb6e1bf71534e355ca5569b63f19a6", "revision: main", "revision: String should match"),
        ("test: 8100", "test: many", "splits.test"),
        ("name: eurosat", "name: [", "while parsing"),
    ],
)
def test_a_bad_manifest_is_refused_by_file_and_field(before, after, message, tmp_path, monkeypatch):
    text = (manifests.FOLDER / "eurosat.yaml").read_text(encoding="utf-8")
    assert before in text
    (tmp_path / "eurosat.yaml").write_text(text.replace(before, after, 1), encoding="utf-8")
    monkeypatch.setattr(manifests, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        manifests.dataset("eurosat")
    assert str(tmp_path / "eurosat.yaml") in str(error.value)


def test_an_unknown_dataset_is_told_the_nearest(tmp_path, monkeypatch):
    shutil.copy(manifests.FOLDER / "eurosat.yaml", tmp_path)
    monkeypatch.setattr(manifests, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="no dataset 'EuroSat'; did you mean 'eurosat'"):
        manifests.dataset("EuroSat")
