"""The language model: any endpoint that speaks the OpenAI chat protocol, asked for a list of attributes."""

import json
import os
from typing import Any, Protocol

import openai

ANSWER: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "attributes",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"attributes": {"type": "array", "items": {"type": "string"}}},
            "required": ["attributes"],
            "additionalProperties": False,
        },
    },
}


class ChatModel(Protocol):
    """Whatever answers a question with a list of attributes."""

    def ask(self, question: str) -> list[str]: ...


class LanguageModelError(RuntimeError):
    """The endpoint gave no usable answer; the message names the question and the reason."""


class LanguageModel:
    """A chat model behind `base_url`, with the key of OPENAI_API_KEY; a local server needs none."""

    def __init__(self, model: str, base_url: str | None = None, timeout: float = 60.0, tries: int = 3):
        self.model, self.tries, self.calls, self.tokens = model, tries, 0, 0
        self._client = openai.OpenAI(
            api_key=os.environ.get("OPENAI_API_KEY", "none"), base_url=base_url, timeout=timeout, max_retries=tries
        )

    def ask(self, question: str) -> list[str]:
        """The attributes that answer a question, at least one, as non-empty strings.

        Asks again, `tries` times in all, where the answer is not the JSON list it was asked for; connection errors are
        repeated by the client. Raises LanguageModelError when that does not help.
        """
        reason = ""
        for _ in range(self.tries):
            try:
                reply = self._client.chat.completions.create(
                    model=self.model, messages=[{"role": "user", "content": question}], response_format=ANSWER, temperature=0
                )
            except openai.OpenAIError as error:
                raise LanguageModelError(f"{self.model} at {self._client.base_url} did not answer {question!r}: {error}") from error
            self.calls += 1
            self.tokens += reply.usage.total_tokens if reply.usage else 0
            try:
                attributes = json.loads(reply.choices[0].message.content or "")["attributes"]
                attributes = [" ".join(text.split()) for text in attributes if text.strip()]
            except (json.JSONDecodeError, KeyError, TypeError, IndexError, AttributeError) as error:
                reason = repr(error)
                continue
            if attributes:
                return attributes
            reason = "the list is empty"
        raise LanguageModelError(f"{self.model} gave no list of attributes in {self.tries} tries ({reason}) for {question!r}")
