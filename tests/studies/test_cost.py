"""Seconds by stage, and what answers cost, against sums by hand."""

from types import SimpleNamespace

import pandas as pd
import pytest

from gta.charts import cost as charts
from gta.charts import frames
from gta.data import tasks
from gta.llm.chat import Question
from gta.llm.ledger import Ledger
from gta.studies import cost
from gta.studies.cost import Cost, Counted
from gta.studies.study import Study
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for

GIVEN = dict(dataset="digits", backbone="embedded", pretrained=None, revision=None, seed=0, store="s", llm="fieldguide", ledger="l")
GIVEN |= dict(mode="record", max_calls=None, iterations=1, smoke=False, out="o", price_prompt=2.0, price_answer=10.0)
ASKED = [Question(f'What does the digit "{name}" look like?', name) for name in ("one", "two", "three")]


def test_stages_are_summed_over_iterations_and_both_transductions_are_one():
    steps = [
        {"seconds_encode": 1, "seconds_transduct": 2, "seconds_transduct again": 4, "seconds_generate": 8, "seconds_adapt": 16, "loss": 3}
    ]
    steps.append({"seconds_encode": 32, "seconds_transduct": 64, "seconds_generate": 0, "seconds_adapt": 0, "loss": None})
    assert cost.by_stage(SimpleNamespace(history=steps)) == {"encode": 33, "transduct": 70, "generate": 8, "adapt": 16}


def test_what_answers_cost_is_the_same_when_the_ledger_gives_them(tmp_path):
    """And holds the questions that were asked here alone, each once: tokens are those that the endpoint reported when it was asked."""
    ledger = Ledger(tmp_path)
    with language_model("fieldguide", 0, ledger) as llm:
        llm.ask(ASKED)
        whole = (llm.usage.calls, llm.usage.prompt_tokens, llm.usage.completion_tokens)
    with language_model("fieldguide", 0, ledger) as llm:
        counted = Counted(llm)
        counted.ask(ASKED[:1])
        counted.ask(ASKED[:2])
        first = counted.paid(ledger)
        assert llm.usage.calls == 0 and first["calls"] == 2
        counted.ask(ASKED[2:])
    paid = counted.paid(ledger)
    assert (paid["calls"], paid["prompt_tokens"], paid["answer_tokens"]) == whole
    assert first["prompt_tokens"] == sum(len(question.text.split()) for question in ASKED[:2])  # the guide counts words


def test_the_lines_stand_beside_the_accuracy_of_their_rows_with_a_price(encoder, tmp_path):
    parameters, ledger = Cost(**GIVEN | {"out": str(tmp_path)}), Ledger(tmp_path / "ledger")
    with language_model("fieldguide", 0, ledger) as llm:
        study = Study.of(tasks.load("digits#small-40-0"), encoder, settings_for("embedded", iterations=2), llm)
        lines = cost.cost(study, ledger, imported=0.0)
        calls, tokens = llm.usage.calls, (llm.usage.prompt_tokens, llm.usage.completion_tokens)
    rows = study.write(parameters, "zero_shot.ipynb", "cost")
    frame = cost.write(lines, parameters, rows).set_index("method")
    assert frame.index.tolist() == ["CLIP", "TransCLIP", "GTA-CLIP"]
    assert frame.calls.tolist() == [0, 0, calls] and calls >= 10
    assert frame.price["GTA-CLIP"] == pytest.approx((2 * tokens[0] + 10 * tokens[1]) / 1e6)
    assert frame.loc["CLIP", ["transduct", "generate", "adapt"]].tolist() == [0, 0, 0] and frame.encode["CLIP"] > 0
    assert (frame.loc["GTA-CLIP", list(cost.STAGES)] > 0).all() and frame.iterations.tolist() == [1, 1, 2]
    assert frame.memory_mb.is_monotonic_increasing and frame.memory_mb["CLIP"] > 50
    assert frame.accuracy.to_dict() == {row.method: row.accuracy for row in rows}
    read = charts.with_seconds(frames.read(tmp_path / "cost_stages.csv"))
    assert len(charts.accuracy_against_seconds(read).axes) == len(charts.seconds_by_stage(read).axes) == 1


def test_seconds_a_point_stand_only_where_something_was_gained():
    line = {
        "dataset": "d",
        "backbone": "b",
        "images": 9,
        "classes": 3,
        "iterations": 1,
        "transduct": 0,
        "generate": 0,
        "adapt": 0,
        "waiting": 0,
    }
    line |= {"memory_mb": 0, "gpu_mb": 0, "calls": 0, "prompt_tokens": 0, "answer_tokens": 0, "price": 0}
    lines = [{"method": "CLIP", "encode": 1, "accuracy": 50}, {"method": "TransCLIP", "encode": 3, "accuracy": 54}]
    lines.append({"method": "GTA-CLIP", "encode": 9, "accuracy": 49})
    frame = pd.DataFrame([line | of for of in lines])
    found = charts.means(frame.assign(seconds=frame.encode)).set_index("method")["seconds a point over CLIP"]
    assert found["TransCLIP"] == 0.5 and found[["CLIP", "GTA-CLIP"]].isna().all()
