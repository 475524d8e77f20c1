"""What each difference between the released code and the paper is worth: one at a time, and all together.

The rows are those of "Point by point" in `docs/reproduction.md`; `NOT_PRICED` says which have no price, and why.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from gta import hashes
from gta.files import ROOT, shipped
from gta.generate import describe
from gta.llm.chat import ChatModel, Reply
from gta.llm.ledger import Ledger
from gta.released import asking, graphs, solver, weights
from gta.released.presets import AS_RELEASED, RELEASED_STEP
from gta.scores import results
from gta.scores.rows import write_table
from gta.state import Result
from gta.studies.few_shot import Shots
from gta.studies.parameters import ONCE, RunParameters
from gta.studies.study import Key, Study
from gta.transduct import GAMMAS, select_gamma
from gta.worlds.fieldguide import language_model

Outcome = tuple[Tensor, float, Key]
TABLE = "ablation_released"
TOGETHER = "all together"
# Zero-shot switches of GTA-CLIP, each as what it changes in a run: settings, encoder, language model, hooks of the loop.
SETTINGS: dict[str, dict[str, Any]] = {
    "answers serve one iteration": {"memory": "one_iteration"},
    "subset learns": {"learns": "released_subset"},
    "released step": RELEASED_STEP,
    "released step, weights unrounded": {**RELEASED_STEP, "optimizer": "released_unrounded"},
}
HOOKS: dict[str, dict[str, Any]] = {
    "negative cosines kept": {"affinity": graphs.graph_with_negatives},
    "logit scale learns": {"groups": weights.learning_scale},
    "no pair below the threshold": {"select_pairs": asking.pairs_above},
    "questions in turn": {"ask": asking.in_turn},
    "repeats kept": {"ask": asking.repeats_kept},
}
HALF, STORED, BULLETS = "float16 weights", "answers of another run", "bullets alone"
IN_HALF = (HALF, "released step")  # the released step rounds weights to float16 wherever they are kept
ZERO_SHOT = (*SETTINGS, *HOOKS, HALF, STORED, BULLETS, TOGETHER)
ALIASED = "prior overwritten"
# Few-shot switches: the graph (None: aligned), and whether the search for gamma is the released one. Negative cosines are priced above.
FEW_SHOT: dict[str, tuple[Any, bool]] = {
    "rows misaligned": (graphs.misaligned_graph, False),
    "shots lose their nearest image": (graphs.graph_without_nearest, False),
    "last gamma's z returned": (None, True),
    TOGETHER: (graphs.knn_graph, True),
}
ANEW = "gamma in each iteration"  # of GTA-CLIP-FS alone
NOT_PRICED = {
    "CUB validation images": "the released list is the test list: query labels would choose gamma",
    "number of classes": "counted from the test labels, which no method here may see; where every class is present the number is the same",
    "views": "embedded images are as small as the encoder's input; a test shows what bilinear crops of a photograph change",
}


class AblationReleased(RunParameters):
    """Parameters of `notebooks/ablation_released.ipynb`. preset: switches are shown from what the paper describes; shots: labelled
    images a class; 0 gives the zero-shot rows."""

    preset: Literal["", "as_described"] = ""
    shots: int = Field(ge=0)


def ablation(study: Study, parameters: AblationReleased) -> dict[Key, Outcome]:
    """All rows of a notebook into `study.outcomes`; prints what each run did. Returns every solver call of GTA-CLIP as the paper
    says, and none in the few-shot setting."""
    if parameters.shots:
        for name, gamma in few_shot(study, parameters.shots, ROOT / parameters.store).items():
            print(f"{name}: gamma {gamma}")
        return {}
    runs = zero_shot(study, answers_of_another_run(study, parameters))
    for variant, run in runs.items():
        print(f"{variant or 'as the paper says'}: {len(run.attributes.asked)} pairs asked, {run.history[-1]['texts']} texts at the end")
    answer: Key = ("GTA-CLIP", "")
    classes = len(study.task.class_names)
    named = {
        ("GTA-CLIP", f"iteration {t:02}, call {call + 1}"): (F.one_hot(labels.long(), classes).float(), 0.0, answer)
        for (t, call), labels in runs[""].calls.items()
    }
    return {answer: (runs[""].assignments, runs[""].seconds, answer), **named}


def answers_of_another_run(study: Study, parameters: RunParameters) -> dict[tuple[str, str | None], Reply]:
    """What a run with the next seed, and so with another language model where that is drawn by a seed, was told about pairs."""
    stored: dict[tuple[str, str | None], Reply] = {}
    ledger, seed = Ledger(ROOT / parameters.ledger, parameters.mode), parameters.seed + 1
    with language_model(parameters.llm, seed, ledger, parameters.max_calls, study.task.facts, parameters.sampling) as llm:
        bank = describe(study.names_only, llm, study.questions)
        # Without checkpoints: a run that goes on asks nothing again, and its answers would be missing.
        study.run(bank, asking.AnswersByPair(llm, stored), changes={"seed": seed}, checkpoints=None)
    return stored


def zero_shot(study: Study, stored: Mapping[tuple[str, str | None], Reply]) -> dict[str, Result]:
    """CLIP, TransCLIP and GTA-CLIP as the paper says, then with each switch of `ZERO_SHOT`, into `study.outcomes`.

    stored: as `answers_of_another_run` gives it. Returns GTA-CLIP's runs by variant.
    """
    once = study.add_first()
    start, transclip = time.perf_counter(), f"Trans{study.baseline[0]}"
    aliased = solver.transduct_aliased(once.features, once.clip)
    study.outcomes[transclip, ALIASED] = (aliased.assignments, time.perf_counter() - start, (transclip, ""))
    runs = {"": study.run(study.static, study.llm)}
    study.add("GTA-CLIP", "", runs[""])
    for variant in ZERO_SHOT:
        runs[variant] = _switched(study, variant, dict(stored))
        study.add("GTA-CLIP", variant, runs[variant], ("GTA-CLIP", ""))
    return runs


def _switched(study: Study, variant: str, stored: dict[tuple[str, str | None], Reply]) -> Result:
    """GTA-CLIP with one switch, or with all that `as_released` sets."""
    every = variant == TOGETHER
    changes = AS_RELEASED.settings if every else SETTINGS.get(variant, {})
    hooks = AS_RELEASED.hooks if every else HOOKS.get(variant, {})
    encoder = weights.half(study.encoder) if every or variant in IN_HALF else study.encoder
    if every or variant == "logit scale learns":
        encoder = weights.solver_keeps_scale(encoder)
    llm: ChatModel = asking.AnswersByPair(study.llm, stored) if every or variant == STORED else study.llm
    llm = asking.BulletsAlone(llm, study.settings.seed) if every or variant == BULLETS else llm
    bank = describe(study.names_only, llm, study.questions) if every or variant == BULLETS else study.static
    return study.run(bank, llm, changes=changes, encoder=encoder, **hooks)


def few_shot(study: Study, shots: int, store: Path | None = None) -> dict[str, float]:
    """TransCLIP-FS and GTA-CLIP-FS as the paper says, then with each switch of `FEW_SHOT`, into `study.outcomes`.

    Returns the gamma of each row. The released search returns z of the last gamma, whichever one validation images chose.
    With it GTA-CLIP-FS, which nobody released, runs with the last gamma.
    """
    once = study.run(study.first_texts, changes=ONCE)
    study.outcomes[study.baseline] = (once.clip, once.history[0]["seconds_encode"], study.baseline)
    seen = Shots.of(study, once, shots, store)
    gammas = {}
    for variant, (graph, carried) in {"": (None, False), **FEW_SHOT}.items():
        gamma, z, seconds = seen.transclip(graph, solver.select_gamma if carried else select_gamma)
        study.outcomes["TransCLIP-FS", variant] = (z, seconds, ("TransCLIP-FS", "") if variant else study.baseline)
        gammas[f"TransCLIP-FS {variant}".strip()] = gamma
        gamma = GAMMAS[-1] if carried else gamma
        options = {**seen.given, **({"affinity": graph} if graph else {})}
        result = study.run(study.static, study.llm, changes={"gamma": gamma}, **options)
        study.add("GTA-CLIP-FS", variant, result, ("GTA-CLIP-FS", "") if variant else None)
        gammas[f"GTA-CLIP-FS {variant}".strip()] = gamma
    result = study.run(study.static, study.llm, gamma=seen.gamma_in_each_iteration(), **seen.given)
    study.add("GTA-CLIP-FS", ANEW, result, ("GTA-CLIP-FS", ""))
    return gammas


def write_solver_calls(study: Study, parameters: AblationReleased, calls: Mapping[Key, Outcome]) -> None:
    """Score the solver calls apart from the table, into `solver_calls.csv`: labels enter here, after all is done, and nothing is
    chosen by them but the figure's `oracle_best`. In the few-shot setting the file has no row."""
    hashed, status = hashes.source_hash(shipped(f"notebooks/{TABLE}.ipynb")), parameters.status
    rows, _ = results.measure(
        "solver_calls",
        study.task,
        parameters.named_backbone,
        study.encoder,
        study.settings,
        calls,
        calls.keys(),
        hashed,
        status,
        llm=study.asked,
    )
    write_table(ROOT / parameters.out / "solver_calls.csv", rows)
