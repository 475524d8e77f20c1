"""Step 1, generate: ask a language model what tells confused classes apart (GTA-CLIP, arXiv 2501.06031)."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from gta.attributes import Bank
from gta.llm import ChatModel

Pair = tuple[int, int, int]

DESCRIBE = (
    'Which visual attributes help to recognise "{name}" in a picture? '
    'Give short phrases that could follow "{name} with"; do not use the name.'
)
DISTINGUISH = (
    'In pictures, "{a}" is confused with "{b}". Which visual attributes does "{a}" have that "{b}" lacks? '
    'Give short phrases that could follow "{a} with"; name neither. '
    "Already known of the first: {known_a}. Already known of the second: {known_b}."
)


def confused_pairs(assignments: Tensor, margin: float = 0.1) -> list[Pair]:
    """Class pairs (a, b, count), a < b, most frequent first, ties by class: the two largest entries of z of the
    images for which they differ by less than `margin`.

    assignments: (N, M).
    """
    if assignments.shape[1] < 2:
        return []
    top = assignments.topk(2, dim=1)
    close = top.values[:, 0] - top.values[:, 1] < margin
    counts = Counter(map(tuple, top.indices[close].sort(dim=1).values.tolist()))
    return sorted(((a, b, count) for (a, b), count in counts.items()), key=lambda pair: (-pair[2], pair))


def pair_threshold(pairs: Sequence[Pair], share: float = 0.05) -> int:
    """beta: the smallest integer for which the number of pairs with count > beta is nearest to `share` of all pairs."""
    counts = [count for _, _, count in pairs]
    return min(range(max(counts, default=0) + 1), key=lambda beta: (abs(sum(c > beta for c in counts) - share * len(counts)), beta))


def pairs_to_ask(pairs: Sequence[Pair], beta: int, bank: Bank) -> list[Pair]:
    """The pairs above beta that were not asked before; where there are new pairs but none above, the most frequent one."""
    asked = {frozenset(names) for _, *names, _ in bank.asked}
    new = [p for p in pairs if frozenset((bank.class_names[p[0]], bank.class_names[p[1]])) not in asked]
    return [p for p in new if p[2] > beta] or new[:1]


def random_pairs(count: int, bank: Bank, seed: int) -> list[Pair]:
    """The control: `count` pairs, each as likely, among those not asked before."""
    asked = {frozenset(names) for _, *names, _ in bank.asked}
    m = len(bank.class_names)
    new = [(a, b, 0) for a in range(m) for b in range(a + 1, m) if frozenset((bank.class_names[a], bank.class_names[b])) not in asked]
    return random.Random(seed).sample(new, min(count, len(new)))


def describe(bank: Bank, llm: ChatModel) -> Bank:
    """Static attributes, in place of the templates: one question a class."""
    for i, name in enumerate(bank.class_names):
        bank = bank.add(i, llm.ask(DESCRIBE.format(name=name)), source="static")
    return bank.without_templates()


def distinguish(bank: Bank, pairs: Sequence[Pair], llm: ChatModel, iteration: int) -> Bank:
    """Two questions a pair, what tells a from b and b from a; all show the lists as they stand now, before any answer."""
    answers = []
    for a, b, count in pairs:
        for this, other in ((a, b), (b, a)):
            known = {"known_a": _listed(bank.phrases(this)), "known_b": _listed(bank.phrases(other))}
            answers.append((this, other, llm.ask(DISTINGUISH.format(a=bank.class_names[this], b=bank.class_names[other], **known))))
        bank = replace(bank, asked=(*bank.asked, (iteration, bank.class_names[a], bank.class_names[b], count)))
    for this, other, phrases in answers:
        named = re.compile(rf"(?<!\w){re.escape(bank.class_names[other])}(?!\w)", re.IGNORECASE)
        said = [phrase for phrase in phrases if not named.search(phrase)]
        bank = bank.add(this, said, source="pair", against=bank.class_names[other], iteration=iteration)
    return bank


def _listed(phrases: Sequence[str]) -> str:
    return "; ".join(phrases) or "nothing"
