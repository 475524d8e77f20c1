"""What an endpoint answered instead of an answer, in words: the reason in a body of any form, or why no connection was made."""

import json
import re
from collections.abc import Mapping
from typing import Any

from gta.llm.address import hide

LONGEST = 300  # characters of a reason
_NAMES = ("message", "detail", "error", "errors", "msg", "error_description", "error_message", "description", "reason", "title")


def said(error: Exception) -> str:
    """The reason of a client's error, in one printable line without the key."""
    if getattr(error, "status_code", None) is None:
        return readable(_deepest(error))
    told = reason(getattr(error, "body", None)) or getattr(getattr(error, "response", None), "reason_phrase", "")
    return readable(told).rstrip(".") or "nothing"


def reason(body: Any) -> str:
    """What a body says: a text, a page, or JSON that holds the reason under one of the names that are in use."""
    if isinstance(body, Mapping):
        found = next((told for name in _NAMES if (told := reason(body.get(name)))), "")
        place = body.get("loc")
        if found and isinstance(place, (list, tuple)):
            found = f"{'.'.join(map(str, place))}: {found}"
        behind = body.get("metadata")  # what a router was told by the provider that it asked
        behind = reason(behind.get("raw")) if isinstance(behind, Mapping) else ""
        return f"{found} ({behind})" if found and behind else found or (json.dumps(dict(body), default=str) if body else "")
    if isinstance(body, (list, tuple)):
        return "; ".join(filter(None, map(reason, body[:3])))
    if isinstance(body, str):
        return f"a page, {_of_page(body)!r}" if is_page(body) else body.strip()
    return "" if body is None else str(body)


def is_page(body: str) -> bool:
    """Whether a text is HTML."""
    return bool(re.match(r"\s*(?:<!doctype html|<html|<head|<body|<h1)", body, re.IGNORECASE))


def _of_page(body: str) -> str:
    """The title of a page, or its words."""
    title = re.search(r"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
    text = (
        title[1] if title and title[1].strip() else re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", body, flags=re.IGNORECASE | re.DOTALL)
    )
    return " ".join(text.split())[:80]


def readable(text: str) -> str:
    """One line of printable characters, not too long, without the key, nor one that is half hidden by stars."""
    line = " ".join("".join(c if c.isprintable() else " " for c in hide(text)).split())
    line = re.sub(r"[\w-]*\*{3,}[\w-]*", "[key]", line)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _deepest(error: BaseException) -> str:
    """The words of the error behind all others, such as that of the socket."""
    words, cause = str(error), error.__cause__ or error.__context__
    while cause is not None:
        words, cause = str(cause) or words, cause.__cause__ or cause.__context__
    return words
