"""Parse the answer of a language model into a list of phrases, and drop the phrases that cannot be used."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

LONGEST = 300  # the largest number of characters of a phrase: about as much as CLIP reads
LARGEST = 50_000  # the largest number of characters of an answer: a longer one is no list of attributes
MOST = 20  # the largest number of phrases of an answer: a model that repeats itself without end says more
ONLY_NAME = "says no more than the name"
CUT, MANY = "cut off at the length limit", "too many phrases"

_MARK = re.compile(r"^\s*(?:[-–—*+•‣▪●◦·»>✓]+|\(?\d{1,3}[.):\]]|\(?[a-z][.)])\s+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # with single surrogates, which cannot be written to a file
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
_THINK = r"(?:think|thinking|thought|reasoning)"
_THOUGHTS = re.compile(
    rf"<({_THINK})>.*?</\1>|\[THINK\].*?\[/THINK\]|\A.*(?:</{_THINK}>|\[/THINK\]|<\|channel\|>final<\|message\|>)|(?:<{_THINK}>|\[THINK\]).*\Z",
    re.DOTALL | re.IGNORECASE,
)
_TOKENS = re.compile(r"<\|\w+\|>|</?s>")  # of a chat template, left in an answer
_JSON_STARTS = re.compile(r'\{\s*"attributes"\s*:|^\s*\[\s*"', re.MULTILINE)
_JSON_LINE = re.compile(r'[{}\[\]]|"attributes"')
_CHAT = re.compile(
    r"(?:sure|certainly|of course|okay|ok|here (?:is|are)|here's|these are|i hope|i can|i am|i'm|let me know|please|note|feel free|as an ai"
    r"|hope this|is there anything|would you like)\b",
    re.IGNORECASE,
)
_STRING = r'"(?:[^"\\]|\\.)*"'
_LIST_SO_FAR = re.compile(rf'(?:\{{\s*"attributes"\s*:\s*)?\[((?:\s*{_STRING}\s*,?)*)')
_SENTENCE_ENDS_INSIDE = re.compile(r"[a-z)][.!?]\s+[A-Z]")
# A letter, a number, or a word that fills a place. Single characters that are words, as in Chinese, do say something.
_NOTHING = re.compile(
    r"[0-9a-z]|\d+|n a|none|null|nothing|unknown|yes|no|tbd|etc|and so on"
    r"|(?:an? |the )?(?:string|attribute|phrase|item|feature|characteristic)s?(?: (?:[a-z]|\d+))?"
)
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
    if begins := _JSON_STARTS.search(body):
        body = body[begins.start() :].lstrip()
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
    """The phrases of an answer: from the requested JSON, bare, fenced or between other words, else from bullets, numbered lines or plain
    lines. What a model thought aloud before it answered is no part of the answer.

    This function only checks whether the answer is a list. Raises UnusableAnswer for prose, markup, JSON of another shape, an
    answer of more than `LARGEST` characters, or an empty answer.
    """
    if len(content) > LARGEST:
        raise UnusableAnswer(f"too large: {len(content)} characters")
    phrases = embedded(content.strip(), whole=True)
    if phrases is None:
        body = _body(content)
        phrases = embedded(body)
        if phrases is None:
            phrases = _json_list(body) if body[:1] in ("{", "[") else _lines(body)
    phrases = [" ".join(_CONTROL.sub(" ", phrase).split()) for phrase in phrases]
    if not any(phrases):
        raise UnusableAnswer("the list is empty")
    return phrases


def embedded(body: str, whole: bool = False) -> list[str] | None:
    """The list of the requested JSON, wherever it begins in a text, or of JSON that is the `whole` text; None where there is none."""
    for start in [0] if whole else [found.start() for found in _JSON_STARTS.finditer(body)][:MOST]:
        text = body[start:].lstrip()
        try:
            data, end = json.JSONDecoder().raw_decode(text)
        except (json.JSONDecodeError, RecursionError):
            continue
        phrases = data.get("attributes") if isinstance(data, dict) else data
        if isinstance(phrases, list) and all(isinstance(phrase, str) for phrase in phrases) and (end == len(text) or not whole):
            return phrases
    return None


def _body(content: str) -> str:
    """What a model said, without its thoughts; of fenced parts that which holds the list, else the first."""
    spoken = _TOKENS.sub("", _THOUGHTS.sub("", content)).strip()
    if content.strip() and not spoken:
        raise UnusableAnswer("thoughts without an answer")
    fenced = [part[1].strip() for part in _FENCE.finditer(spoken)]
    return next((part for part in fenced if embedded(part)), fenced[0]) if fenced else spoken


def _json_list(body: str) -> list[str]:
    try:
        data: Any = json.loads(re.sub(r",(\s*[\]}])", r"\1", body))  # models like a comma behind the last phrase
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
    if any(_JSON_LINE.match(line) for line in lines):
        raise UnusableAnswer("broken JSON between other words")
    marked = [_MARK.sub("", line) for line in lines if _MARK.match(line)]
    if marked:
        return [_plain(line) for line in marked]
    # Without bullets, it is a list and not prose if it has several lines, and none has a full stop in the middle.
    plain = [line for line in lines if not line.endswith(":") and not _CHAT.match(line)]
    if len(plain) < 2 or any(_SENTENCE_ENDS_INSIDE.search(line) for line in plain):
        raise UnusableAnswer("prose instead of a list" if lines else "the answer is empty")
    return [_plain(line) for line in plain]


def _plain(line: str) -> str:
    return re.sub(r"\*\*|__|`", "", line).strip()


def normalised(text: str) -> str:
    """A text without case, punctuation and extra spaces, to find duplicates."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def sort_out(phrases: Sequence[str], other: str | None = None, repeats: bool = False, own: Sequence[str] = ()) -> Sorted:
    """Drop the phrases that are empty, too long or cut off, say nothing or no more than the class's `own` texts do, name the `other`
    class, or, unless `repeats`, repeat an earlier phrase."""
    kept: list[str] = []
    dropped: list[tuple[str, str]] = []
    seen: set[str] = set()
    known = {_bare(text) for text in own}
    for phrase in phrases:
        reason = (
            _fault(phrase, other)
            or (ONLY_NAME if _bare(phrase) in known else None)
            or ("duplicate" if normalised(phrase) in seen and not repeats else None)
        )
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
    if _NOTHING.fullmatch(normalised(phrase)):
        return "says nothing"
    if is_cut_off(phrase):
        return "cut off"
    if other is not None and names(other, phrase):
        return "names the other class"
    return None


def _bare(text: str) -> str:
    """A text without case, punctuation and article, in the singular."""
    return re.sub(r"^(?:an?|the) |s$", "", normalised(text))


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
