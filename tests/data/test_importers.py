"""Published formats with their quirks, in files of our own."""

import json

import pytest

from gta.attributes import Bank
from gta.data import importers, manifests

BIRDS = ["Reed Owl", "F/A-18", "sea_gull"]
SENTENCE = "a photo of a {name} bird {attribute}."


def write(folder, **files):
    for name, text in files.items():
        file = folder / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_a_file_a_class(tmp_path):
    files = {
        "Reed Owl": "A bird with a round head.\na bird which hoots\n\nA bird with a round head.\nIn winter it sleeps.\n",
        "FSLASHA-18": '"A bird with swept wings."\n"A bird with two tails."\n',
        "sea gull": "The sea_gull is a bird which eats chips.\nThis bird is often seen at piers.\nA bird with a bill (yellow",
        "tabby": "A pet with stripes.\n",
    }
    bank, report = importers.class_files(
        write(tmp_path, **files), Bank.from_template(BIRDS), noun="bird", sentence=SENTENCE, ignore=["tabby"]
    )
    assert bank.texts == [
        ["a photo of a Reed Owl bird with a round head.", "a photo of a Reed Owl bird which hoots."],
        ["a photo of a F/A-18 bird with swept wings.", "a photo of a F/A-18 bird with two tails."],
        ["a photo of a sea_gull bird which eats chips.", "a photo of a sea_gull bird that is often seen at piers."],
    ]
    assert report.taken == 6 and report.fixed == {"another beginning": 2, "quoted": 2} and report.ignored == ["tabby.txt"]
    assert report.dropped == {"another beginning": 1, "cut off": 1, "duplicate": 1}
    assert {(a.source, a.origin) for of_class in bank.attributes for a in of_class} == {("imported", tmp_path.name)}
    assert str(report).startswith("6 texts taken; fixed 2 another beginning, 2 quoted; dropped")


def test_a_file_without_class_and_a_class_without_file_are_errors(tmp_path):
    write(tmp_path, **{"Reed Owls": "A bird with a head.\n"})
    with pytest.raises(ValueError, match=r"Reed Owls\.txt: no class 'Reed Owls'; did you mean 'Reed Owl'"):
        importers.class_files(tmp_path, Bank.from_template(BIRDS), noun="bird", sentence=SENTENCE)
    bank, _ = importers.class_files(
        tmp_path, Bank.from_template(["Reed Owl"]), noun="bird", sentence=SENTENCE, aliases={"Reed Owls": "Reed Owl"}
    )
    assert bank.texts == [["a photo of a Reed Owl bird with a head."]]
    with pytest.raises(ValueError, match="no file for 'Barn Owl'"):
        importers.class_files(
            tmp_path, Bank.from_template(["Reed Owl", "Barn Owl"]), noun="bird", sentence=SENTENCE, aliases={"Reed Owls": "Reed Owl"}
        )


def test_a_file_a_pair(tmp_path):
    files = {
        "Reed Owl_sea_gull": "a photo of a Reed Owl with big eyes.\na photo of a Reed Owl with big eyes.\nA soft plumage.\n"
        "a photo of a Reed Owl, not a sea gull.\na photo of a Reed Owl with a round fa",
        "sea_gull_Reed Owl": "",
        "F/A-18_Reed Owl": "a photo of a F/A-18 with swept wings.\n",
    }
    bank, report = importers.pair_files(write(tmp_path, **files), Bank.from_template(BIRDS))
    assert bank.texts[0][1:] == ["a photo of a Reed Owl with big eyes.", "a photo of a Reed Owl with a soft plumage."]
    assert [attribute.against for attribute in bank.attributes[0]] == [None, "sea_gull", "sea_gull"]
    assert bank.texts[1][1:] == ["a photo of a F/A-18 with swept wings."] and len(bank.texts[2]) == 1
    assert report.empty == ["sea_gull_Reed Owl.txt"] and report.fixed == {"without the class's name": 1}
    assert report.dropped == {"cut off": 1, "duplicate": 1, "naming the other class": 1}


@pytest.mark.parametrize(
    ("name", "message"), [("Reed Owl_sea_gul", "no class 'sea_gul'; did you mean 'sea_gull'"), ("notes", "not named A_B")]
)
def test_a_pair_of_no_classes_is_an_error(name, message, tmp_path):
    write(tmp_path, **{name: "a photo.\n"})
    with pytest.raises(ValueError, match=message):
        importers.pair_files(tmp_path, Bank.from_template(BIRDS))


def test_one_json(tmp_path):
    texts = {
        "reed owl": ["A Reed Owl is round.", "scapeIn a photo, it sits.", " CoverThe owl blinks.", "\n\nA Reed Owl is  round.", "It has a"],
        "F/A-18": ["It has two tails."],
        "sea gull": ["McGull eats."],
    }
    (tmp_path / "birds.json").write_text(json.dumps(texts))
    bank, report = importers.class_json(tmp_path / "birds.json", Bank.from_template(BIRDS))
    assert bank.texts == [["A Reed Owl is round.", "In a photo, it sits.", "The owl blinks."], ["It has two tails."], ["McGull eats."]]
    assert report.fixed == {"glued to the end of its prompt": 2} and report.dropped == {"cut off": 1, "duplicate": 1}
    (tmp_path / "birds.json").write_text(json.dumps({**texts, "sea guls": []}))
    with pytest.raises(ValueError, match=r"'sea guls': no class 'sea guls'; did you mean 'sea_gull'"):
        importers.class_json(tmp_path / "birds.json", Bank.from_template(BIRDS))


def test_classes_of_one_spelling_share_a_list(tmp_path):
    (tmp_path / "m.json").write_text('{"missile": ["It has fins."]}')
    assert importers.class_json(tmp_path / "m.json", Bank.from_template(["missile", "missile"]))[0].texts == [["It has fins."]] * 2


@pytest.mark.parametrize("name", manifests.attributes())
def test_a_manifest_leads_an_importer_to_a_file_of_its_format_in_a_checkout(name, tmp_path):
    source = manifests.attributes()[name]
    for dataset, listed in source.datasets.items():
        with pytest.raises(FileNotFoundError, match=source.commit):
            importers.read(name, dataset, tmp_path, Bank.from_template(["owl", "gull"]))
        path = tmp_path / listed.path
        if source.format == "class_json":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"owl": ["It hoots."], "gull": ["It cries."]}')
        elif source.format == "pair_files":
            write(path, owl_gull="a photo of an owl that hoots.\n")
        else:
            write(path, **{name: f"A {listed.noun} which {name}s.\n" for name in ("owl", "gull")})
        bank, report = importers.read(name, dataset, tmp_path, Bank.from_template(["owl", "gull"]))
        assert report.taken >= 1 and "owl" in bank.texts[0][-1].lower() + "owl" * (source.format == "class_json")


def test_an_unknown_list_suggests_the_nearest(tmp_path):
    bank = Bank.from_template(["owl"])
    with pytest.raises(ValueError, match="did you mean 'adaptclipzs'"):
        importers.read("adaptclip", "cub", tmp_path, bank)
    with pytest.raises(ValueError, match="did you mean 'eurosat'"):
        importers.read("adaptclipzs", "eurosats", tmp_path, bank)
