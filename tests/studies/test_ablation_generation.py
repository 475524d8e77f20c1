"""Each variant of generation against what it says it changes."""

import random
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from gta.charts import generation as charts
from gta.charts.drawing import VERDICTS
from gta.data import tasks
from gta.llm.chat import Question, Reply
from gta.scores import statistics
from gta.studies import ablation_generation
from gta.studies.ablation_generation import Capped, RandomAttributes, question_of
from gta.studies.study import Study
from gta.studies.zero_shot import WITHHELD
from gta.worlds import fieldguide
from gta.worlds.glyphs import FACTS
from gta.worlds.settings import settings_for
from small import row


class Parrot:
    """Says three phrases of a class, each with its name in it, and those of a pair with both."""

    model = "parrot"

    def ask(self, questions):
        about = [question.name + (f" not {question.against}" if question.against else "") for question in questions]
        return [Reply(tuple(f"{name} {k}" for k in range(3))) for name in about]


@pytest.fixture
def study(encoder, glyphs, guide_llm):
    task = replace(tasks.load("digits"), images=glyphs[0][:30])
    return Study.of(task, encoder, settings_for("embedded", iterations=2, margin=0.9), guide_llm)


def test_a_cap_keeps_the_first_phrases_of_its_kind_of_answer_alone():
    questions = [Question("?", "a"), Question("?", "a", "b")]
    assert [reply.phrases for reply in Capped(Parrot(), at_first=1).ask(questions)] == [("a 0",), ("a not b 0", "a not b 1", "a not b 2")]
    assert [len(reply.phrases) for reply in Capped(Parrot(), a_pair=2).ask(questions)] == [3, 2]
    known = Question("Known of the first: a not b 0", "a", "b")
    assert Capped(Parrot(), a_pair=1).ask([known])[0].phrases == ("a not b 1",), "what is known does not count"
    assert Capped(Parrot(), at_first=1).model != Capped(Parrot(), a_pair=1).model != "parrot"


def test_random_attributes_are_as_many_of_other_classes_the_same_each_time():
    drawn = [RandomAttributes(Parrot(), "abcd", "Tell of {name}", 0).ask([Question("?", name) for name in "abcd"]) for _ in range(2)]
    assert drawn[0] == drawn[1]
    for name, reply in zip("abcd", drawn[0], strict=True):
        assert len(set(reply.phrases)) == 3 and not any(phrase.startswith(name) for phrase in reply.phrases)
    of_many = {phrase[0] for reply in drawn[0] for phrase in reply.phrases}
    assert len(of_many) > 1, "not those of one class"


def test_random_attributes_grow_no_faster_than_those_of_the_model():
    control = RandomAttributes(Parrot(), "abcd", "Tell of {name}", 0)
    (first,) = control.ask([Question("?", "a")])
    assert control.ask([Question("and against b?", "a")]) == [first], "what the model repeats is repeated"
    (more,) = control.ask([Question("?", "a", "b")])
    assert 1 <= len(more.phrases) <= 3 and not set(more.phrases) & set(first.phrases), "what it had not said is new"
    assert control.ask([Question("??", "a", "b")]) == [more]


def test_a_guide_errs_by_the_shares_that_it_is_given():
    perfect = fieldguide.draw_guide(0, FACTS, omitted=0, wrong=0)
    assert all(sorted(perfect[name]) == sorted(FACTS[name]) for name in FACTS)
    hollow = fieldguide.draw_guide(0, FACTS, omitted=1, wrong=0)
    assert all(len(said) == 1 and said[0] in FACTS[name] for name, said in hollow.items())
    false = fieldguide.draw_guide(0, FACTS, omitted=0, wrong=1)
    assert not any(set(false[name]) & set(FACTS[name]) for name in FACTS)


@pytest.mark.parametrize("name", ["fieldguide:0.5", "fieldguide:a:b", "fieldguide:0.5:1.5", "fieldguide:0:0:0"])
def test_a_guide_of_no_shares_is_refused(name):
    with pytest.raises(ValueError, match="is not fieldguide:OMITTED:WRONG"):
        ablation_generation.shares(name)
    assert ablation_generation.shares("fieldguide:0.5:0") == (0.5, 0)


def test_unknown_variants_and_random_words_without_names_are_refused_before_anything_is_asked(study):
    with pytest.raises(ValueError, match="did you mean 'random words'"):
        ablation_generation.generation(study, "said", ["random word"])
    with pytest.raises(ValueError, match="the same for all classes"):
        ablation_generation.generation(study, "withheld", ["random words"])
    assert study.llm.usage.questions == 0


def test_each_variant_changes_what_it_says(study):
    variants = ["1 attribute at first", "1 attribute a pair's answer", "no generate", "one iteration", "random words"]
    runs = ablation_generation.generation(study, "said", variants)
    whole = runs[""].attributes
    at_first = {variant: [len(texts) for texts in run.attributes.at(-1).texts] for variant, run in runs.items()}
    assert whole.asked and set(at_first["1 attribute at first"]) == {1} and max(at_first[""]) > 1
    of_pairs = [[a.against for a in of_class if a.against] for of_class in runs["1 attribute a pair's answer"].attributes.attributes]
    assert any(of_pairs) and all(len(set(against)) == len(against) for against in of_pairs)
    assert not runs["no generate"].attributes.asked and runs["no generate"].attributes.at(-1).texts == whole.at(-1).texts
    assert (runs["one iteration"].attributes.memory, whole.memory) == ("one_iteration", "cumulative")
    words = [
        [text.replace(f"digit {name} ", "") for text in texts]
        for name, texts in zip(FACTS, runs["random words"].attributes.texts, strict=False)
    ]
    assert len(words) == 10 and all(texts == words[0] for texts in words) and len(words[0]) >= 2
    assert {baseline for _, _, baseline in study.outcomes.values()} == {("GTA-CLIP", "")}


def test_withheld_names_are_in_no_text_and_their_rows_are_compared_with_their_own_whole(study):
    runs = ablation_generation.generation(study, "withheld", ["no generate"])
    texts = [text for of_class in runs[""].attributes.texts for text in of_class]
    assert not any("digit" in text for text in texts)
    assert set(study.outcomes) == {(m, WITHHELD) for m in ("CLIP+attributes", "TransCLIP+attributes", "GTA-CLIP")} | {
        ("GTA-CLIP", f"{WITHHELD}, no generate")
    }
    assert {baseline for _, _, baseline in study.outcomes.values()} == {("GTA-CLIP", WITHHELD)}


def test_rows_are_grouped_by_their_question_and_coloured_only_where_the_interval_over_encoders_says():
    named = f"{WITHHELD}, model: guide, 0 % left out, 0 % wrong"
    assert [question_of(v) for v in ("", named, "one iteration", f"{WITHHELD}, random pairs")] == ["", "model", "memory", "controls"]
    counts = {"": (200, 200), "one iteration": (230, 231), "random pairs": (230, 205), "no generate": (150, 151)}
    rows, right = [], {}
    for (variant, by_seed), seed in ((item, seed) for item in counts.items() for seed in (0, 1)):
        count, whole = by_seed[seed], counts[""][seed]
        line = {"run_id": f"{variant}{seed}", "method": "GTA-CLIP", "variant": variant, "seed": seed, "baseline": "GTA-CLIP"}
        gain = {"gain": (count - whole) / 4, "gain_low": (count - whole) / 4 - 2, "gain_high": (count - whole) / 4 + 2}
        rows.append(row(**line, **gain, n_correct=count, n_total=400, accuracy=count / 4))
        right[line["run_id"]] = np.arange(400) < count
    paired = statistics.paired(random.Random(0).sample(rows, len(rows)), right)
    lines = charts.table(rows, paired).set_index("row").verdict
    assert lines.to_dict() == {charts.WHOLE: "", "no generate": "worse", "one iteration": "better", "random pairs": ""}
    figure = charts.gains_by_question(rows, paired)
    (axis,) = figure.axes
    plt.close(figure)
    colours = [line.get_color() for line in axis.lines if line.get_marker() == "o"]
    assert len(colours) == 6, "two seeds of three rows; the whole method is not compared with itself"
    assert [colours.count(VERDICTS[said]) for said in ("better", "worse", "")] == [2, 2, 2]
    assert len(axis.patches) == 3, "an interval over encoders of each row"
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == [charts.WHOLE, "number", "no generate", "memory", "one iteration", "controls", "random pairs"]
