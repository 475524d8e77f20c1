"""First attributes and answers that are read: made lists in the published formats, for the glyphs in place of the digits."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from gta.attributes import Bank
from gta.data import manifests, tasks
from gta.llm import prompts
from gta.studies import sources, zero_shot
from gta.studies.study import Study
from gta.worlds.fieldguide import language_model
from gta.worlds.glyphs import DIGITS, FACTS
from gta.worlds.settings import settings_for

SETTINGS = settings_for("embedded", iterations=2, margin=0.9, lr=1e-3, lr_projection=1e-3, confident=3)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with a list and a file for one pair, which two manifests name."""
    known = manifests.attributes()
    for name, folder, options in (
        ("adaptclipzs", "lists", {"noun": "digit", "sentence": "the digit {name} {attribute}."}),
        ("gta_clip_llama3", "pairs", {}),
    ):
        listed = manifests.AttributeList(path=folder, evidence="verified: made here", **options)
        known[name] = known[name].model_copy(update={"datasets": {"digits": listed}})
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(manifests, "attributes", lambda: known)
    for name in DIGITS:
        (tmp_path / f"lists/{name}.txt").write_text(f"A digit with {FACTS[name][0]}.\n", encoding="utf-8")
    (tmp_path / "pairs/one_seven.txt").write_text("the digit one on the right\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def task(glyphs, monkeypatch):
    images, labels = glyphs
    monkeypatch.setattr(tasks.digits, "load", lambda split: ([f"glyph/{i}" for i in range(60)], images, labels.numpy()))
    return tasks.load("digits")


def texts(name):
    return [f"the digit {name} with {FACTS[name][0]}."]


def test_by_default_a_language_model_is_asked_for_both(task, checkout):
    assert sources.first("ask", task) is None
    assert all(
        sources.answers(llm, task) is None for llm in ("fieldguide", "llama3.1:8b@http://127.0.0.1:1/v1", "gta_clip_llama3@http://h/v1")
    )


def test_a_published_list_becomes_the_first_attributes_and_is_told(task, checkout, capsys):
    first = sources.first(f"adaptclipzs:{checkout}", task)
    assert first.of(Bank.from_template(DIGITS)).texts == [texts(name) for name in DIGITS]
    assert f"adaptclipzs, digits: 10 texts taken\nfirst attributes: {first.name}" in capsys.readouterr().out
    assert first.name.startswith("adaptclipzs-") and str(checkout) not in first.name
    (checkout / "lists/one.txt").write_text("A digit with a stroke.\n", encoding="utf-8")
    assert sources.first(f"adaptclipzs:{checkout}", task).name != first.name


def test_of_a_bank_the_texts_count_that_it_began_with(task, checkout):
    bank = Bank.from_template(DIGITS, sentence="another {attribute}").add(1, ["at first"], source="static")
    grown = bank.add(1, ["later"], source="pair", iteration=0, against="seven")
    grown.save(checkout / "bank.json")
    first = sources.first(str(checkout / "bank.json"), task)
    found = first.of(Bank.from_template(task.class_names, task.template, task.sentence))
    assert found.texts == bank.texts and found.sentence == task.sentence and first.name.startswith("bank.json-")
    Bank.from_template(DIGITS[:9]).save(checkout / "bank.json")
    with pytest.raises(ValueError, match=r"bank\.json has no class 'nine'"):
        sources.first(str(checkout / "bank.json"), task)


def test_a_part_of_a_dataset_has_its_part_of_the_list(task, tmp_path):
    listed, names = manifests.attributes()["adaptclipzs"].datasets["eurosat"], manifests.dataset("eurosat").class_names
    (tmp_path / listed.path).mkdir(parents=True)
    for name in {*names} - {*listed.aliases.values()} | {*listed.aliases}:
        (tmp_path / listed.path / f"{name}.txt").write_text("A satellite image which is green.\n", encoding="utf-8")
    part = replace(task, name="eurosat#new", class_names=names[5:])
    first = sources.first(f"adaptclipzs:{tmp_path}", part)
    assert first.of(Bank.from_template(names[5:])).texts == [
        [f"a centered satellite photo of {name} which is green."] for name in names[5:]
    ]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("asks", ValueError, "attributes 'asks' is neither 'ask', nor LIST:CHECKOUT .* did you mean 'ask'"),
        ("adaptclip:there", ValueError, "did you mean 'adaptclipzs'"),
        ("gone.json", ValueError, "nor the file of a bank"),
        ("adaptclipzs:no/such/folder", FileNotFoundError, "check out https://github.com/cvl-umass/AdaptCLIPZS at ed6849f"),
        ("cupl:no/such/folder", ValueError, "cupl has no 'digits'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_was_meant(value, error, message, task, checkout):
    with pytest.raises(error, match=message):
        sources.first(value, task)


def test_a_class_without_a_list_is_named_with_the_folder(task, checkout):
    (checkout / "lists/four.txt").unlink()
    with pytest.raises(ValueError, match="lists: no file for 'four'"):
        sources.first(f"adaptclipzs:{checkout}", task)


def test_a_run_without_a_language_model_serves_what_is_stored_and_rows_say_so(task, checkout, encoder, capsys):
    for a in DIGITS:
        for b in DIGITS[:5]:
            (checkout / f"pairs/{a}_{b}.txt").write_text(f"the digit {a} with no loop\n\n" if a != b else "", encoding="utf-8")
    first, llm = sources.first(f"adaptclipzs:{checkout}", task), sources.answers(f"gta_clip_llama3:{checkout}", task)
    study = Study.of(task, encoder, SETTINGS, llm, first=first)
    runs = zero_shot.zero_shot(study, ["", "no adapt", "names withheld", "shuffled classes"])
    assert list(runs) == ["", "no adapt"] and "ask for their own: names withheld, shuffled classes" in capsys.readouterr().out
    bank = runs[""].attributes
    asked = {(DIGITS[i], DIGITS[j]) for _, a, b, _ in bank.asked for i, j in ((a, b), (b, a))}
    answered = {pair for pair in asked if pair[1] in DIGITS[:5] or pair == ("one", "seven")}
    assert answered and asked - answered, "the example has pairs of both kinds"
    for name, found in zip(DIGITS, bank.texts, strict=True):
        said = {
            "the digit one on the right" if pair == ("one", "seven") else f"the digit {name} with no loop"
            for pair in answered
            if pair[0] == name
        }
        assert found[:1] == texts(name) and set(found[1:]) == said
    assert {(d.name, d.against) for d in bank.dropped if d.reason == "gave up"} == asked - answered
    assert llm.usage.questions == llm.usage.recorded + llm.usage.gave_up >= len(asked) and llm.usage.calls == 0
    rows, _ = study.score("embedded", "t", "hash", "done")
    assert {row.llm for row in rows} == {f"{study.questions.asked_of(llm.model)}, first attributes {first.name}"}


@pytest.mark.parametrize(("facts", "named"), [({}, False), (FACTS, True)])
def test_a_guide_that_knows_no_class_is_not_named_where_attributes_were_read(facts, named):
    first, questions = sources.First("told.yaml", {}), prompts.load("glyphs")
    with language_model("fieldguide", 0, facts=facts) as llm:
        asked = [Study.asked.fget(SimpleNamespace(first=of, llm=llm, questions=questions)) for of in (first, None)]
        assert asked[0] == (f"{asked[1]}, " if named else "") + f"first attributes {first.name}"
        assert asked[1].startswith(llm.model)
