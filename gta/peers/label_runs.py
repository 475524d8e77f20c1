"""The label-descriptions table: LabelDesc on images beside CLIP, prompt ensembles and CuPL, with its controls, and before the loop.

Controls of the paper: label words that are random, or those of another class. Ours: attributes of another class, one sentence a class,
the name in templates alone, and a head that was not trained. Robustness as the paper has it: the spread over templates and over label
words, before (CLIP) and after (LabelDesc).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gta import hashes
from gta.attributes import Bank
from gta.files import ROOT, shipped, write_atomically
from gta.peers import descriptions, texts
from gta.peers.bench import Bench
from gta.peers.descriptions import Correction, Kind
from gta.scores.rows import Row, write_run
from gta.studies.class_files import Classed
from gta.transduct import class_features, text_prior
from gta.worlds.fieldguide import name_of

TABLE = "label_descriptions"
TEXT_FIRST, TOWER = "text first", "text tower"
MEANS, UNCORRECTED, UNTRAINED = "means subtracted", "uncorrected", "untrained"
SHUFFLED, RANDOM, MISMATCHED = "shuffled descriptions", "random label words", "mismatched label words"
CORRECTIONS: dict[str, Correction] = {UNCORRECTED: "none", MEANS: "means", "noise": "noise"}
KINDS: dict[str, Kind] = {"terms": "terms", "terms and sentences": "both", "one sentence": "one sentence", "templates alone": "templates"}


class LabelDescriptions(Classed):
    """Parameters of `notebooks/label_descriptions.ipynb`. text_first: whether to run GTA-CLIP, and with the stage before it."""

    text_first: bool


def label_descriptions(bench: Bench, text_first: bool = True) -> pd.DataFrame:
    """Measure everything, into `bench.outcomes`. Returns the modality gap (`gaps`)."""
    start = bench.encoder.encode_texts([of_class[0] for of_class in bench.names_only.texts])
    bench.measure_texts()
    _heads(bench, start)
    _tower(bench)
    spread(bench, start)
    if text_first:
        before_the_loop(bench)
    return gaps(bench)


def _heads(bench: Bench, start: Tensor) -> None:
    """LabelDesc by a head; what it is trained on, how the gap is met, and its controls."""
    measure, seed = partial(_measure, bench), bench.settings.seed
    measure("", start, on_top=True)
    for name, correction in CORRECTIONS.items():
        if correction != descriptions.CORRECTION:
            measure(name, start, correction=correction)
    measure(UNTRAINED, start, passes=0, correction="none")
    measure(f"{UNTRAINED}, {MEANS}", start, passes=0, correction="means")
    for name, kind in KINDS.items():
        measure(name, start, kind=kind)
    measure(SHUFFLED, start, bank=descriptions.shuffled(bench.static, seed))
    for name, rows in label_words(start, seed).items():
        if name:
            measure(name, rows)


def _measure(
    bench: Bench, variant: str, start: Tensor, *, bank: Bank | None = None, kind: Kind = descriptions.KIND, on_top: bool = False, **how: Any
) -> None:
    """A row of a head. start: rows (M, d) of the label words; how: of `gta.peers.descriptions.label_desc`."""

    def work() -> Tensor:
        told = descriptions.described(bank or bench.static, kind, texts.templates(bench.task.domain))
        return descriptions.label_desc(bench.encoder, bench.features, told, start, seed=bench.settings.seed, **how).softmax(1)

    bench.measure("LabelDesc", work, bench.transduced if on_top else None, variant)


def label_words(start: Tensor, seed: int) -> dict[str, Tensor]:
    """Rows (M, d) of the label words by the name of a variant: those of the names, and the paper's two controls."""
    others = descriptions.deranged(len(start), seed)
    return {"": start, RANDOM: descriptions.random_rows(start, seed), MISMATCHED: start[others]}


def _tower(bench: Bench) -> None:
    """LabelDesc by the text tower: the features of the label words after training, or of the first attributes."""
    tuned: list[Any] = []

    def words() -> Tensor:
        tuned.append(descriptions.text_first(bench.encoder, bench.static, bench.settings.seed))
        return _clip(bench, tuned[-1], bench.names_only)

    bench.measure("LabelDesc", words, bench.transduced, TOWER)
    _, seconds, _ = bench.outcomes["LabelDesc", TOWER]
    bench.measure("LabelDesc", lambda: _clip(bench, tuned[-1], bench.static), None, f"{TOWER}, attributes", before=seconds)


def _clip(bench: Bench, encoder: Any, bank: Bank) -> Tensor:
    """What CLIP says with another text tower. Its image tower is the bench's."""
    return text_prior(bench.features, [encoder.encode_texts(of_class) for of_class in bank.texts], encoder.logit_scale)


def spread(bench: Bench, start: Tensor) -> None:
    """CLIP and LabelDesc once for each template, and CLIP from each kind of label words (LabelDesc from these has its rows already)."""
    task, scale, x = bench.task, bench.encoder.logit_scale, bench.features
    for name, rows in label_words(start, bench.settings.seed).items():
        if name:
            bench.measure("CLIP", lambda rows=rows: texts.clip_logits(x, rows, scale).softmax(1), None, name)  # type: ignore[misc]
    for number, template in enumerate(texts.templates(task.domain), start=1):
        words = Bank.from_template(task.class_names, template, f"{template.replace('{}', '{name}').rstrip('.')} with {{attribute}}")
        told = words
        for j in range(len(task.class_names)):
            told = told.add(j, bench.static.phrases(j), source="imported", origin="template")
        rows = class_features([bench.encoder.encode_texts(of_class) for of_class in words.texts])
        named = f"template {number}"
        bench.measure("CLIP", lambda rows=rows: texts.clip_logits(x, rows, scale).softmax(1), None, named)  # type: ignore[misc]
        bench.measure("CLIP+attributes", lambda told=told: bench.clip(bank=told).softmax(1), None, named)  # type: ignore[misc]
        _measure(bench, named, rows, bank=told)


def before_the_loop(bench: Bench) -> None:
    """GTA-CLIP, with the stage before it, and with that stage on the attributes of other classes."""
    seed = bench.settings.seed
    hooks: dict[str, Callable | None] = {
        "": None,
        TEXT_FIRST: partial(descriptions.text_first, seed=seed),
        f"{TEXT_FIRST}, {SHUFFLED}": partial(descriptions.text_first, seed=seed, described_by=descriptions.shuffled(bench.static, seed)),
    }
    # A guide of no facts knows none of the classes: the study of a folder, whose attributes were read, asks nobody.
    llm = None if bench.llm.model == name_of({}) else bench.llm
    for variant, hook in hooks.items():
        given: dict[str, Any] = {"features": bench.features, "checkpoints": None, "progress": False, "text_first": hook}
        bench.add("GTA-CLIP", variant, bench.run(bench.static, llm, **given))


def gaps(bench: Bench) -> pd.DataFrame:
    """The modality gap between the images and each kind of texts: its length, and what is left where means are subtracted."""
    lines = []
    kinds: tuple[Kind, ...] = ("sentences", "terms", "templates")
    for kind in kinds:
        told, labels = descriptions.flat(descriptions.described(bench.static, kind, texts.templates(bench.task.domain)))
        x, rows = bench.features, bench.encoder.encode_texts(told)
        labels = labels.to(rows.device)
        apart = descriptions.gap(x, rows, labels)
        left = descriptions.gap(
            descriptions.centred(x, x.mean(0)),
            descriptions.centred(rows, descriptions.mean_of_classes(rows, labels).to(rows)),
            labels,
        )
        lines.append({"texts": kind, "gap": float(torch.linalg.norm(apart)), "means subtracted": float(torch.linalg.norm(left))})
    return pd.DataFrame(lines)


def write(bench: Bench, parameters: LabelDescriptions, gap: pd.DataFrame) -> list[Row]:
    """Score all outcomes, and write `gaps.csv`, `rows.csv` and `predictions.npz`. Only here do labels of query images enter."""
    named: dict[str, Any] = {"dataset": bench.task.name, "backbone": parameters.named_backbone, "seed": parameters.seed}
    frame = gap.assign(**named)[[*named, *gap.columns]]
    write_atomically(ROOT / parameters.out / "gaps.csv", frame.to_csv(index=False, float_format="%.6g"))
    source_hash = hashes.source_hash(shipped(f"notebooks/{TABLE}.ipynb"))
    rows, predictions = bench.score(parameters.named_backbone, TABLE, source_hash, parameters.status)
    write_run(ROOT / parameters.out, rows, predictions)
    return rows
