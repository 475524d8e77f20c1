"""Parse the answer of a language model into a list of phrases, and drop the phrases that cannot be used."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

LONGEST = 300  # the largest number of characters of a phrase: about as much as CLIP reads
LARGEST = 50_000  # the largest number of characters of an answer: a longer one is no list of attributes
MOST = 20  # the largest number of phrases of an answer: a model that repeats itself without end says more
CUT, MANY = "cut off at the length limit", "too many phrases"

_MARK = re.compile(r"^\s*(?:[-–—*+•‣▪●◦·»>✓]+|\(?\d{1,3}[.):\]]|\(?[a-z][.)])\s+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # with single surrogates, which cannot be written to a file
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
_STRING = r'"(?:[^"\\]|\\.)*"'
_LIST_SO_FAR = re.compile(rf'(?:\{{\s*"attributes"\s*:\s*)?\[((?:\s*{_STRING}\s*,?)*)')
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


def read(content: str, cut: bool = False) -> tuple[list[str], str | None]:
    """The phrases of an answer and, if it was `cut` at the length limit or holds more than `MOST`, what was kept, for the log.

    Of such an answer the first `MOST` different phrases are kept; the one at the cut is not. Raises UnusableAnswer as `parse` does, and
    for a cut answer without a complete phrase.
    """
    phrases = _complete(content) if cut else parse(content)
    if not cut and len(phrases) <= MOST:
        return phrases, None
    different: dict[str, str] = {}
    for phrase in filter(normalised, phrases):
        different.setdefault(normalised(phrase), phrase)
    kept = list(different.values())[:MOST]
    if not kept:
        raise UnusableAnswer("the list is empty")
    return kept, f"{CUT if cut else MANY}: {len(kept)} of {len(phrases)} kept"


def _complete(content: str) -> list[str]:
    """The phrases that end before the cut."""
    body = _body(content[:LARGEST])
    if body[:1] in ("{", "["):
        found = _LIST_SO_FAR.match(body)
        body = f"[{', '.join(re.findall(_STRING, found[1]))}]" if found else ""
    else:
        body = body.rpartition("\n")[0]
    try:
        return parse(body)
    except UnusableAnswer:
        raise UnusableAnswer(CUT) from None


def parse(content: str) -> list[str]:
    """The phrases of an answer: from the requested JSON, bare or fenced, else from bullets, numbered lines or plain lines.

    This function only checks whether the answer is a list. Raises UnusableAnswer for prose, markup, JSON of another shape, an
    answer of more than `LARGEST` characters, or an empty answer.
    """
    if len(content) > LARGEST:
        raise UnusableAnswer(f"too large: {len(content)} characters")
    body = _body(content)
    phrases = _json_list(body) if body[:1] in ("{", "[") else _lines(body)
    phrases = [" ".join(_CONTROL.sub(" ", phrase).split()) for phrase in phrases]
    if not any(phrases):
        raise UnusableAnswer("the list is empty")
    return phrases


def _body(content: str) -> str:
    fenced = _FENCE.search(content)
    return (fenced[1] if fenced else content).strip()


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


def sort_out(phrases: Sequence[str], other: str | None = None, repeats: bool = False) -> Sorted:
    """Drop the phrases that are empty, too long or cut off, name the `other` class, or, unless `repeats`, repeat an earlier phrase."""
    kept: list[str] = []
    dropped: list[tuple[str, str]] = []
    seen: set[str] = set()
    for phrase in phrases:
        reason = _fault(phrase, other) or ("duplicate" if normalised(phrase) in seen and not repeats else None)
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
    return bool(re.search(rf"(?<!\w){spelling(name)}(?:'s|’s|s|es)?(?!\w)", text, re.IGNORECASE))


def spelling(name: str) -> str:
    """A pattern of a name in any spacing."""
    return r"[\s_-]+".join(re.escape(word) for word in re.split(r"[\s_-]+", name.strip()))
