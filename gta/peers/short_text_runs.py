"""The short-texts table: LabelDesc in its own setting. A sentence encoder puts short texts into classes that are known by descriptions.

Nothing lies between two modalities here. The baseline is the paper's too: each text gets the class whose label words are nearest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor

from gta import hashes
from gta.adapt import natural_augmentation
from gta.data import short_texts
from gta.data.tasks import Task
from gta.encoders import sentences
from gta.encoders.sentences import SentenceEncoder
from gta.files import ROOT, shipped, yaml_of
from gta.names import nearest
from gta.peers import descriptions
from gta.peers.bench import ON_TOP, timed
from gta.peers.descriptions import Correction, label_desc
from gta.peers.label_runs import MEANS, MISMATCHED, RANDOM, SHUFFLED, TOWER, UNCORRECTED, UNTRAINED, label_words
from gta.peers.texts import clip_logits, ensemble
from gta.scores import results
from gta.scores.rows import Row, write_run
from gta.settings import Checked, Settings
from gta.studies.study import Key, Outcome
from gta.transduct import class_features, transduct
from gta.worlds import docstrings

TABLE = "short_texts"
NEAREST, BASELINE = "nearest label words", ("nearest label words", "")
# Of Adam on the rows, by correction, and on the upper half of the encoder; chosen by `python -m gta.workshop.choose_descriptions texts`.
TRAINING: dict[Correction, tuple[float, int]] = {"none": (1e-3, 100), "means": (1e-4, 300)}
CORRECTION: Correction = "means"
TOWER_RATE, TOWER_PASSES, TOWER_BATCH = 1e-4, 10, 1  # one text a step, as in the paper
OTHER_WORDS = 100  # times faster, as in the paper, learn rows that begin at random or mismatched label words


class ShortTexts(Checked):
    """Parameters of `notebooks/short_texts.ipynb`.

    dataset: `docstrings`, or a folder with a sub-folder of .txt files for each class; backbone: `MiniLM` or a folder
    (`gta.encoders.sentences.load`); descriptions: a YAML file {class: [texts, its label words first]}, None for `docstrings`; patterns:
    templates of the label words; texts: as many are drawn by the seed, without regard to their classes; None takes all.
    """

    dataset: str
    backbone: str
    descriptions: str | None
    patterns: list[str]
    texts: int | None = Field(None, ge=2)
    seed: int
    smoke: bool
    out: str

    @property
    def part(self) -> str:
        """The part of the dataset that is drawn; nothing where all is."""
        return "" if self.texts is None else f"#small-{self.texts}-{self.seed}"

    @property
    def read_from(self) -> str:
        """The folder of the texts, and the part of it, as `gta.data.short_texts` takes them."""
        folder = docstrings.write(ROOT / "runs/worlds/docstrings") if self.dataset == "docstrings" else ROOT / self.dataset
        return f"{folder}{self.part}"

    def described(self, names: Sequence[str]) -> list[list[str]]:
        """The descriptions of each class. Raises ValueError for a class without any, and where there is no file."""
        if self.dataset == "docstrings":
            told: Mapping[str, list[str]] = docstrings.described("scipy")
        elif self.descriptions is None:
            raise ValueError("descriptions: name a YAML file that gives each class a list of texts, its label words first")
        else:
            told = yaml_of((ROOT / self.descriptions).read_text(encoding="utf-8"))
        if missing := [name for name in names if not told.get(name)]:
            raise ValueError(f"descriptions: none of the class {missing[0]!r}{nearest(missing[0], told)}")
        return [[str(text) for text in told[name]] for name in names]


@dataclass
class TextBench:
    """Texts, their classes and what was measured. words: the label words, the first description of each class."""

    texts: short_texts.Texts
    told: list[list[str]]
    encoder: SentenceEncoder
    patterns: Sequence[str]
    seed: int
    outcomes: dict[Key, Outcome] = field(default_factory=dict)

    @cached_property
    def features(self) -> Tensor:
        """Unit features (N, d) of the texts."""
        return self.encoder.encode_texts(self.texts.texts)

    @property
    def words(self) -> list[str]:
        return [of_class[0] for of_class in self.told]

    def rows(self, pattern: str) -> Tensor:
        """Rows (M, d): the features of the label words in a pattern."""
        return self.encoder.encode_texts([pattern.replace("{}", word) for word in self.words])

    def measure(self, method: str, variant: str, logits: Any, on_top: bool = False) -> None:
        """Record what `logits` returns, (N, M), and, if told, transduction from it."""
        z, seconds = timed(lambda: logits().softmax(1))
        self.outcomes[method, variant] = (z, seconds, BASELINE)
        if on_top:
            after, more = timed(lambda: transduct(self.features, z.to(self.features)).assignments)
            key = (method, ", ".join(filter(None, (variant, ON_TOP))))
            self.outcomes[key] = (after, seconds + more, (method, variant))


def short_text_runs(bench: TextBench) -> None:
    """Every row: nearest label words, means of patterns and of descriptions, LabelDesc with its controls, and the spread over patterns."""
    start, told, scale = bench.rows(bench.patterns[0]), bench.told, bench.encoder.logit_scale

    def cosine(rows: Tensor) -> Tensor:
        return clip_logits(bench.features, rows, scale)

    def means(of_classes: Sequence[Sequence[str]]) -> Tensor:
        return cosine(class_features([bench.encoder.encode_texts(of_class) for of_class in of_classes]))

    def head(variant: str, rows: Tensor, of_classes: Sequence[Sequence[str]] = told, on_top: bool = False, **how: Any) -> None:
        correction = how.get("correction", CORRECTION)
        rate, passes = TRAINING[correction]
        chosen = {"rate": rate, "passes": passes, "seed": bench.seed, "correction": correction, **how}
        bench.measure("LabelDesc", variant, lambda: label_desc(bench.encoder, bench.features, of_classes, rows, **chosen), on_top)

    bench.measure(*BASELINE, lambda: cosine(start), on_top=True)
    bench.measure("prompt ensemble", "", lambda: means(ensemble(bench.words, bench.patterns)), on_top=True)
    bench.measure("mean of descriptions", "", lambda: means(told), on_top=True)
    head("", start, on_top=True)
    head(UNCORRECTED, start, correction="none")
    head(UNTRAINED, start, passes=0, correction="none")
    head(f"{UNTRAINED}, {MEANS}", start, passes=0)
    others = descriptions.deranged(len(told), bench.seed)
    head(SHUFFLED, start, [told[j] for j in others])
    head("one term", start, [of_class[1:2] for of_class in told])
    head("templates alone", start, ensemble(bench.words, bench.patterns))
    for name in (RANDOM, MISMATCHED):
        rows = label_words(start, bench.seed)[name]
        bench.measure(NEAREST, name, lambda rows=rows: cosine(rows))
        head(name, rows, rate=OTHER_WORDS * TRAINING[CORRECTION][0])
    for number, pattern in enumerate(bench.patterns, start=1):
        rows = bench.rows(pattern)
        bench.measure(NEAREST, f"template {number}", lambda rows=rows: cosine(rows))
        head(f"template {number}", rows, [[pattern.replace("{}", text) for text in of_class] for of_class in told])
    bench.measure("LabelDesc", TOWER, lambda: _tower(bench), on_top=True)


def _tower(bench: TextBench) -> Tensor:
    """The paper's own setting: the encoder is trained, and reads the texts and the label words anew."""
    words = [bench.patterns[0].replace("{}", word) for word in bench.words]
    tuned = descriptions.train_tower(
        bench.encoder, bench.told, words, rate=TOWER_RATE, passes=TOWER_PASSES, batch=TOWER_BATCH, seed=bench.seed
    )
    return clip_logits(tuned.encode_texts(bench.texts.texts), tuned.encode_texts(words), tuned.logit_scale)


def opened(parameters: ShortTexts) -> TextBench:
    """The texts, descriptions and encoder that a notebook's parameters name."""
    found = short_texts.read(parameters.read_from)
    encoder = sentences.load(parameters.backbone)
    print(f"{len(found.texts)} texts, {len(found.class_names)} classes; {encoder.name} on {encoder.device}, {encoder.weights_sha256[:12]}")
    patterns = parameters.patterns[: 2 if parameters.smoke else None]
    return TextBench(found, parameters.described(found.class_names), encoder, patterns, parameters.seed)


def write(bench: TextBench, parameters: ShortTexts) -> list[Row]:
    """Score all outcomes, and write `rows.csv` and `predictions.npz`. Only here do labels of the texts enter."""
    found, name, pattern = bench.texts, f"{Path(parameters.dataset).name}{parameters.part}", bench.patterns[0]
    source = f"{short_texts.PREFIX}{parameters.read_from}"
    task = Task(name, source, found.ids, found.texts, found.class_names, pattern, pattern, pattern, natural_augmentation)
    source_hash = hashes.source_hash(shipped(f"notebooks/{TABLE}.ipynb"))
    made = (task, parameters.backbone, bench.encoder, Settings(seed=bench.seed), bench.outcomes, bench.outcomes.keys(), source_hash)
    rows, predictions = results.measure(TABLE, *made, "smoke" if parameters.smoke else "done")  # type: ignore[arg-type]
    write_run(ROOT / parameters.out, rows, predictions)
    return rows
