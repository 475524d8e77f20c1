"""Where a language model is asked: MODEL@URL taken apart, its key, and a client that reaches it with or without a proxy."""

import os
import re
import ssl
import urllib.request
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import openai

OPENAI = "https://api.openai.com/v1"
EXAMPLE = "such as llama3.1@http://localhost:11434/v1"
VERSION = "api-version"  # the one part of a query that is known: deployments on Azure want it
NO_KEY = "none"


class LanguageModelError(RuntimeError):
    """The endpoint did not answer. The message has the question and the reason. Earlier answers are kept."""


def parted(name: str) -> tuple[str, "Address"]:
    """Model and address of MODEL@URL, where a model may hold an @ itself. Raises ValueError for anything else, as `Address.of` does."""
    found = re.fullmatch(r"\s*(.+?)@(https?://.*?)\s*", name, re.IGNORECASE)
    if found is None:
        scheme = "" if "://" in name or "@" not in name else "; the URL begins with http:// or https://"
        raise ValueError(f"llm {_safe(name)!r} is not MODEL@URL, {EXAMPLE}{scheme}")
    return found[1], Address.of(found[2])


def _safe(name: str) -> str:
    """A name without what may be a password."""
    return re.sub(r"//[^/]*@|\?.*", "//…", name)


@dataclass(frozen=True)
class Address:
    """url: without its query; version: of the API, if the query names one."""

    url: str
    version: str | None = None

    @classmethod
    def of(cls, url: str | None) -> "Address":
        """Raises ValueError, without repeating what may be secret, for a URL with a password, a query or no host."""
        parts = urlsplit(url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "@" in parts.netloc or parts.fragment or set(query) - {VERSION}:
            raise ValueError(
                f"the URL of the language model at {parts.hostname} holds a password or a key, or what is not sent: of what may follow "
                f"a ? only {VERSION} is known, and the key comes from OPENAI_API_KEY alone"
            )
        try:
            parts.port  # noqa: B018 - raises for what is no number
        except ValueError:
            raise ValueError(f"the URL of the language model at {parts.hostname} has a port that is no number; {EXAMPLE}") from None
        if not parts.hostname:
            raise ValueError(f"the URL of the language model names no host; {EXAMPLE}")
        return cls(parts._replace(query="").geturl().rstrip("/"), query.get(VERSION))

    def __str__(self) -> str:
        return self.url + (f"?{urlencode({VERSION: self.version})}" if self.version else "")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def proxy(self) -> str:
        """The variable that names the proxy in between, or nothing: no proxy leads to this machine itself."""
        proxies = _proxies()
        if _is_loopback(self.host) or urllib.request.proxy_bypass(self.host):
            return ""
        scheme = urlsplit(self.url).scheme
        return next((f"{kind.upper()}_PROXY" for kind in (scheme, "all") if kind in proxies), "")

    def client(self, timeout: float) -> openai.OpenAI:
        """A client that sends each request once. Raises LanguageModelError for a key or a proxy that cannot be used."""
        sent: dict[str, Any] = {"api_key": key(), "base_url": self.url, "timeout": timeout, "max_retries": 0}
        if self.version:
            sent["api_version"] = self.version
        if _proxies() and not self.proxy:
            trusted: dict[str, Any] = (
                {"verify": ssl.create_default_context(cafile=file)} if (file := os.environ.get("SSL_CERT_FILE")) else {}
            )
            sent["http_client"] = openai.DefaultHttpxClient(trust_env=False, **trusted)
        try:
            return openai.AzureOpenAI(**sent) if self.version else openai.OpenAI(**sent)
        except (ImportError, ValueError) as error:
            raise LanguageModelError(f"{self}: {_unusable_proxy(error, self.host)}") from None


def key() -> str:
    """The key of OPENAI_API_KEY. Raises LanguageModelError, without repeating it, where it is no text that a request can carry."""
    given = os.environ.get("OPENAI_API_KEY", "").strip() or NO_KEY
    wrong = [i for i, c in enumerate(given) if not "!" <= c <= "~"]
    if wrong:
        raise LanguageModelError(
            f"OPENAI_API_KEY cannot be sent: character {wrong[0] + 1} of {len(given)} is none of a key; copy the key again, alone"
        )
    return given


def hide(text: str) -> str:
    """The text without the key, because an endpoint may repeat it."""
    secret = os.environ.get("OPENAI_API_KEY", "").strip()
    return text.replace(secret, "[key]") if len(secret) > 6 else text


def _proxies() -> dict[str, str]:
    return {kind: url for kind, url in urllib.request.getproxies().items() if kind in ("http", "https", "all")}


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return False


def _unusable_proxy(error: Exception, host: str) -> str:
    """Which variable names a proxy that the client cannot use; proxies may hold passwords, so only the scheme is told."""
    odd = {kind: url.partition("://")[0] for kind, url in _proxies().items() if not re.match(r"https?://|[^:]*:\d+|[^:]*$", url)}
    if not odd:
        return f"no client can be made ({type(error).__name__}: {error})"
    named = " and ".join(f"{kind.upper()}_PROXY ({scheme}://...)" for kind, scheme in odd.items())
    if isinstance(error, ImportError):
        return f"{named} needs a package that is not installed: `pip install socksio`, unset it, or set NO_PROXY={host}"
    return f"{named} is no proxy that can be used, which are http, https, socks5 and socks5h: mend it, unset it, or set NO_PROXY={host}"
