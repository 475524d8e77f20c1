"""Parse the answer of a language model into a list of phrases, and drop the phrases that cannot be used."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

LONGEST = 300  # the largest number of characters of a phrase: about as much as CLIP reads
LARGEST = 50_000  # the largest number of characters of an answer: a longer one is no list of attributes

_MARK = re.compile(r"^\s*(?:[-–—*+•‣▪●◦·»>✓]+|\(?\d{1,3}[.):\]]|\(?[a-z][.)])\s+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # with single surrogates, which cannot be written to a file
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
_SENTENCE_ENDS_INSIDE = re.compile(r"[a-z)][.!?]\s+[A-Z]")
_DANGLING = re.compile(
    r"\b(a|an|the|and|or|with|of|to|from|than|its|their|which|that|is|are|has|have|such|as|by|for|but|not)$", re.IGNORECASE
)


class UnusableAnswer(ValueError):
    """The answer is no list. The message says what it is instead."""


class Sorted(NamedTuple):
    """The kept phrases, and (reason, phrase) of each dropped phrase."""

    kept: list[str]
    dropped: list[tuple[str, str]]


def parse(content: str) -> list[str]:
    """The phrases of an answer: from the requested JSON, bare or fenced, else from bullets, numbered lines or plain lines.

    This function only checks whether the answer is a list. Raises UnusableAnswer for prose, markup, JSON of another shape, an
    answer of more than `LARGEST` characters, or an empty answer.
    """
    if len(content) > LARGEST:
        raise UnusableAnswer(f"too large: {len(content)} characters")
    fenced = _FENCE.search(content)
    body = (fenced[1] if fenced else content).strip()
    phrases = _json_list(body) if body[:1] in ("{", "[") else _lines(body)
    phrases = [" ".join(_CONTROL.sub(" ", phrase).split()) for phrase in phrases]
    if not any(phrases):
        raise UnusableAnswer("the list is empty")
    return phrases


def _json_list(body: str) -> list[str]:
    try:
        data: Any = json.loads(body)
    except json.JSONDecodeError as error:
        raise UnusableAnswer(f"broken JSON: {error.msg}") from None
    except RecursionError:
        raise UnusableAnswer("broken JSON: nested too deep") from None
    found = data.get("attributes") if isinstance(data, dict) else data
    if not isinstance(found, list) or not all(isinstance(phrase, str) for phrase in found):
        raise UnusableAnswer("JSON of another shape than a list of strings under 'attributes'")
    return found


def _lines(body: str) -> list[str]:
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    if lines and lines[0].startswith("<"):
        raise UnusableAnswer("markup instead of a list")
    marked = [_MARK.sub("", line) for line in lines if _MARK.match(line)]
    if marked:
        return [_plain(line) for line in marked]
    # Without bullets, it is a list and not prose if it has several lines, and none has a full stop in the middle.
    plain = [line for line in lines if not line.endswith(":")]
    if len(plain) < 2 or any(_SENTENCE_ENDS_INSIDE.search(line) for line in plain):
        raise UnusableAnswer("prose instead of a list" if lines else "the answer is empty")
    return [_plain(line) for line in plain]


def _plain(line: str) -> str:
    return re.sub(r"\*\*|__|`", "", line).strip()


def normalised(text: str) -> str:
    """A text without case, punctuation and extra spaces, to find duplicates."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def sort_out(phrases: Sequence[str], other: str | None = None) -> Sorted:
    """Drop the phrases that are empty, too long or cut off, name the `other` class, or repeat an earlier phrase."""
    kept: list[str] = []
    dropped: list[tuple[str, str]] = []
    seen: set[str] = set()
    for phrase in phrases:
        reason = _fault(phrase, other) or ("duplicate" if normalised(phrase) in seen else None)
        if reason:
            dropped.append((reason, phrase[:LONGEST]))
        else:
            seen.add(normalised(phrase))
            kept.append(phrase.rstrip(".;, "))
    return Sorted(kept, dropped)


def _fault(phrase: str, other: str | None) -> str | None:
    if not normalised(phrase):
        return "empty"
    if len(phrase) > LONGEST:
        return "too long"
    if is_cut_off(phrase):
        return "cut off"
    if other is not None and names(other, phrase):
        return "names the other class"
    return None


def is_cut_off(phrase: str) -> bool:
    """Whether a phrase is incomplete: it ends with a word such as "with", with an open bracket, or with a comma."""
    if phrase.count("(") > phrase.count(")"):
        return True
    return bool(_DANGLING.search(phrase.rstrip())) or phrase.rstrip().endswith((",", ":", "-", "/"))


def names(name: str, text: str) -> bool:
    """Whether a text contains the name of a class: the complete name between word boundaries, in any case or spacing, or its plural."""
    spelling = r"[\s_-]+".join(re.escape(word) for word in re.split(r"[\s_-]+", name.strip()))
    return bool(re.search(rf"(?<!\w){spelling}(?:'s|’s|s|es)?(?!\w)", text, re.IGNORECASE))
