"""What a review is worth: accuracy of all images against how many a person has answered, by how they were chosen.

    python benchmarks/review.py            # results/benchmarks/review.csv; about a quarter of an hour of one core
    python benchmarks/review.py --smoke    # one seed, two iterations, under runs/smoke

The reviewer is the truth: every answer is right. Rounds as `python -m gta review` has them: each is chosen from what the round before
learnt, by the ways of `gta.label.choosing`, and the few-shot setting learns from all answers. An image that was answered counts as right.
A row is one number of answers:

accuracy   of all images, in %: answers, and for the others the labels of the round that learnt from the answers
alone      the same where nothing learns: the labels before any answer, with the answers put in
wrong      the share of the answers so far, in %, that the labels at the time of asking did not have
"""

from collections.abc import Iterator
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from gta import encoders
from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.images import Images, load_images
from gta.files import write_atomically
from gta.generate import describe
from gta.label.choosing import STRATEGIES, choose
from gta.labels import answer
from gta.loop import Result, run
from gta.scores.statistics import t_interval
from gta.worlds.fieldguide import language_model
from gta.worlds.settings import settings_for
from measuring import begun, place, stamped

ANSWERED = (10, 20, 40, 80)
CASES = (("digits", "none"), ("aviary", "fieldguide"))


def main() -> None:
    which = {"type": int, "nargs": "+", "default": [0, 1, 2, 3, 4], "help": "measure these; others in the file stay"}
    given = begun(__doc__, {"--seeds": which})
    torch.set_num_threads(1)
    seeds, changes = ([0], {"iterations": 2}) if given.smoke else (given.seeds, {})
    file = place("review", given.smoke)
    for seed, (name, llm) in product(seeds, CASES):
        rows = [{"setting": f"{name}, llm {llm}", "seed": seed, **row} for row in curve(World(name, llm, seed, changes))]
        frame = stamped(pd.DataFrame(rows))
        kept = pd.read_csv(file) if file.exists() else frame[:0]
        frame = pd.concat([kept[(kept.seed != seed) | (kept.setting != frame.setting[0])], frame])
        write_atomically(file, frame.sort_values(["setting", "seed"], kind="stable").to_csv(index=False))
        print(f"{name}, seed {seed}: written to {file}", flush=True)
    print(summary(pd.read_csv(file)).to_string(index=False))


class World:
    """A dataset, its encoder, and what is known before anybody answers. truth: int (N,), for scoring and for the reviewer alone."""

    def __init__(self, name: str, llm: str, seed: int, changes: dict):
        self.task = tasks.load(f"aviary:{seed}" if name == "aviary" else "digits")
        self.truth = torch.as_tensor(tasks.query_labels(self.task.source))
        self.seed, self.settings = seed, settings_for("embedded", self.task.name, seed=seed, generate=llm != "none", **changes)
        self.encoder = encoders.load("embedded", seed=seed, embedded=self.task.embedded)
        self.images = load_images(self.task.images, self.encoder, progress=False)
        self.features = self.encoder.encode_images(self.images.pixels).cpu()
        self.bank = Bank.from_template(self.task.class_names, self.task.template, self.task.sentence)
        if llm == "none":
            self.first = self._run([])
        else:
            with language_model(llm, seed, facts=self.task.facts) as model:
                self.bank = describe(self.bank, model)
                self.first = self._run([], model)
            self.bank = self.first.attributes  # replayed, as the review does: nobody is asked again

    def learn(self, answered: list[int]) -> Tensor:
        """z (N, M) after answers. The rows of answered images are one-hot."""
        z = torch.nn.functional.one_hot(self.truth, len(self.task.class_names)).to(self.first.assignments)
        z[self._others(answered)] = self._run(answered).assignments
        return z

    def _others(self, answered: list[int]) -> Tensor:
        return torch.tensor([i for i in range(len(self.truth)) if i not in set(answered)])

    def _run(self, answered: list[int], model=None) -> Result:
        others, shots = self._others(answered), torch.tensor(answered, dtype=torch.long)
        parts = [Images.of_pixels(self.images.pixels[rows]) for rows in (others, shots) if len(rows)]
        return run(
            self.encoder,
            parts[0],
            self.task.class_names,
            self.settings,
            attributes=self.bank,
            llm=model,
            support=(parts[1], self.truth[shots]) if answered else None,
            augment=self.task.augmentation(self.encoder.image_size),
            features=self.features[torch.cat([others, shots])],
            progress=False,
        )


def curve(world: World) -> Iterator[dict]:
    """Accuracy after each round, by each way of choosing."""
    before = world.first.assignments
    start = share(answer(before) == world.truth)
    for by in STRATEGIES:
        yield {"by": by, "answered": 0, "accuracy": start, "alone": start, "wrong": 0.0}
        z, answered, wrong = before, [], 0
        for total in ANSWERED:
            taken = torch.zeros(len(world.truth), dtype=torch.bool)
            taken[answered] = True
            top = z.topk(2, dim=1).values
            new = choose(by, total - len(answered), top[:, 0] - top[:, 1], world.first.features, taken, world.seed + total)
            wrong += int((answer(z)[new] != world.truth[new]).sum())
            answered = [*answered, *new]
            z, alone = world.learn(answered), answer(before) == world.truth
            alone[answered] = True
            print(f"{world.task.name} {world.seed} {by} {total}: {share(alone)} {share(answer(z) == world.truth)}", flush=True)
            yield {
                "by": by,
                "answered": total,
                "accuracy": share(answer(z) == world.truth),
                "alone": share(alone),
                "wrong": round(100 * wrong / total, 3),
            }


def share(right: Tensor) -> float:
    return round(100 * float(right.float().mean()), 3)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, with Student's interval of the accuracy and of its difference to random images on the same seed."""
    random = frame[frame.by == "random"].set_index(["setting", "seed", "answered"]).accuracy
    lines = []
    for (setting, by, answered), of in frame.groupby(["setting", "by", "answered"], sort=False):
        more = [row.accuracy - random[setting, row.seed, answered] for row in of.itertuples()]
        low, high = t_interval(list(of.accuracy))
        less, most = t_interval(more)
        lines.append(
            {"setting": setting, "by": by, "answered": answered, "accuracy": of.accuracy.mean(), "low": low, "high": high}
            | {"over random": sum(more) / len(more), "over low": less, "over high": most}
            | {"alone": of.alone.mean(), "wrong": of.wrong.mean()}
        )
    return pd.DataFrame(lines).round(1)


if __name__ == "__main__":
    main()
