"""Get one chat completion from an endpoint that speaks the OpenAI protocol, with all its possible errors.

After an outage (429, 5xx, a broken connection, a timeout, a body that is no chat completion) the request is sent again: after an
increasing time, or after the time that the endpoint asks for. The key comes from OPENAI_API_KEY. No result or error contains it.
"""

import email.utils
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import openai

from gta.llm.answers import MOST


def _schema(**cap: int) -> dict[str, Any]:
    phrases = {"type": "array", "items": {"type": "string"}, **cap}
    return {"type": "object", "properties": {"attributes": phrases}, "required": ["attributes"], "additionalProperties": False}


SCHEMA = _schema(maxItems=MOST)
# What a request asks for; an endpoint that refuses a form is asked for a later one, and for the last in words.
FORMS = (SCHEMA, _schema(), None)
PLAIN = f"Answer with a list only, at most {MOST} phrases, one phrase a line, each line beginning with '- '."
LONGEST_WAIT = 300.0  # seconds: if an endpoint asks to wait longer, the run stops with an error


class LanguageModelError(RuntimeError):
    """The endpoint did not answer. The message has the question and the reason. Earlier answers are kept."""


class QuotaExhausted(LanguageModelError):
    """The account has no credit left, so waiting does not help."""


class Refused(Exception):
    """The content filter of the endpoint refused a question."""


class _NoCompletion(Exception):
    """A body with status 200 that is no chat completion."""


class Endpoint:
    """tries: the limit of successive outages; backoff: seconds before the second try, doubled each time; timeout: seconds without a byte.

    Raises ValueError for a base_url with a user or password.
    """

    def __init__(self, model: str, base_url: str | None, sampling: Mapping[str, Any], tries: int, backoff: float, timeout: float):
        if "@" in urlsplit(base_url or "").netloc:
            raise ValueError("base_url holds a user or password; the key comes from OPENAI_API_KEY alone")
        self.model, self.base_url, self.sampling = model, base_url, dict(sampling)
        self.tries, self.backoff, self.timeout = tries, backoff, timeout
        self.place = f"{model} at {urlsplit(base_url or 'https://api.openai.com').netloc}"
        self._key = os.environ.get("OPENAI_API_KEY") or "none"
        self._form = 0  # of FORMS
        self._client: openai.OpenAI | None = None
        self._lock = threading.Lock()

    def complete(self, text: str, sample: int, about: str, before_call: Callable[[], None]) -> Any:
        """The completion of one user message, with at least one choice. `before_call` runs before each request.

        The request asks for the JSON schema; if the endpoint does not support schemas, it asks for a list in words. Raises
        LanguageModelError after `tries` successive outages, or at once if waiting cannot help, and Refused.
        """
        outages = 0
        while True:
            before_call()
            form = self._form
            try:
                return self._send(text, sample, FORMS[form])
            except openai.OpenAIError as error:
                if FORMS[form] and _wants_no_schema(error):
                    self._form = max(self._form, 1 if form == 0 and _wants_no_cap(error) else 2)
                    continue
                outages += 1
                wait = self._wait(error, about, outages)
            except _NoCompletion as error:
                outages += 1
                wait = self._next_wait(f"{about}: {self.place} gave {error}", outages)
            time.sleep(wait)

    def hide(self, text: str) -> str:
        """The text without the key, because an endpoint may repeat it."""
        return text.replace(self._key, "[key]") if len(self._key) > 6 else text

    def _send(self, text: str, sample: int, schema: dict[str, Any] | None) -> Any:
        options: dict[str, Any] = dict(self.sampling)
        if sample:
            options["seed"] = options.get("seed", 0) + sample
        if schema:
            options["response_format"] = {"type": "json_schema", "json_schema": {"name": "attributes", "strict": True, "schema": schema}}
        message: Any = {"role": "user", "content": text if schema else f"{text}\n\n{PLAIN}"}
        try:
            reply: Any = self._connected().chat.completions.create(model=self.model, messages=[message], extra_body=options)
        except (ValueError, RecursionError) as error:
            raise _NoCompletion(f"a body that is not JSON ({type(error).__name__})") from None
        choices = getattr(reply, "choices", None)
        if not isinstance(choices, list) or not choices or getattr(choices[0], "message", None) is None:
            raise _NoCompletion("a body that is no chat completion")
        return reply

    def _connected(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                self._client = openai.OpenAI(api_key=self._key, base_url=self.base_url, timeout=self.timeout, max_retries=0)
            return self._client

    def _wait(self, error: openai.OpenAIError, about: str, outages: int) -> float:
        """Seconds until the next try. Raises the error that ends the run; it hides the client's error, which contains the request."""
        said = f"{about}: {self.place}: {self.hide(str(error))[:1000]}"
        code = getattr(error, "code", None)
        if code == "content_filter":
            raise Refused("content filter") from None
        if code == "insufficient_quota":
            raise QuotaExhausted(said) from None
        status = getattr(error, "status_code", None) or 0
        passing = isinstance(error, openai.APIConnectionError) or status in (408, 409, 425, 429) or status >= 500
        if not passing:
            raise LanguageModelError(said + (self._parameters(said) if status in (400, 422) else "")) from None
        if isinstance(error, openai.APITimeoutError):
            said += f" ({self.timeout:g} s without a byte; `sampling` sets timeout, and a smaller concurrency)"
        wait, asked = self._next_wait(said, outages), _retry_after(error)
        if asked is not None and asked > LONGEST_WAIT:
            raise LanguageModelError(f"{said}; it asks to wait {asked:.0f} s, more than {LONGEST_WAIT:.0f}") from None
        return wait if asked is None else asked

    def _parameters(self, said: str) -> str:
        """The parameters that a refusal may be about: those that it names, or all, with how to change them."""
        named = [name for name in self.sampling if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said)]
        held = ", ".join(f"{name}={self.sampling[name]!r}" for name in named or self.sampling)
        return f"; the request held {held}: `sampling` sets it, and leaves out what is None" if held else ""

    def _next_wait(self, said: str, outages: int) -> float:
        if outages >= self.tries:
            raise LanguageModelError(f"{said}, {outages} times in a row") from None
        return self.backoff * 2 ** (outages - 1)


def only_model(base_url: str) -> str:
    """The model of an endpoint that serves only one. Raises ValueError, with the names, if there are several, and LanguageModelError if
    the endpoint does not list its models."""
    try:
        client = openai.OpenAI(api_key=os.environ.get("OPENAI_API_KEY") or "none", base_url=base_url, timeout=10, max_retries=1)
        names = [model.id for model in client.models.list().data]
    except openai.OpenAIError as error:
        raise LanguageModelError(f"{base_url} does not say which model it serves ({type(error).__name__}); give MODEL@URL") from None
    if len(names) != 1:
        raise ValueError(f"{base_url} serves {len(names)} models ({', '.join(names[:10])}); give MODEL@{base_url}")
    return names[0]


def _wants_no_schema(error: openai.OpenAIError) -> bool:
    words = ("response_format", "json_schema", "structured", "grammar")
    return getattr(error, "status_code", 0) in (400, 404, 422, 501) and any(word in str(error).casefold() for word in words)


def _wants_no_cap(error: openai.OpenAIError) -> bool:
    return any(word in str(error).casefold() for word in ("maxitems", "features"))


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
