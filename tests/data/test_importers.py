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
        file.write_text(text, encoding="utf-8")
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
    (tmp_path / "birds.json").write_text(json.dumps(texts), encoding="utf-8")
    bank, report = importers.class_json(tmp_path / "birds.json", Bank.from_template(BIRDS))
    assert bank.texts == [["A Reed Owl is round.", "In a photo, it sits.", "The owl blinks."], ["It has two tails."], ["McGull eats."]]
    assert report.fixed == {"glued to the end of its prompt": 2} and report.dropped == {"cut off": 1, "duplicate": 1}
    (tmp_path / "birds.json").write_text(json.dumps({**texts, "sea guls": []}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"'sea guls': no class 'sea guls'; did you mean 'sea_gull'"):
        importers.class_json(tmp_path / "birds.json", Bank.from_template(BIRDS))


def test_classes_of_one_spelling_share_a_list(tmp_path):
    (tmp_path / "m.json").write_text('{"missile": ["It has fins."]}', encoding="utf-8")
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
            path.write_text('{"owl": ["It hoots."], "gull": ["It cries."]}', encoding="utf-8")
        elif source.format == "pair_files":
            write(path, owl_gull="a photo of an owl that hoots.\n")
        else:
            write(path, **{name: f"A {listed.noun} which {name}s.\n" for name in ("owl", "gull")})
        bank, report = importers.read(name, dataset, tmp_path, Bank.from_template(["owl", "gull"]))
        assert report.taken >= 1 and "owl" in bank.texts[0][-1].lower() + "owl" * (source.format == "class_json")


# Per list: a file and one line of it as published (made up), the class that it is about, and the text that the released program makes
# of the line: what stands behind a fixed width, after these words. Read in its `utils.py`.
RELEASED = [
    (
        "stanford_cars",
        "2012 Ram CSLASHV Cargo Van Minivan 2012",
        "A car with a bed.",
        "2012 Ram C/V Cargo Van Minivan 2012",
        "a photo of a {}",
        5,
    ),
    ("cub", "Black footed Albatross", "A bird with a beak.", "Black footed Albatross", "a photo of a {}", 1),
    ("cub_location", "Anna Hummingbird", '"A bird which is found at Anna\'s."', "Anna Hummingbird", "a photo of a {}", 1),
    ("food101", "apple_pie", "A food with a crust.", "apple pie", "a photo of {}, a type of", 1),
    ("oxford_flowers", "colt's foot", "A plant with a stem.", "colt's foot", "a photo of a {} flower", 7),
    ("oxford_flowers_location", "rose", 'a plant which grows in "rosaries" and it\'s garden.', "rose", "a photo of {} flower", 7),
    ("fgvc_aircraft", "FSLASHA-18", "An aircraft with two tails.", "F/A-18", "a photo of a {}", 2),
    ("eurosat", "SeaLake", "A satellite image which is blue.", "Sea or Lake", "a centered satellite photo of {}", 17),
    ("caltech101", "sea_horse", "An object with a snout.", "sea horse", "a photo of a {}", 9),
    ("imagenet", "n04356056", "An object which has lenses.", "sunglasses", "a photo of a {}", 9),
    ("dtd", "polka-dotted", "A texture that has dots.", "polka-dotted", "{} texture", 9),
    ("oxford_pets", "maine coon", "A pet which has a mane.", "maine coon", "a photo of a {}, a type of pet", 5),
    ("sun397", "backseat car_interior", "A scene which shows seats.", "backseat car interior", "a photo of a {}", 7),
    ("ucf101", "Yo_Yo", "An action which needs a string.", "Yo Yo", "a photo of a person doing {}", 9),
]


@pytest.mark.parametrize(("dataset", "file", "line", "name", "words", "width"), RELEASED, ids=lambda value: str(value)[:16])
def test_a_text_is_the_one_that_the_released_program_makes_of_the_line(dataset, file, line, name, words, width, tmp_path):
    listed = manifests.attributes()["adaptclipzs"].datasets[dataset]
    of_quotes = line.replace('"', "").replace("'", "") if dataset.endswith("location") else line
    write(tmp_path / listed.path, **{file: f"{line}\n\n{line}\n"})
    bank, _ = importers.read("adaptclipzs", dataset, tmp_path, Bank.from_template([name]))
    assert bank.texts == [[words.format(name) + of_quotes[width:]]]


def test_every_dataset_of_the_paper_has_a_list_and_answers():
    known = manifests.attributes()
    assert {name.removesuffix("_location") for name in known["adaptclipzs"].datasets} == set(manifests.names())
    assert set(known["gta_clip_llama3"].datasets) == set(manifests.names())


def test_files_named_by_wordnet_ids_and_two_classes_of_one_name(tmp_path):
    path = tmp_path / manifests.attributes()["adaptclipzs"].datasets["imagenet"].path
    write(path, n01440764="An object with fins.\n", n03773504="An object which flies.\n", n04008634="An object which is shot.\n")
    bank, report = importers.read("adaptclipzs", "imagenet", tmp_path, Bank.from_template(["tench", "missile", "missile"]))
    later = ["a photo of a missile which is shot."]
    assert bank.texts == [["a photo of a tench with fins."], later, later] and report.ignored == ["n03773504.txt"]
    with pytest.raises(ValueError, match=r"n01440764\.txt: no class 'tench'"):
        importers.read("adaptclipzs", "imagenet", tmp_path, Bank.from_template(["missile"]))


def test_first_attributes_are_the_list_and_the_habitats(tmp_path):
    listed = manifests.attributes()["adaptclipzs"].datasets
    write(tmp_path / listed["cub"].path, **{"Reed Owl": "A bird with a round head.\n"})
    write(tmp_path / listed["cub_location"].path, **{"Reed Owl": '"A bird which lives in reed."\n'})
    bank, reports = importers.first("adaptclipzs", "cub", tmp_path, Bank.from_template(["Reed Owl"]))
    assert bank.texts == [["a photo of a Reed Owl bird with a round head.", "a photo of a Reed Owl bird which lives in reed."]]
    assert {name: report.taken for name, report in reports.items()} == {"cub": 1, "cub_location": 1}


def test_answers_to_pairs_stay_apart_and_repeat_what_they_share(tmp_path):
    path = tmp_path / manifests.attributes()["gta_clip_llama3"].datasets["cub"].path
    same = "a photo of a Reed Owl bird with big eyes.\n"
    write(path, **{"Reed Owl_sea_gull": same + "A soft plumage.\n", "Reed Owl_F/A-18": same, "sea_gull_Reed Owl": ""})
    found, report = importers.answers("gta_clip_llama3", "cub", tmp_path, Bank.from_template(BIRDS))
    whole = same.strip()
    assert found == {
        ("Reed Owl", "sea_gull"): (whole, "a photo of a Reed Owl with a soft plumage."),
        ("Reed Owl", "F/A-18"): (whole,),
        ("sea_gull", "Reed Owl"): (),
    }
    assert report.taken == 3 and report.empty == ["sea_gull_Reed Owl.txt"]
    (tmp_path / manifests.attributes()["adaptclipzs"].datasets["cub"].path).mkdir(parents=True)
    with pytest.raises(ValueError, match="adaptclipzs holds no answers to pairs"):
        importers.answers("adaptclipzs", "cub", tmp_path, Bank.from_template(BIRDS))


def test_an_unknown_list_suggests_the_nearest(tmp_path):
    bank = Bank.from_template(["owl"])
    with pytest.raises(ValueError, match="did you mean 'adaptclipzs'"):
        importers.read("adaptclip", "cub", tmp_path, bank)
    with pytest.raises(ValueError, match="did you mean 'eurosat'"):
        importers.read("adaptclipzs", "eurosats", tmp_path, bank)
