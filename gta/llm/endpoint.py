"""Get one chat completion from an endpoint that speaks the OpenAI protocol, with all its possible errors.

After an outage (429, 5xx, a broken connection, a timeout, a body that is no chat completion) the request is sent again: after an
increasing time, or after the time that the endpoint asks for. A server that is not ready yet (503) is waited for longer. What an endpoint
refuses by name is asked for otherwise, and remembered (`gta.llm.manner`). The key comes from OPENAI_API_KEY. No result or error
contains it.
"""

import email.utils
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import openai
from tqdm import tqdm

from gta.llm import mends
from gta.llm.address import Address, LanguageModelError
from gta.llm.causes import is_page, readable, reason, said
from gta.llm.manner import FORMS, Manner, Message

LONGEST_WAIT = 300.0  # seconds: if an endpoint asks to wait longer, the run stops with an error
LONGEST_STEP = 10.0  # seconds between two looks at a server that is not ready
__all__ = ["Endpoint", "LanguageModelError", "QuotaExhausted", "Refused", "only_model"]


class QuotaExhausted(LanguageModelError):
    """The account has no credit left, so waiting does not help."""


class Refused(Exception):
    """The content filter of the endpoint refused a question."""


class _NoCompletion(Exception):
    """A body with status 200 that is no chat completion."""


class Endpoint:
    """tries: the limit of successive outages; backoff: seconds before the second try, doubled each time; timeout: seconds without a byte;
    patience: seconds that a server may be not ready.

    Raises ValueError for a base_url with a user or password.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        sampling: Mapping[str, Any],
        tries: int,
        backoff: float,
        timeout: float,
        patience: float = LONGEST_WAIT,
    ):
        self.model, self.address, self.sampling = model, Address.of(base_url), dict(sampling)
        self.tries, self.backoff, self.timeout, self.patience = tries, backoff, timeout, patience
        self.manner = Manner(self.sampling)
        self._asked = f"POST {self.address.url}/chat/completions"
        self._answered = False  # whether the form of the answer was understood once
        self._told: set[str] = set()
        self._client: openai.OpenAI | None = None
        self._lock = threading.Lock()

    def complete(self, messages: Sequence[Message], sample: int, about: str, before_call: Callable[[], None]) -> Any:
        """The completion of a conversation, with at least one choice. `before_call` runs before each request, but for those that only
        look whether the server is ready.

        Raises LanguageModelError after `tries` successive outages, or at once if waiting cannot help, and Refused.
        """
        outages, looks, since = 0, 0, 0.0
        while True:
            if not looks:
                before_call()
            manner = self.manner
            try:
                completion = self._send(messages, sample, manner)
                self._answered = True
                return completion
            except openai.OpenAIError as error:
                if self._learns(manner, error, outages):
                    continue
                if getattr(error, "status_code", None) == 503 and _retry_after(error) is None:
                    since, looks = since or time.monotonic(), looks + 1
                    self._wait_until_ready(error, about, since, looks)
                    continue
                outages, looks, since = outages + 1, 0, 0.0
                wait = self._wait(error, about, outages)
            except _NoCompletion as error:
                if str(error).startswith("a stream") and not manner.streams:
                    self._adopt(manner, manner.whole())
                    continue
                outages, looks, since = outages + 1, 0, 0.0
                wait = self._next_wait(f"{about}: {self._asked} answered {error}", outages, elsewhere="a page" in str(error))
            time.sleep(wait)

    def _send(self, messages: Sequence[Message], sample: int, manner: Manner) -> Any:
        client = self._connected()
        try:
            reply: Any = client.chat.completions.create(model=self.model, **manner.request(messages, sample))  # type: ignore[arg-type]
        except (ValueError, RecursionError) as error:
            raise _NoCompletion(f"a body that is not JSON ({type(error).__name__})") from None
        if isinstance(reply, str) and reply.lstrip().startswith("data:"):
            raise _NoCompletion("a stream of pieces instead of a chat completion")
        choices = getattr(reply, "choices", None)
        if not isinstance(choices, list) or not choices or getattr(choices[0], "message", None) is None:
            raise _NoCompletion(_told_by(reply))
        return reply

    def _connected(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                self._client = self.address.client(self.timeout)
            return self._client

    def _learns(self, manner: Manner, error: openai.OpenAIError, outages: int) -> bool:
        """Whether the endpoint said how else it wants to be asked, or another thread has learnt it meanwhile.

        A server that breaks twice (500) and has never answered is tried without the schema: some break at it and say nothing.
        """
        status = getattr(error, "status_code", None)
        new = manner.learnt(f"{getattr(error, 'param', '')} {_words(error)}") if status in (400, 404, 422, 500, 501) else None
        if new is None and status == 500 and outages and not self._answered and FORMS[manner.form]:
            new = manner.plainer()
        if new is not None:
            self._adopt(manner, new, f" ({said(error)})")
        return new is not None

    def _adopt(self, old: Manner, new: Manner, words: str = "") -> None:
        with self._lock:
            if self.manner is not old:
                return
            self.manner = new
        self.tell(f"{self.model} at {self.address.url} {new.told[-1]}{words}")

    def tell(self, line: str) -> None:
        """Print a line on the standard error, once."""
        if line not in self._told:
            self._told.add(line)
            tqdm.write(line, file=sys.stderr)

    def _wait_until_ready(self, error: openai.OpenAIError, about: str, since: float, looks: int) -> None:
        """Sleep until the next look. Raises LanguageModelError when the patience is at its end."""
        waited = time.monotonic() - since
        text = f"{self._asked} answered 503: {said(error)}"
        if waited >= self.patience:
            raise LanguageModelError(f"{about}: {text}, for {waited:.0f} s; `sampling` sets patience, now {self.patience:g}") from None
        self.tell(f"{text}; waiting until it is ready, up to {self.patience:g} s")
        time.sleep(min(self.backoff * 2 ** min(looks - 1, 20), LONGEST_STEP, self.patience - waited))

    def _wait(self, error: openai.OpenAIError, about: str, outages: int) -> float:
        """Seconds until the next try. Raises the error that ends the run; it hides the client's error, which contains the request."""
        text, status, code = said(error), getattr(error, "status_code", None), getattr(error, "code", None)
        told = f"{about}: {self._asked} answered {status}: {text}" if status else f"{about}: {self._asked} failed: {text}"
        proxy = f"; it went through the proxy of {name}: NO_PROXY={self.address.host} goes past it" if (name := self.address.proxy) else ""
        if code == "content_filter":
            raise Refused("content filter") from None
        if code == "insufficient_quota" or status == 402:
            raise QuotaExhausted(f"{told}; waiting does not help") from None
        if isinstance(error, openai.APIStatusError) and not (status in (408, 409, 425, 429) or error.status_code >= 500):
            sent = {name: value for name, value in self.sampling.items() if name not in self.manner.without}
            mend = mends.refused(error, _words(error), self.address, self.model, sent)
            raise LanguageModelError(f"{told}; {mend}{proxy}" if mend else told + proxy) from None
        if isinstance(error, openai.APITimeoutError):
            told += f" ({self.timeout:g} s without a byte; `sampling` sets timeout, and a smaller concurrency)"
        elif status is None and not proxy and (mend := mends.unreached(text, self.address, self.model)):
            told += f"; {mend}"
            if not mends.may_pass(text):
                raise LanguageModelError(told + proxy) from None
        wait, asked = self._next_wait(told + proxy, outages), _retry_after(error)
        if asked is not None and asked > LONGEST_WAIT:
            raise LanguageModelError(f"{told}; it asks to wait {asked:.0f} s, more than {LONGEST_WAIT:.0f}") from None
        return wait if asked is None else asked

    def _next_wait(self, told: str, outages: int, elsewhere: bool = False) -> float:
        if outages >= self.tries:
            mend = f"; {mends.elsewhere(self.address, self.model)}" if elsewhere else ""
            raise LanguageModelError(f"{told}, {outages} times in a row{mend}") from None
        return self.backoff * 2 ** (outages - 1)


def only_model(base_url: str) -> str:
    """The model of an endpoint that serves only one. Raises ValueError, with the names, if there are several, and LanguageModelError if
    the endpoint does not list its models."""
    address = Address.of(base_url)
    try:
        with address.client(timeout=10) as client:
            names = [model.id for model in client.models.list().data]
    except openai.OpenAIError as error:
        status = getattr(error, "status_code", None)
        told = f"answered {status}: {said(error)}" if status else f"failed: {said(error)}"
        raise LanguageModelError(f"GET {address.url}/models {told}; it does not say which model it serves: give MODEL@{address}") from None
    except (AttributeError, TypeError, ValueError):
        raise LanguageModelError(f"GET {address.url}/models answered no list of models: give MODEL@{address}") from None
    if len(names) != 1:
        listed = ", ".join(map(readable, names[:10]))
        raise ValueError(f"{address} serves {len(names)} models ({listed}); give MODEL@{address}")
    return names[0]


def _words(error: openai.OpenAIError) -> str:
    """All that an error says, for what is looked for in it."""
    return f"{reason(getattr(error, 'body', None))} {error}"


def _told_by(reply: Any) -> str:
    """What a body with status 200 is instead of a chat completion."""
    if isinstance(reply, str):
        return f"200 with {readable(reason(reply))}" if is_page(reply) else f"a body that is no chat completion: {readable(reply)!r}"
    told = getattr(reply, "model_extra", None) or {}
    words = next((words for name in ("error", "message", "detail") if (words := reason(told.get(name)))), "")
    return "a body that is no chat completion" + (f": {readable(words)}" if words else "")


def _retry_after(error: openai.OpenAIError) -> float | None:
    """Seconds that the endpoint asks to wait, from a number or a date in the header, or None."""
    response = getattr(error, "response", None)
    value = response.headers.get("retry-after") if response is not None else None
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
