import json
from dataclasses import replace

import pytest

from gta.attributes import Bank
from gta.charts import method
from gta.llm.chat import LanguageModel, Question
from gta.llm.ledger import Ledger
from gta.studies import inspection
from gta.worlds.fieldguide import language_model


def test_pair_similarity_is_the_cosine_of_mean_texts_without_and_with_the_answers(encoder):
    bank = Bank.from_template(["three", "eight", "one"], "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    grown = bank.add(0, ["no closed loop"], source="pair", against="eight", iteration=0)
    grown = replace(grown, asked=((0, 0, 1, 7),))
    frame = inspection.pair_similarity(encoder, grown)
    assert frame.loc[0, ["iteration", "pair", "images"]].tolist() == [0, "three / eight", 7]
    for when, of_three in (("before", bank.texts[0]), ("after", grown.texts[0])):
        a, b = (encoder.encode_texts(texts).double().mean(0) for texts in (of_three, bank.texts[1]))
        assert frame.loc[0, when] == pytest.approx(float(a @ b / (a @ a).sqrt() / (b @ b).sqrt()), abs=1e-5)
    assert method.pair_similarity(frame).axes[0].get_yticklabels()[0].get_text() == "three / eight"
    assert len(inspection.pair_similarity(encoder, bank)) == 0


def test_the_ledger_as_a_table(tmp_path):
    with language_model("fieldguide", 0, Ledger(tmp_path)) as llm:
        llm.ask([Question('What of "three"?', "three"), Question('"one" or "two"?', "one", "two")])
    table = inspection.asked(Ledger(tmp_path))
    assert table.about.tolist() == ["'one' against 'two'", "'three'"] and table.status.tolist() == ["answered"] * 2
    assert json.loads(table.answer[1])["attributes"] and table.tokens.sum() == llm.usage.tokens
    assert len(inspection.asked(Ledger(tmp_path / "none"))) == 0


def test_guides_that_say_different_things_share_no_answer(tmp_path):
    for seed in (0, 1):
        with language_model("fieldguide", seed, Ledger(tmp_path)) as llm:
            assert isinstance(llm, LanguageModel)
            llm.ask([Question('What of "three"?', "three")])
            assert llm.usage.recorded == 0
