"""How one endpoint wants to be asked: what a request carries, and what is learnt when the endpoint refuses a part of it in its own words.

Only what nobody chose is left out: the form of the answer, and parameters that have their default. What a user chose is sent or the run
stops, but for `max_tokens`, which some endpoints know by another name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gta.llm.answers import MOST
from gta.llm.sampling import DEFAULT

Message = dict[str, str]


def _schema(**cap: int) -> dict[str, Any]:
    phrases = {"type": "array", "items": {"type": "string"}, **cap}
    return {"type": "object", "properties": {"attributes": phrases}, "required": ["attributes"], "additionalProperties": False}


SCHEMA = _schema(maxItems=MOST)
# What a request asks for; an endpoint that refuses a form is asked for a later one, and for the last in words.
FORMS = (SCHEMA, _schema(), None)
PLAIN = f"Answer with a list only, at most {MOST} phrases, one phrase a line, each line beginning with '- '."
RENAMED = {"max_tokens": "max_completion_tokens"}

_REFUSES = re.compile(
    r"unsupported|not supported|n't support|not support|unknown|unrecogni[sz]ed|unexpected|extra|not permitted|not allowed"
    r"|only \S+ is allowed|only the default|deprecated|cannot both|strictly positive|must be positive|greater than 0|fixed at|no longer"
)
_NO_SCHEMA = ("response_format", "response format", "json_schema", "json schema", "structured", "grammar", "guided", "json mode")
_NO_CAP = ("maxitems", "features")


@dataclass(frozen=True)
class Manner:
    """sampling: parameters as the user chose them; form: of FORMS; without, renamed: parameters that are left out, or sent by another
    name; streams: the endpoint sends a stream unless told not to; told: what was learnt, a line each."""

    sampling: Mapping[str, Any]
    form: int = 0
    without: frozenset[str] = frozenset()
    renamed: frozenset[str] = frozenset()
    streams: bool = False
    told: tuple[str, ...] = ()

    def request(self, messages: Sequence[Message], sample: int) -> dict[str, Any]:
        """What is sent beside the name of the model."""
        options = dict(self.sampling)
        if sample:
            options["seed"] = options.get("seed", 0) + sample
        sent = {RENAMED[name] if name in self.renamed else name: value for name, value in options.items() if name not in self.without}
        if self.streams:
            sent["stream"] = False
        schema = FORMS[self.form]
        if schema:
            sent["response_format"] = {"type": "json_schema", "json_schema": {"name": "attributes", "strict": True, "schema": schema}}
            return {"messages": list(messages), "extra_body": sent}
        *before, last = messages
        return {"messages": [*before, {**last, "content": f"{last['content']}\n\n{PLAIN}"}], "extra_body": sent}

    def learnt(self, text: str) -> "Manner | None":
        """After a refusal in these words, how to ask instead; None where they name nothing that can be changed."""
        low = text.casefold()
        for name, other in RENAMED.items():
            if other in low and name in self.sampling and name not in self.renamed:
                return self._with(f"wants {other} for {name}", renamed=self.renamed | {name})
        for name in (*DEFAULT, "seed"):
            chosen = name in self.sampling and self.sampling[name] != DEFAULT.get(name)
            if not chosen and name not in self.without and re.search(rf"(?<!\w){name}(?!\w)", low) and _REFUSES.search(low):
                value = f"={self.sampling[name]}" if name in self.sampling else ""
                return self._with(f"refuses {name}{value}, which is left out", without=self.without | {name})
        if FORMS[self.form] and any(word in low for word in _NO_SCHEMA):
            return self.plainer(capless=self.form == 0 and any(word in low for word in _NO_CAP))
        return None

    def plainer(self, capless: bool = False) -> "Manner":
        """The same without a schema, or with one that sets no cap."""
        if capless:
            return self._with("refuses the cap in the schema, which is left out", form=1)
        return self._with("refuses the schema of the answer; a list is asked for in words", form=len(FORMS) - 1)

    def whole(self) -> "Manner":
        """The same for an endpoint that sends streams by itself."""
        return self._with("sends a stream; it is told not to", streams=True)

    def _with(self, line: str, **changes: Any) -> "Manner":
        return replace(self, told=(*self.told, line), **changes)
