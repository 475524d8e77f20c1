"""Stored answers about pairs in place of a language model: a pair has its answer when the run asks about it, in either direction."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gta.llm.chat import Question, Reply, Usage

NOT_STORED, EMPTY = "no answer is stored", "the stored answer is empty"


@dataclass
class StoredUsage(Usage):
    """How many questions had a stored answer (`recorded`), and how many had none (`gave_up`). empty: of these, the stored ones."""

    empty: int = 0

    def __str__(self) -> str:
        return (
            f"{self.questions} questions, {self.recorded} with a stored answer, {self.gave_up - self.empty} with none, "
            f"{self.empty} with an empty one; no language model was asked"
        )


class StoredAnswers:
    """A chat model (`gta.llm.chat.ChatModel`) that answers from what is stored, by the names of the two classes alone.

    name: of the source; answers: {(name, against): whole texts about the first class}. What is not stored has a reply without phrases
    whose `gave_up` says so, and is counted in `usage`. The name of the model contains a hash of the answers.
    """

    def __init__(self, name: str, answers: Mapping[tuple[str, str], Sequence[str]]):
        self._answers = {pair: tuple(texts) for pair, texts in answers.items()}
        listed = json.dumps(sorted((*pair, *texts) for pair, texts in self._answers.items()))
        self.model = f"{name}-{hashlib.sha256(listed.encode()).hexdigest()[:8]}"
        self.usage = StoredUsage()

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply for each question, in order. Raises ValueError for a question about one class."""
        for question in questions:
            if question.against is None:
                raise ValueError(
                    f"{question.about}: {self.model} holds answers about pairs alone and cannot say what a class looks like; "
                    "give the first attributes by `attributes`, such as adaptclipzs:CHECKOUT"
                )
        return [self._reply(question) for question in questions]

    def _reply(self, question: Question) -> Reply:
        texts = self._answers.get((question.name, question.against or ""))
        self.usage.questions += 1
        self.usage.recorded += bool(texts)
        self.usage.gave_up += not texts
        self.usage.empty += texts == ()
        return Reply(texts, whole=True) if texts else Reply((), NOT_STORED if texts is None else EMPTY)
