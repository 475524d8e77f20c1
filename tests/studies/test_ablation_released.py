"""The price of the released code: which switch is on in which row, and that labels of query images choose nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gta.batch.sweeps import sweeps
from gta.charts import released as charts
from gta.data import tasks
from gta.files import ROOT
from gta.released import asking, graphs, solver, views, weights
from gta.released.solver import GammaInEachIteration
from gta.scores.rows import read_table
from gta.studies import ablation_released as ablation
from gta.studies.study import Study
from gta.transduct import GAMMAS
from gta.worlds.settings import settings_for
from small import row

TASK = tasks.load("digits")
QUERIES = 60


@pytest.fixture
def study(encoder, guide_llm, tmp_path, monkeypatch):
    """No label of a query image can be asked for."""
    monkeypatch.setattr(tasks, "query_labels", lambda name: pytest.fail("a label of a query image"))
    part = replace(TASK, images=TASK.images[:QUERIES], image_ids=TASK.image_ids[:QUERIES])
    return Study.of(part, encoder, settings_for("embedded", iterations=1, margin=0.5), guide_llm, checkpoints=tmp_path / "state")


def recorded(study, monkeypatch):
    """What every run of GTA-CLIP is given, while it runs as always."""
    given, true_run = [], Study.run

    def run(self, bank, llm=None, **options):
        if llm is not None:
            given.append({"llm": llm, "encoder": self.encoder, "changes": {}} | options)
        return true_run(self, bank, llm, **{"progress": False, **options})

    monkeypatch.setattr(Study, "run", run)
    return given


def switches(given, study):
    """The names of what a run was given that is not the default."""
    hooks = {key: value.__name__ for key, value in given.items() if key in ("affinity", "groups", "select_pairs", "ask")}
    encoder = given["encoder"]
    half = {p.dtype for p in encoder.model.parameters()} != {torch.float64}
    kept = getattr(encoder, "kept", None) == pytest.approx(study.encoder.logit_scale, rel=1e-6)  # float32 in a copy in float16
    return {
        *hooks.values(),
        *given["changes"].values(),
        *given["llm"].model.split(", ")[1:],
        *(["half"] if half else []),
        *(["kept scale"] if kept else []),
    }


def test_each_zero_shot_row_has_its_switch_and_the_last_has_all(study, monkeypatch):
    given = recorded(study, monkeypatch)
    runs = ablation.zero_shot(study, {})
    on = {variant: switches(of, study) for variant, of in zip(runs, given, strict=True)}
    assert on == {
        "": set(),
        "answers serve one iteration": {"one_iteration"},
        "negative cosines kept": {"graph_with_negatives"},
        "subset learns": {"released_subset"},
        "released step": {"released", 2e-7, 1e-6, "half"},
        "released step, weights unrounded": {"released_unrounded", 2e-7, 1e-6},
        "logit scale learns": {"learning_scale", "kept scale"},
        "no pair below the threshold": {"pairs_above"},
        "questions in turn": {"in_turn"},
        "repeats kept": {"repeats_kept"},
        "float16 weights": {"half"},
        "answers of another run": {"answers by pair"},
        "bullets alone": {"bullets alone"},
        "all together": {
            "one_iteration", "graph_with_negatives", "released_subset", "learning_scale", "kept scale", "pairs_above", "half",
            "bullets alone", "answers by pair", "in_turn_with_repeats", "released", 2e-7, 1e-6,
        },
    }  # fmt: skip
    assert {key[1]: key for key in study.outcomes if key[0] == "GTA-CLIP"}.keys() == on.keys()
    assert all(baseline == ("GTA-CLIP", "") for (m, v), (_, _, baseline) in study.outcomes.items() if m == "GTA-CLIP" and v)
    assert torch.equal(list(runs[""].calls.values())[-1], study.outcomes["GTA-CLIP", ""][0].argmax(1).int())
    assert not any("oracle" in name or "call" in name for key in study.outcomes for name in key)


def test_few_shot_rows_change_the_graph_and_which_gamma_is_answered_with(study, monkeypatch):
    given = recorded(study, monkeypatch)
    gammas = ablation.few_shot(study, 1)
    names, anew = ["", *ablation.FEW_SHOT], given.pop()
    assert [of.get("affinity") for of in given] == [None, *(graph for graph, _ in ablation.FEW_SHOT.values())]
    assert isinstance(anew["gamma"], GammaInEachIteration) and ("GTA-CLIP-FS", ablation.ANEW) in study.outcomes
    used = [of["changes"]["gamma"] for of in given]
    assert used == [gammas[f"GTA-CLIP-FS {name}".strip()] for name in names]
    assert used[3] == used[4] == GAMMAS[-1] and used[0] == gammas["TransCLIP-FS"]
    z = {variant: z for (method, variant), (z, *_) in study.outcomes.items() if method == "TransCLIP-FS"}
    assert list(z) == names
    assert all((z[name] - z[""]).abs().max() > 1e-4 for name in ("rows misaligned", "shots lose their nearest image", "all together"))


def line(variant, seed, n_correct):
    counts = {"n_correct": n_correct, "n_total": 200, "accuracy": n_correct / 2}
    return row(dataset="digits", backbone="embedded", method="GTA-CLIP", variant=variant, seed=seed, **counts)


CALLS = [
    line(*of) for of in (("", 0, 150), ("iteration 00, call 1", 0, 160), ("iteration 00, call 2", 0, 150), ("", 1, 140), ("c", 1, 140))
]


def test_oracle_best_is_shown_beside_the_last_iterate_and_never_below_it():
    shown = charts.oracle(CALLS)
    assert shown["oracle_best minus last iterate"].tolist() == [5.0, 0.0]
    assert shown["last iterate, %"].tolist() == [75.0, 70.0] and shown.picked[0] == "iteration 00, call 1"
    assert len(charts.oracle([])) == 0


def test_the_chart_sorts_by_price_and_colours_only_what_the_interval_over_encoders_shows():
    known = {
        "table": ablation.TABLE,
        "dataset": "digits",
        "backbone": "embedded",
        "method": "GTA-CLIP",
        "shots": 0,
        "reference": "GTA-CLIP",
    }
    values = {"helps": (2, 2.1), "costs": (-4, -4.2), "either": (5, 1)}  # 2.05 +- 0.6, -4.1 +- 1.3, 3 +- 25
    lines = [
        {**known, "variant": name, "seed": seed, "difference": of, "better": 9, "worse": 5}
        for name, seeds in values.items()
        for seed, of in enumerate(seeds)
    ]
    lines.append({**lines[0], "variant": "", "reference": "CLIP", "difference": 7})
    paired = pd.DataFrame(lines)
    prices = charts.prices(paired)
    assert list(dict.fromkeys(prices.variant)) == ["costs", "helps", "either"]
    assert dict(zip(prices.variant, prices.verdict, strict=True)) == {"costs": "worse", "either": "", "helps": "better"}
    (axis,) = charts.chart(prices, charts.oracle(CALLS)).axes
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["costs", "helps", "either", "oracle_best, no result"]
    line = charts.summary(paired).iloc[0]
    assert (line["encoder 1"], line["interval"]) == ("-4.2", "[-5.4, -2.8]") and (line.won, line.lost) == (18, 10), "images of both seeds"


def test_solver_calls_are_scored_apart_from_the_table(study, monkeypatch, tmp_path):
    monkeypatch.undo()
    answer = ("GTA-CLIP", "")
    z = torch.eye(10)[torch.arange(QUERIES) % 10]
    calls = {answer: (z, 1.0, answer), ("GTA-CLIP", "iteration 00, call 1"): (z.roll(1, 0), 0.0, answer)}
    monkeypatch.setattr(tasks, "query_labels", lambda name: np.zeros(QUERIES, dtype=int))
    given = dict.fromkeys(["pretrained", "revision", "max_calls", "iterations"])
    given |= {"dataset": "digits", "backbone": "embedded", "seed": 0, "store": "s", "llm": "fieldguide", "ledger": "l", "mode": "record"}
    ablation.write_solver_calls(study, ablation.AblationReleased(**given, smoke=True, out=str(tmp_path / "o"), shots=0), calls)
    assert [row.variant for row in read_table(tmp_path / "o/solver_calls.csv")] == ["", "iteration 00, call 1"]
    assert "rows.csv" not in {file.name for file in (tmp_path / "o").iterdir()}


def test_every_difference_in_the_documents_names_its_switch():
    """A switch of `gta.released` that the list of differences does not know could not be found by a reader."""
    listed = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
    of = {graphs: ("misaligned_graph", "graph_without_nearest", "graph_with_negatives"), views: ("bilinear_augmentation",)}
    of |= {solver: ("select_gamma", "transduct_aliased", "GammaInEachIteration"), weights: ("learning_scale", "solver_keeps_scale", "half")}
    of |= {asking: ("pairs_above", "in_turn", "repeats_kept", "AnswersByPair", "BulletsAlone")}
    for module, names in of.items():
        for name in names:
            assert hasattr(module, name) and f"{module.__name__.removeprefix('gta.')}.{name}" in listed, name
    assert sweeps()[ablation.TABLE].outputs == ["solver_calls.csv"]
