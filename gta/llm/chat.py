"""The language model: asks several questions at once. Each answer is a list of phrases, and each question is paid for only once.

If the endpoint does not answer, this is an outage (`gta.llm.endpoint`): an error stops the run, and the question is not recorded as done.
If an answer cannot be used (refused, no list), it costs money all the same. The ledger keeps it as evidence, and the question is asked
again, with that answer as a turn of its own and the reason: a model at temperature 0 says the same to the same words. After `tries` such
answers the question is recorded as given up, and the run continues. Of an answer that was cut off, as that of a model that repeats itself
without end, the complete phrases are kept.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from tqdm import tqdm

from gta.llm.address import hide
from gta.llm.answers import CUT, LARGEST, UnusableAnswer, embedded, read
from gta.llm.endpoint import LONGEST_WAIT, Endpoint, LanguageModelError, Refused
from gta.llm.ledger import Ledger, digest
from gta.llm.manner import SCHEMA, Message
from gta.llm.sampling import DEFAULT, identity

AGAIN = "The last answer could not be used ({reason}). Answer with the list alone."
SHOWN = 2000  # characters of a useless answer that the model is shown again


@dataclass(frozen=True)
class Question:
    """text: what is sent; name, against: the class of the question, and the class to distinguish it from; sample: the number of the
    answer, if several answers to the same text are wanted; fault: why the phrases of an answer are of no use all together, or None."""

    text: str
    name: str
    against: str | None = None
    sample: int = 0
    fault: Callable[[Sequence[str]], str | None] | None = field(default=None, compare=False, repr=False)

    @property
    def about(self) -> str:
        return repr(self.name) if self.against is None else f"{self.name!r} against {self.against!r}"


@dataclass(frozen=True)
class Reply:
    """The phrases that the model gave. If the question was given up, there are none, and `gave_up` is the reason. note: what was kept of
    an answer that was cut off or too long. whole: the phrases are texts of the class already, with its name in them."""

    phrases: tuple[str, ...]
    gave_up: str | None = None
    note: str | None = None
    whole: bool = False


class ChatModel(Protocol):
    """An object that answers questions with lists of phrases: one reply for each question, in order. model: what its answers depend on."""

    @property
    def model(self) -> str: ...

    def ask(self, questions: Sequence[Question]) -> list[Reply]: ...


class CapReached(LanguageModelError):
    """The run would exceed `max_calls` or `max_tokens`."""


@dataclass
class Usage:
    """The cost of questions. calls: requests sent; recorded: distinct questions that the ledger answered."""

    questions: int = 0
    recorded: int = 0
    gave_up: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    price: tuple[float, float] | None = None

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __str__(self) -> str:
        text = (
            f"{self.questions} questions, {self.recorded} answered from the ledger, {self.gave_up} given up; "
            f"{self.calls} calls, {self.prompt_tokens} + {self.completion_tokens} tokens"
        )
        if self.price is None:
            return text
        cost = (self.prompt_tokens * self.price[0] + self.completion_tokens * self.price[1]) / 1e6
        return f"{text}, cost {cost:.4f} at {self.price[0]} + {self.price[1]} per million tokens"


@dataclass
class LanguageModel:
    """A chat model at `base_url`, with the key of OPENAI_API_KEY; a local server needs no key.

    name: as the endpoint knows it. ledger: keeps the answers; None keeps none. sampling: other parameters of a request, such as the
    temperature (`gta.llm.sampling`). tries: the limit of unusable answers to a question, and of successive outages. backoff: seconds
    before the second try after an outage. timeout: seconds without a byte. patience: seconds that a server may load its model.
    max_calls, max_tokens: limits for this object, over all answers; requests in progress may exceed the second one. price: (prompt,
    completion) per million tokens. Raises ValueError for a base_url with a password.
    """

    name: str
    base_url: str | None = None
    ledger: Ledger | None = None
    sampling: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT))
    tries: int = 4
    backoff: float = 1.0
    timeout: float = 600.0
    patience: float = LONGEST_WAIT
    concurrency: int = 8
    max_calls: int | None = None
    max_tokens: int | None = None
    price: tuple[float, float] | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        self.usage = Usage(price=self.price)
        self._endpoint = Endpoint(self.name, self.base_url, self.sampling, self.tries, self.backoff, self.timeout, self.patience)
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """What the answers depend on: the name, with every parameter that is not the default."""
        return identity(self.name, self.sampling)

    @property
    def learnt(self) -> tuple[str, ...]:
        """What the endpoint refused, and how it is asked instead."""
        return self._endpoint.manner.told

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply for each question, in order. Up to `concurrency` questions are asked at once; equal questions are asked once.

        After an error no further question is sent; requests in progress finish, and their answers are kept. Then that error is
        raised: LanguageModelError or a subclass, LedgerMiss, or ValueError for a damaged ledger.
        """
        keys = [digest(self._request(question)) for question in questions]
        distinct = dict(zip(keys, questions, strict=True))
        stopped, errors = threading.Event(), []

        def reply_to(question: Question) -> Reply | None:
            if stopped.is_set():
                return None
            try:
                return self._reply(question)
            except Exception as error:
                errors.append(error)
                stopped.set()
                return None

        bar = tqdm(total=len(distinct), desc=self.model, unit="question", delay=2, leave=False, disable=not self.progress)
        with ThreadPoolExecutor(self.concurrency) as pool, bar:
            replies: dict[str, Reply | None] = {}
            try:
                for key, reply in zip(distinct, pool.map(reply_to, distinct.values()), strict=True):
                    replies[key] = reply
                    bar.update()
            finally:
                stopped.set()  # also after an interrupt: waiting questions are not sent
        if errors:
            raise errors[0]
        self.usage.questions += len(questions)
        return [reply for key in keys if (reply := replies[key]) is not None]

    def _request(self, question: Question) -> dict[str, Any]:
        """Everything that determines the answer. The address of the endpoint does not: a model gives the same answer everywhere."""
        messages = [{"role": "user", "content": question.text}]
        return {"model": self.name, "messages": messages, "schema": SCHEMA, "sampling": dict(self.sampling), "sample": question.sample}

    def _reply(self, question: Question) -> Reply:
        request = self._request(question)
        with self.ledger.held(request) if self.ledger else nullcontext():
            entry: dict[str, Any] = {"about": question.about, "request": request, "status": "open", "attempts": []}
            if self.ledger is not None:
                entry = self.ledger.find(request, question.about)
            recorded = entry["status"] != "open"
            while entry["status"] == "open":
                self._attempt(question, entry)
                if self.ledger is not None:
                    self.ledger.save(entry)
        with self._lock:
            self.usage.recorded += recorded
            self.usage.gave_up += entry["status"] == "gave_up"
        return Reply((), entry["reason"]) if entry["status"] == "gave_up" else Reply(tuple(entry["answer"]), note=entry.get("note"))

    def _attempt(self, question: Question, entry: dict[str, Any]) -> None:
        """One paid answer into the entry: usable, or evidence and the reason to ask again."""
        start = time.perf_counter()
        content, reason, tokens = None, None, [0, 0]
        phrases: list[str] = []
        note: str | None = None
        try:
            messages = conversation(question.text, entry["attempts"])
            completion = self._endpoint.complete(messages, question.sample, question.about, lambda: self._count_call(question))
            tokens = _tokens(completion)
            content, reason = _content(completion)
            content = hide(content)
            if reason in (None, CUT):
                phrases, note = read(content, cut=reason == CUT)
                if question.fault is not None and (fault := question.fault(phrases)):
                    phrases, reason = [], fault
        except (Refused, UnusableAnswer) as error:
            reason = f"refused: {error}" if isinstance(error, Refused) else str(error)
        if reason == CUT and not phrases:
            limit = ", ".join(f"{name}={value}" for name, value in self.sampling.items() if "max" in name) or "a limit of the endpoint"
            self._endpoint.tell(f"{self.name} was cut off by {limit} before it had said a phrase: `sampling` sets a larger max_tokens")
        with self._lock:
            self.usage.prompt_tokens += tokens[0]
            self.usage.completion_tokens += tokens[1]
        attempt = {"raw": content and content[:LARGEST], "reason": reason, "prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        learnt = {"asked": told} if (told := list(self.learnt)) else {}  # how the endpoint wants to be asked
        entry["attempts"].append({**attempt, "seconds": round(time.perf_counter() - start, 3), **learnt})
        if phrases:
            entry |= {"status": "answered", "answer": phrases, "note": note}
        elif len(entry["attempts"]) >= self.tries:
            entry |= {"status": "gave_up", "reason": reason}

    def _count_call(self, question: Question) -> None:
        with self._lock:
            for cap, used, unit in ((self.max_calls, self.usage.calls, "calls"), (self.max_tokens, self.usage.tokens, "tokens")):
                if cap is not None and used >= cap:
                    raise CapReached(f"{question.about}: the cap of {cap} {unit} is reached; what was answered is kept")
            self.usage.calls += 1


def conversation(text: str, attempts: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A question and, after a useless answer, that answer and what is wrong with it."""
    if not attempts:
        return [{"role": "user", "content": text}]
    last, again = attempts[-1], AGAIN.format(reason=attempts[-1]["reason"])
    if not (last["raw"] or "").strip():  # nothing to show: endpoints refuse an empty turn
        return [{"role": "user", "content": f"{text}\n\n{again}"}]
    turns = (("user", text), ("assistant", last["raw"][:SHOWN]), ("user", again))
    return [{"role": role, "content": content} for role, content in turns]


def _content(completion: Any) -> tuple[str, str | None]:
    """The text of the model, and the reason why it cannot be used, or None."""
    choice = completion.choices[0]
    refusal = getattr(choice.message, "refusal", None)
    content = _text(choice.message)
    content = content.encode(errors="replace").decode()  # a single surrogate cannot be written
    if refusal:
        return str(refusal).encode(errors="replace").decode(), "refused"
    if choice.finish_reason == "content_filter":
        return content, "refused: content filter"
    return content, CUT if choice.finish_reason == "length" else None


def _text(message: Any) -> str:
    """What a message says: its text, the texts of its parts, or, where all of it stands under its reasoning, the list in there."""
    content = message.content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type", "text") == "text")
        content = "".join(text for text in parts if isinstance(text, str))
    if not content:
        thoughts = (getattr(message, name, None) for name in ("reasoning_content", "reasoning"))
        content = next((thought for thought in thoughts if isinstance(thought, str) and embedded(thought)), "")
    return content if isinstance(content, str) else ""


def _tokens(completion: Any) -> list[int]:
    """Prompt and completion tokens; 0 if the endpoint does not give them."""
    counts = [getattr(completion.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    return [count if isinstance(count, int) else 0 for count in counts]
