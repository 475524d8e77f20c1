"""A review: rounds of a few images that a person answers, and what the run makes of the answers.

A round is kept in `state/` until it was learnt from, so that the same command goes on with it after a kill. What is learnt is the few-shot
setting: answered images are its examples, and leave the images to label. Their lines in `predictions.csv` stay what they were: what the
run said of an image before anybody told it. So they can be held against the answers at any time.
"""

import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from gta.files import write_atomically
from gta.label import answers, folder, jobs, kept, run
from gta.label.answers import NONE, UNSURE, Answer
from gta.label.choosing import RANDOM, choose
from gta.label.inputs import read_labelled
from gta.label.kept import Kept

STATE = "state/review"  # checkpoints of what is learnt, apart from those of `gta label`
TOLD = 10  # changes, and images without a class, that are listed


@dataclass(frozen=True)
class Item:
    """An image of a round. proposal, runner_up: classes, "" for none; confidence: of the proposal; chosen_by: why it is shown."""

    path: str
    proposal: str
    confidence: float
    runner_up: str
    chosen_by: str


class Review:
    """The folder of a run and one reviewer. Raises ValueError where the folder holds no run that ended, or a class has a name that means
    something else in an answer."""

    def __init__(self, out: Path, reviewer: str):
        self.kept: Kept = kept.read(out)
        self.reviewer, self.file = reviewer, out / answers.FILE
        self.round_file = out / f"state/round-{hashlib.sha256(reviewer.encode()).hexdigest()[:12]}.json"
        self.path_of = dict(zip(self.kept.names, self.kept.paths, strict=True))
        if taken := {NONE, UNSURE} & set(self.kept.class_names):
            raise ValueError(f"a class is called {min(taken)!r}, which in an answer means something else; give it another name")

    @property
    def mine(self) -> dict[str, str]:
        """{path: label} of this reviewer's answers."""
        last = answers.of_reviewers(answers.read(self.file))
        return {path: answer.label for (path, reviewer), answer in last.items() if reviewer == self.reviewer}

    def predictions(self) -> dict[str, dict[str, str]]:
        """The lines of `predictions.csv` by path. Raises OSError."""
        with open(self.kept.out / "predictions.csv", newline="", encoding="utf-8") as stream:
            return {row["path"]: row for row in csv.DictReader(stream)}

    def round(self, by: str, count: int, seed: int = 0) -> list[Item]:
        """The round that is not done yet, else a new one, which is written down before anybody sees it."""
        if (pending := self.pending()) is not None:
            return pending
        items = self._draw(by, count, seed)
        if items:
            write_atomically(self.round_file, json.dumps([asdict(item) for item in items]))
        return items

    def second(self, count: int) -> list[Item]:
        """A round of images that another reviewer has answered and this one has not, the first answered first."""
        if (pending := self.pending()) is not None:
            return pending
        mine, first = self.mine, dict[str, str]()
        for answer in answers.of_reviewers(answers.read(self.file)).values():
            first.setdefault(answer.path, answer.chosen_by)
        rows = self.predictions()
        items = [self._item(rows[path], by) for path, by in first.items() if path not in mine and path in rows and path in self.path_of]
        write_atomically(self.round_file, json.dumps([asdict(item) for item in items[:count]]))
        return items[:count]

    def pending(self) -> list[Item] | None:
        if not self.round_file.exists():
            return None
        items = [Item(**item) for item in json.loads(self.round_file.read_bytes())]
        return [item for item in items if item.path in self.path_of] or None

    def done(self) -> None:
        self.round_file.unlink(missing_ok=True)

    def say(self, said: Mapping[str, str], chosen_by: Mapping[str, str]) -> int:
        """Write answers, {path: label}, that are not what this reviewer has said already. Returns how many are new."""
        mine, time = self.mine, answers.now()
        new = [Answer(path, label, self.reviewer, time, chosen_by[path]) for path, label in said.items() if mine.get(path, "") != label]
        if new:
            answers.append(self.file, new)
        return len(new)

    def _draw(self, by: str, count: int, seed: int) -> list[Item]:
        answered, rows = answers.standing(answers.read(self.file)), self.predictions()
        margins = torch.tensor([float(rows[name]["margin"]) if name in rows else 1.0 for name in self.kept.names])
        taken = torch.tensor([name in answered or name not in rows for name in self.kept.names])
        chosen = choose(by, count, margins, self.kept.features, taken, seed + int(taken.sum()))
        return [self._item(rows[self.kept.names[i]], by) for i in chosen]

    def _item(self, row: Mapping[str, str], by: str) -> Item:
        return Item(row["path"], row["label"], float(row["confidence"]), row["runner_up"], by)


def write_round(review: Review, items: list[Item], file: Path) -> None:
    """A CSV to fill by hand: the column `label` is empty. Raises ValueError where such a file holds labels that nobody has read back."""
    if file.exists() and _unread(review, file):
        raise ValueError(f"{file} holds labels that are not read yet: --read {file} takes them over; or move the file away")
    rows = [(item.path, item.proposal, f"{item.confidence:.4f}", item.runner_up, review.mine.get(item.path, "")) for item in items]
    write_atomically(file, folder.table(("path", "proposed", "confidence", "runner_up", "label"), rows))


def read_round(review: Review, file: Path) -> int:
    """Take over the labels of a CSV with the columns path,label; lines without a label wait. Returns how many answers are new. Raises
    ValueError, with the line, as `gta.label.inputs.read_labelled` does."""
    chosen_by = {item.path: item.chosen_by for item in review.pending() or ()}
    said = _unread(review, file)
    return review.say(said, {path: chosen_by.get(path, "file") for path in said})


def _unread(review: Review, file: Path) -> dict[str, str]:
    """{path: label} of the lines of a filled CSV that say something new."""
    names = [*review.kept.class_names, NONE, UNSURE]
    base = Path(review.kept.options.images)
    paths, labels = read_labelled(file, base if base.is_dir() else base.parent, names, unanswered=True)
    name_of = {path.resolve(): name for name, path in review.path_of.items()}
    if strange := [path for path in paths if path.resolve() not in name_of]:
        raise ValueError(f"{file}: {str(strange[0])!r} is no image of the run in {review.kept.out}")
    mine, said = review.mine, {name_of[path.resolve()]: names[label] for path, label in zip(paths, labels, strict=True)}
    return {path: label for path, label in said.items() if mine.get(path) != label}


def learn(review: Review) -> str:
    """Label the other images again with the answers as examples, write the results, and tell what changed. Answers to images that were
    drawn at random are no examples: they stay to judge the labels by (`gta.label.trust`). Raises ValueError for an answer that is no
    class of this run."""
    standing = answers.standing(answers.read(review.file))
    said = {path: answer.label for path, answer in standing.items()}
    before, classes = review.predictions(), review.kept.class_names
    here = {path: label for path, label in said.items() if path in review.path_of}
    if unknown := [(path, label) for path, label in here.items() if label not in (*classes, NONE, UNSURE)]:
        raise ValueError(f"{review.file}: {unknown[0][0]!r} is {unknown[0][1]!r}, which is no class of this run")
    drawn = {path for path in here if standing[path].chosen_by == RANDOM}
    examples = {path: label for path, label in here.items() if label in classes and path not in drawn}
    told = [*_agreement(here, before, drawn), *_without_class(here), *_gone(said, here)]
    if len(examples) >= len(before):
        return "\n".join([*told, "every image is an example now; there is nothing left to label"])
    job = _job(review, examples)
    outcome = run.run(job, state=STATE)
    there = {*job.found.names, *examples}
    folder.write(job, outcome, {path: row for path, row in before.items() if path in there})
    _forget(job.out / STATE)
    after = review.predictions()
    last = f"{job.out / 'predictions.csv'} and {job.out / 'report.html'} are new; `python -m gta review` asks about the next images"
    return "\n".join([*told, *_changes(before, after, set(outcome.names)), *outcome.trust.told, last])


def _job(review: Review, examples: Mapping[str, str]) -> jobs.Job:
    job = jobs.prepare(kept.again(review.kept))
    if list(job.classes.names) != review.kept.class_names:
        raise ValueError(f"{job.options.classes}: other classes than those of the run in {review.kept.out}; label with them first")
    paths, labels = job.support
    new = [review.path_of[path] for path in examples]
    support = ([*paths, *new], [*labels, *(job.classes.names.index(label) for label in examples.values())])
    return replace(job, support=support, found=job.found.without(new))


def _forget(state: Path) -> None:
    """Leave of the checkpoints those of this round, the newest. No later step reads the others, whose answers were fewer."""
    for earlier in sorted(state.glob("*/"), key=lambda place: place.stat().st_mtime_ns)[:-1]:
        shutil.rmtree(earlier)


def _agreement(said: Mapping[str, str], before: Mapping[str, Mapping[str, str]], drawn: set[str]) -> list[str]:
    """How often the answers are what the run said before it learnt them: of images that were drawn at random, and of the others."""
    told = []
    for what, paths in (("chosen to learn from", said.keys() - drawn), ("drawn at random, which are kept to judge the labels by", drawn)):
        rows = [(before[path]["label"], said[path]) for path in paths if path in before and said[path] != UNSURE]
        same = sum(a == b for a, b in rows)
        told += [f"{same:,} of {len(rows):,} answers ({100 * same / len(rows):.0f} %) are what was proposed; {what}"] if rows else []
    return told


def _without_class(said: Mapping[str, str]) -> list[str]:
    told = []
    for what, meaning in ((NONE, "show none of the classes"), (UNSURE, "could not be told")):
        if paths := [path for path, label in said.items() if label == what]:
            more = f" and {len(paths) - TOLD:,} more" if len(paths) > TOLD else ""
            told.append(f"{len(paths):,} images {meaning} and are not learnt from: {', '.join(ascii(path) for path in paths[:TOLD])}{more}")
    return told


def _gone(said: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    gone = [path for path in said if path not in here]
    return [f"{len(gone):,} answers are about images that are not in this run, such as {gone[0]!a}"] if gone else []


def _changes(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]], names: set[str]) -> list[str]:
    """How many labels of images that nobody answered changed, and from which class to which."""
    both = [(before[name]["label"], after[name]["label"]) for name in after if name in names and name in before]
    kinds = Counter(pair for pair in both if pair[0] != pair[1]).most_common()
    head = f"{sum(count for _, count in kinds):,} of {len(both):,} labels of the other images changed"
    more = [f"  and {len(kinds) - TOLD:,} more kinds"] if len(kinds) > TOLD else []
    return [head, *(f"  {count:,}: {a or 'no label'!a} to {b or 'no label'!a}" for (a, b), count in kinds[:TOLD]), *more]
