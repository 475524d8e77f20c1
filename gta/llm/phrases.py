"""The bare phrase of what was said of a class: "a hooked bill", without the sentence, the name or the "with" before it."""

import re

from gta.llm.answers import spelling

_LEAD = re.compile(r"^(?:[.…]+\s*)?(?:with|has|have|having)\s+(?=\S)", re.IGNORECASE)


def bare(text: str, name: str, sentence: str) -> str:
    """The phrase that fills {attribute} of a sentence form about {name}; a text of another form comes back as it is.

    A name that leads is taken off where a colon, a dash, "with", "has" or a possessive follows, so that a class called "one" keeps
    its "one stroke". A leading "with" is taken off where the form says it.
    """
    before, _, after = sentence.partition("{attribute}")
    phrase = re.sub(_form(before, after, name), r"\1", text, flags=re.IGNORECASE)
    phrase = re.sub(_name(before, name), "", phrase, flags=re.IGNORECASE)
    return _LEAD.sub("", phrase) if before.rstrip().endswith("with") else phrase


def _form(before: str, after: str, name: str) -> str:
    """The whole sentence. What follows the phrase may be missing, since a text may have been cut."""
    first, last = _words(before, name), _words(after, name)
    start = rf"{first}\s+" if first else ""
    return rf"^\s*{start}(\S.*?)(?:\s*{last})?\.?\s*$"


def _name(before: str, name: str) -> str:
    """The name and, where the form says it, the kind: "The Crow bird:"."""
    kind = _words(before.rpartition("{name}")[2].removesuffix("with ") if "{name}" in before else "", name)
    quoted = rf"[\"'“‘*]*(?:(?:an?|the)\s+)?[\"'“‘*]*{spelling(name)}(?:e?s)?[\"'”’*]*"
    ends = r"\s*[:–—]\s*|\s+-\s+|\s+(?=(?:with|has|have|having)\b)"
    of_kind = rf"(?:\s+{kind})?" if kind else ""
    return rf"^\s*{quoted}(?:{of_kind}(?:{ends})|['’]s?\s+)(?=\S)"


def _words(part: str, name: str) -> str:
    """A part of a sentence form in any spacing, with "a" for "an" too."""
    words = ("an?" if word == "a" else spelling(name).join(map(re.escape, word.split("{name}"))) for word in part.split())
    return r"\s+".join(words)
