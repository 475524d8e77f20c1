"""Step 1, generate: ask a language model what tells confused classes apart (GTA-CLIP, arXiv 2501.06031)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gta.attributes import Bank
from gta.llm import prompts
from gta.llm.answers import Sorted, sort_out
from gta.llm.chat import ChatModel, Question, Reply
from gta.llm.phrases import bare
from gta.llm.prompts import Prompts
from gta.names import fill

if TYPE_CHECKING:  # asking needs no torch
    from gta.labels import Z

Pair = tuple[int, int, int]


def confused_pairs(z: Z, margin: float = 0.1) -> list[Pair]:
    """Class pairs (a, b, count), a < b, most frequent first, ties by class. An image counts for the pair of its two largest
    z if these differ by less than `margin`. z: (N, M)."""
    from gta.labels import likeliest, share_of

    top = likeliest(z, 2)
    if top.shape[1] < 2:
        return []
    first, second = share_of(z, top).T
    counts = Counter(map(tuple, top[first - second < margin].sort(dim=1).values.tolist()))
    return sorted(((a, b, count) for (a, b), count in counts.items()), key=lambda pair: (-pair[2], pair))


def pair_threshold(pairs: Sequence[Pair], share: float = 0.05) -> int:
    """beta: the smallest integer for which the number of pairs with count > beta is nearest to `share` of all pairs."""
    counts = [count for _, _, count in pairs]
    return min(range(max(counts, default=0) + 1), key=lambda beta: (abs(sum(c > beta for c in counts) - share * len(counts)), beta))


def pairs_to_ask(pairs: Sequence[Pair], beta: int, bank: Bank) -> list[Pair]:
    """The new pairs, not asked before, whose count is above beta; if none is above, the most frequent new pair."""
    asked = _asked(bank)
    new = [pair for pair in pairs if _is_new(pair[0], pair[1], bank, asked)]
    return [pair for pair in new if pair[2] > beta] or new[:1]


def random_pairs(count: int, bank: Bank, seed: str) -> list[Pair]:
    """The control: `count` pairs, drawn evenly from those not asked before."""
    m, asked = len(bank.class_names), _asked(bank)
    new = [(a, b, 0) for a in range(m) for b in range(a + 1, m) if _is_new(a, b, bank, asked)]
    return random.Random(seed).sample(new, min(count, len(new)))


def _asked(bank: Bank) -> set[frozenset[int]]:
    return {frozenset((a, b)) for _, a, b, _ in bank.asked}


def _is_new(a: int, b: int, bank: Bank, asked: set[frozenset[int]]) -> bool:
    """Not asked before, and with names that differ: nothing tells apart two classes of one name."""
    return bank.class_names[a] != bank.class_names[b] and frozenset((a, b)) not in asked


def describe(bank: Bank, llm: ChatModel, questions: Prompts | None = None) -> Bank:
    """Static attributes, in place of the templates: what a class looks like and, in natural domains, where it is found.

    An answer of which no phrase is of use is asked for again. A class without a usable phrase keeps its template. questions: by
    default those of the general domain.
    """
    questions = questions or prompts.load()
    kinds = [("static", questions.describe), ("habitat", questions.habitat)]
    asked = [(i, source, text) for i in range(len(bank.class_names)) for source, text in kinds if text]
    names = bank.class_names
    replies = llm.ask([Question(fill(text, name=names[i]), names[i], fault=_fault_of(bank, i)) for i, _, text in asked])
    for (i, source, _), reply in zip(asked, replies, strict=True):
        bank = _take(bank, i, reply, source=source, origin=llm.model)
    return bank.without_templates()


def distinguish(bank: Bank, pairs: Sequence[Pair], llm: ChatModel, iteration: int, questions: Prompts | None = None) -> Bank:
    """Ask two questions a pair: what tells a from b, and b from a. All show what was known when the iteration began."""
    return logged(ask(bank, directions(pairs), llm, iteration, questions), pairs, iteration)


def directions(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Both directions of each pair."""
    return [direction for a, b, _ in pairs for direction in ((a, b), (b, a))]


def ask(bank: Bank, about: Sequence[tuple[int, int]], llm: ChatModel, iteration: int, questions: Prompts | None = None) -> Bank:
    """Ask what tells a class from another, for each (class, other), all at once; the answers are added."""
    text = (questions or prompts.load()).distinguish
    now, names = bank.at(iteration), bank.class_names
    fields = [{"a": names[i], "b": names[j], "known_a": _listed(now.phrases(i)), "known_b": _listed(now.phrases(j))} for i, j in about]
    faults = [_fault_of(bank, i, names[j]) for i, j in about]
    asked = zip(fields, faults, strict=True)
    replies = llm.ask([Question(fill(text, **field), field["a"], field["b"], fault=fault) for field, fault in asked])
    for (i, j), reply in zip(about, replies, strict=True):
        provenance = {"source": "pair", "against": names[j], "iteration": iteration, "origin": llm.model}
        bank = _take(bank, i, reply, **provenance)
    return bank


def logged(bank: Bank, pairs: Sequence[Pair], iteration: int) -> Bank:
    """The bank with the pairs in its log, so that they are not asked about again."""
    return replace(bank, asked=(*bank.asked, *((iteration, a, b, count) for a, b, count in pairs)))


def _take(bank: Bank, i: int, reply: Reply, **provenance) -> Bank:
    """The usable phrases of a reply as texts of class i, the others in the log."""
    if reply.whole:
        return bank.add_texts(i, reply.phrases, **provenance)
    kept, dropped = _sorted(bank, i, reply.phrases, provenance.get("against"))
    if reply.gave_up is not None:
        dropped = [("gave up", reply.gave_up)]
    if reply.note is not None:
        reason, _, told = reply.note.partition(": ")
        dropped.append((reason, told))
    return bank.add(i, kept, **provenance).drop(i, dropped, **provenance)


def _sorted(bank: Bank, i: int, phrases: Sequence[str], against: str | None) -> Sorted:
    """What of an answer about class i can be used."""
    name = bank.class_names[i]
    own = (name, bank.template.replace("{}", name))
    return sort_out([bare(phrase, name, bank.sentence) for phrase in phrases], against, bank.repeats, own)


def _fault_of(bank: Bank, i: int, against: str | None = None) -> Callable[[Sequence[str]], str | None]:
    """Says why nothing of an answer can be used, or None."""

    def fault(phrases: Sequence[str]) -> str | None:
        kept, dropped = _sorted(bank, i, phrases, against)
        return None if kept else f"no phrase is of use: {', '.join(dict.fromkeys(reason for reason, _ in dropped))}"

    return fault


def _listed(phrases: Sequence[str]) -> str:
    return "; ".join(phrases) or "nothing"
