"""How the released program asks and keeps answers: which pairs, in turn, repeats and all, by pair, and by one kind of bullet."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from gta.attributes import Bank
from gta.generate import Pair, ask, directions, distinguish, logged, pairs_to_ask
from gta.llm.chat import ChatModel, Question, Reply
from gta.llm.prompts import Prompts

BY_PAIR, ALONE = ", answers by pair", ", bullets alone"  # what is added to the name of a language model


def pairs_above(pairs: Sequence[Pair], beta: int, bank: Bank) -> list[Pair]:
    """The pair threshold as released, for `select_pairs=`: where no new pair is above beta, none is asked about.

    The released program also fails where the first iteration has no confused pair; here it then asks nothing.
    """
    return [pair for pair in pairs_to_ask(pairs, beta, bank) if pair[2] > beta]


def in_turn(bank: Bank, pairs: Sequence[Pair], llm: ChatModel, iteration: int, questions: Prompts | None = None) -> Bank:
    """Ask one question after the other, for `ask=`: a later one shows what earlier ones of the iteration were told."""
    for direction in directions(pairs):
        bank = ask(bank, [direction], llm, iteration, questions)
    return logged(bank, pairs, iteration)


def repeats_kept(bank: Bank, pairs: Sequence[Pair], llm: ChatModel, iteration: int, questions: Prompts | None = None) -> Bank:
    """Answers that a class has already are added again, for `ask=`: they weigh more in the mean, and adapt draws them more often."""
    return distinguish(replace(bank, repeats=True), pairs, llm, iteration, questions)


def in_turn_with_repeats(bank: Bank, pairs: Sequence[Pair], llm: ChatModel, iteration: int, questions: Prompts | None = None) -> Bank:
    """Both, for `ask=`."""
    return in_turn(replace(bank, repeats=True), pairs, llm, iteration, questions)


class AnswersByPair:
    """A language model whose answers about a pair are stored by the names of its classes alone.

    stored: {(name, against): reply} of earlier runs on the dataset, whatever their seed, encoder and question; what is not
    among them is asked and added. Questions about one class are always asked.
    """

    def __init__(self, llm: ChatModel, stored: dict[tuple[str, str | None], Reply]):
        self._llm, self._stored, self.model = llm, stored, llm.model + BY_PAIR

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        new = [question for question in questions if question.against is None or _pair(question) not in self._stored]
        answered = dict(zip(new, self._llm.ask(new), strict=True))
        self._stored |= {_pair(question): reply for question, reply in answered.items() if question.against is not None}
        return [answered[question] if question in answered else self._stored[_pair(question)] for question in questions]


def _pair(question: Question) -> tuple[str, str | None]:
    return question.name, question.against


BULLET = "• "
EMPTY = 308 / 2216  # share of the shipped answers; they are lists of another form


def bulleted(answer: str) -> tuple[str, ...]:
    """The phrases of an answer as the released program reads it: lines that begin with its bullet."""
    return tuple(line.removeprefix(BULLET).strip() for line in answer.splitlines() if line.startswith(BULLET))


class BulletsAlone:
    """A language model whose answers keep only lines with the bullet; an answer without any counts as done, and empty.

    Models that are asked for JSON, as here, write no bullets. So each answer is first written out as the released prompts ask for
    it, as lines: with the bullet, or with a dash as often as the shipped answers are empty, by a hash of seed and classes.
    """

    def __init__(self, llm: ChatModel, seed: int, empty: float = EMPTY):
        self._llm, self._seed, self._empty, self.model = llm, seed, empty, llm.model + ALONE

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        answered = zip(questions, self._llm.ask(questions), strict=True)
        return [reply if reply.whole else replace(reply, phrases=bulleted(self._written(question, reply))) for question, reply in answered]

    def _written(self, question: Question, reply: Reply) -> str:
        drawn = hashlib.sha256(f"{self._seed} {question.about}".encode()).digest()
        mark = "- " if int.from_bytes(drawn[:8]) < self._empty * 2**64 else BULLET
        return "\n".join(mark + phrase for phrase in reply.phrases)
