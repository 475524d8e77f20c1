"""What helps after an endpoint refused or could not be reached. Where it can be seen by asking, it is looked at and not guessed."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import openai

from gta.llm.address import NO_KEY, Address, key
from gta.llm.causes import readable

SECONDS = 5.0  # that a list of models may take
_NO_TLS = (
    "wrong_version_number",
    "wrong version number",
    "record layer failure",
    "packet length too long",
    "unknown protocol",
    "http_request",
)
_NO_HOST = ("name or service not known", "nodename nor servname", "name resolution", "no address associated", "getaddrinfo failed")
_ENDINGS = r"/(?:chat/completions|completions|responses|models|embeddings|chat|api/chat|api/generate|api/tags|api)$"
_NO_MODEL = (
    r"model\b.{0,80}(?:not found|not exist|not available|not loaded)|(?:invalid|unknown|no such) model|no models? loaded|invalid_model"
)
_CONTEXT = r"context (?:length|size|window)|exceed_context|maximum context|too many tokens|prompt is too long"


def may_pass(text: str) -> bool:
    """Whether a connection that failed with these words may succeed later: a server starts, but no port begins to speak TLS."""
    return not any(word in text.casefold() for word in (*_NO_TLS, "certificate verify failed"))


def unreached(text: str, address: Address, model: str) -> str:
    """After a connection that failed with these words."""
    low = text.casefold()
    if any(word in low for word in _NO_TLS):
        return f"the server does not speak TLS at this port: give {model}@{address.url.replace('https://', 'http://', 1)}"
    if "certificate verify failed" in low:
        if "mismatch" in low or "not valid for" in low:
            return "its certificate is of another host: give the host as the certificate names it"
        return "this machine does not trust who signed its certificate: set SSL_CERT_FILE to the file of the authority that did"
    if "refused" in low:
        return "nothing listens there: start the server, or mend host and port"
    if any(word in low for word in _NO_HOST):
        return f"no host of the name {address.host} is known here: mend the name, or the network"
    if "disconnected" in low and address.url.startswith("http://"):
        return f"if it speaks TLS there, give {model}@https{address.url.removeprefix('http')}"
    return ""


def refused(error: openai.APIStatusError, text: str, address: Address, model: str, sampling: Mapping[str, Any]) -> str:
    """After an answer with a status that says no, and these words."""
    low, status = text.casefold(), error.status_code
    if moved := getattr(error.response, "history", None):
        host = urlsplit(str(error.response.url))
        now = f"{host.scheme}://{host.netloc}{host.path}".removesuffix("/chat/completions")
        return f"it sends on from {readable(str(moved[0].url))}, and a question is lost on the way: give {model}@{readable(now)}"
    if status == 401 or (status == 400 and re.search(r"api.?key", low)):
        return _about_key()
    if re.search(r"http request.*https|https (?:server|port)", low):
        return f"the server speaks TLS at this port: give {model}@https{address.url.removeprefix('http')}"
    if re.search(_CONTEXT, low):
        cap = f"max_tokens={sampling['max_tokens']}" if "max_tokens" in sampling else "no max_tokens"
        return (
            f"question and answer ({cap}) must both fit: start the server with a larger context, or set a smaller max_tokens by `sampling`"
        )
    if status in (404, 405, 410, 421) or (status == 400 and re.search(_NO_MODEL, low)):
        return elsewhere(address, model)
    if status == 403:
        return f"{_about_key()}, or ask who runs it whether this account may use this model"
    return _parameters(text, sampling) if status in (400, 422) else ""


def elsewhere(address: Address, model: str) -> str:
    """Which models are served where: what is wrong is the model or the URL, and the server's own lists of models say which."""
    names = models(address)
    if names and model not in names:
        listed = ", ".join(readable(name) for name in names[:10])
        return f"it serves {listed}: give one of them, such as {readable(names[0])}@{address}"
    if names:
        return "it lists this model, but answers no chat at this URL"
    root = f"{urlsplit(address.url).scheme}://{urlsplit(address.url).netloc}"
    whole = re.sub(_ENDINGS, "", address.url)
    for url in dict.fromkeys([whole, f"{whole}/v1", f"{root}/v1", f"{root}/api/v1", f"{root}/openai/v1"]):
        there = Address(url, address.version)
        if url != address.url and (served := models(there)):
            name = model if model in served else readable(served[0])
            return f"models are listed at {url}/models: give {name}@{there}"
    if whole != address.url:
        return f"the program adds /chat/completions itself: give {model}@{Address(whole, address.version)}"
    return "no list of models was found there either: the URL of an endpoint mostly ends with /v1"


def models(address: Address) -> list[str]:
    """The models that an endpoint lists; none where it lists none."""
    try:
        with address.client(SECONDS) as client:
            return [model.id for model in client.models.list().data]
    except Exception:  # whatever a foreign server does, it is no list
        return []


def _about_key() -> str:
    if key() == NO_KEY:
        return "no key was sent: set OPENAI_API_KEY"
    return "the key of OPENAI_API_KEY was sent: set the one of this endpoint"


def _parameters(text: str, sampling: Mapping[str, Any]) -> str:
    """The parameters that a refusal may be about: those that it names, or all, with how to change them."""
    place = re.match(r"body\.(\w+)", text)
    if place and place[1] not in sampling:
        return ""  # it is about another part of the request
    named = [name for name in sampling if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    held = ", ".join(f"{name}={sampling[name]!r}" for name in named or sampling)
    return f"the request held {held}: `sampling` sets it, and leaves out what is None" if held else ""
