"""What a user reads when an endpoint does not answer: what was asked, what was answered, and what helps."""

import json
import re
import ssl

import pytest

from endpoint import chat, endpoint, reply
from gta.llm.address import Address, parted
from gta.llm.causes import readable, reason
from gta.llm.chat import LanguageModel, Question
from gta.llm.endpoint import LanguageModelError, QuotaExhausted, only_model
from gta.worlds.fieldguide import language_model
from standin import MODELS, standin, usual

PAIR = Question("what tells it?", "crow", "raven")
GOOD_PHRASES = ("a long tail", "a hooked bill")
KEY = "sk-very-secret-0123456789"


def model(url, name="m", **options):
    return LanguageModel(name, url, **{"backoff": 0.01, "timeout": 30, "tries": 2, "patience": 0.05, "progress": False, **options})


def told(answer, path="/v1", scheme="http", name="m", **options):
    """The words after the question, with PORT for the port."""
    with standin(answer) as (root, _):
        with pytest.raises(LanguageModelError) as caught:
            model(root.replace("http", scheme, 1) + path, name, **options).ask([PAIR])
        text, port = str(caught.value), root.rpartition(":")[2]
    about, _, words = text.partition("'crow' against 'raven': ")
    assert about == "" and text.isprintable() and len(text) < 800
    return words.replace(port, "PORT")


def says(status, body):
    return lambda method, path, request, headers: (200, MODELS) if path.endswith("/v1/models") else (status, body)


V1 = "http://127.0.0.1:PORT/v1"
WRONG_ADDRESS = {
    "": f"POST http://127.0.0.1:PORT/chat/completions answered 404: Not Found; models are listed at {V1}/models: give m@{V1}",
    "/v1/chat/completions": f"POST {V1}/chat/completions/chat/completions answered 404: Not Found; models are listed at {V1}/models: "
    f"give m@{V1}",
    "/api": f"POST http://127.0.0.1:PORT/api/chat/completions answered 404: Not Found; models are listed at {V1}/models: give m@{V1}",
    "/v1/models": f"POST {V1}/models/chat/completions answered 404: Not Found; models are listed at {V1}/models: give m@{V1}",
}


@pytest.mark.parametrize("path", WRONG_ADDRESS)
def test_a_wrong_address_is_told_with_the_one_that_lists_models(path):
    assert told(usual, path) == WRONG_ADDRESS[path]


def test_where_nothing_lists_models_no_address_is_made_up():
    words = told(lambda *_: (404, "404 page not found"), "/x")
    assert words == (
        "POST http://127.0.0.1:PORT/x/chat/completions answered 404: 404 page not found; no list of models was found there either: "
        "the URL of an endpoint mostly ends with /v1"
    )


def test_an_endpoint_that_sends_on_is_told_with_where_to():
    def moved(method, path, request, headers):
        if path.startswith("/old"):
            return 301, "", {"Location": f"http://localhost:{headers['Host'].rpartition(':')[2]}{path.removeprefix('/old')}"}
        return usual(method, path, request, headers)

    assert told(moved, "/old/v1").endswith("and a question is lost on the way: give m@http://localhost:PORT/v1")


def test_https_to_a_port_of_http_is_told_at_once():
    words = told(usual, scheme="https", tries=9)
    assert re.fullmatch(r"POST https://127\.0\.0\.1:PORT/v1/chat/completions failed: \[SSL: \S+\] .*", words)
    assert words.endswith(f"the server does not speak TLS at this port: give m@{V1}")


ANSWERS = {
    "422 with detail": (
        says(422, {"detail": [{"type": "x", "loc": ["body", "messages", 0, "role"], "msg": "Input should be 'system'"}]}),
        "answered 422: body.messages.0.role: Input should be 'system'",
    ),
    "a model that Ollama has not pulled": (
        says(404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error", "code": None}}),
        f'answered 404: model "x" not found, try pulling it first; it serves m, small: give one of them, such as m@{V1}',
    ),
    "a model that vLLM does not serve": (
        says(404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
        f"answered 404: The model `x` does not exist; it serves m, small: give one of them, such as m@{V1}",
    ),
    "a model that is not loaded, with 400": (
        says(400, {"error": "Model 'x' not loaded"}),
        f"answered 400: Model 'x' not loaded; it serves m, small: give one of them, such as m@{V1}",
    ),
    "no key": (
        says(401, {"error": {"message": "Invalid API Key", "code": 401}}),
        "answered 401: Invalid API Key; no key was sent: set OPENAI_API_KEY",
    ),
    "a context of vLLM": (
        says(400, {"message": "This model's maximum context length is 2048 tokens. However, you requested 9000."}),
        "However, you requested 9000; question and answer (max_tokens=1000) must both fit: start the server with a larger context, "
        "or set a smaller max_tokens by `sampling`",
    ),
    "a context of llama.cpp": (
        says(400, {"error": {"code": 400, "message": "request (9027 tokens) exceeds the available context size (4096 tokens)"}}),
        "question and answer (max_tokens=1000) must both fit: start the server with a larger context, or set a smaller max_tokens by "
        "`sampling`",
    ),
    "HTML with 200": (
        says(200, "<!doctype html><title>Web UI</title>"),
        "answered 200 with a page, 'Web UI', 2 times in a row; it serves m",
    ),
    "HTML with 502": (
        says(502, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"),
        "answered 502: a page, '502 Bad Gateway', 2 times in a row",
    ),
    "HTTP to a port of HTTPS": (
        says(400, "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"),
        "the server speaks TLS at this port: give x@https://127.0.0.1:PORT/v1",
    ),
    "a router that was refused": (
        says(429, {"error": {"message": "Provider returned error", "metadata": {"raw": "x is rate-limited upstream"}}}),
        "answered 429: Provider returned error (x is rate-limited upstream), 2 times in a row",
    ),
    "an error with 200": (
        says(200, {"error": {"message": "Upstream timed out"}}),
        "answered a body that is no chat completion: Upstream timed out, 2 times in a row",
    ),
    "a refused connection": (
        None,
        "failed: [Errno 111] Connection refused; nothing listens there: start the server, or mend host and port",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_reason_and_what_helps_are_told(name):
    answer, words = ANSWERS[name]
    if answer is None:
        with pytest.raises(LanguageModelError) as caught:
            model("http://127.0.0.1:9/v1").ask([PAIR])
        assert words in str(caught.value)
    else:
        assert words in told(answer, name="x")


def test_a_refused_key_is_told_and_shown_to_nobody(monkeypatch):
    """Also one that the server hides by half, and in the words of servers that answer 400."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    half = {"error": {"message": "Incorrect API key provided: sk-ver*************6789.", "code": "invalid_api_key"}}
    words = told(says(401, half))
    assert words.endswith(
        "answered 401: Incorrect API key provided: [key]; the key of OPENAI_API_KEY was sent: set the one of this endpoint"
    )
    words = told(says(400, [{"error": {"message": f"API key not valid: {KEY}", "status": "INVALID_ARGUMENT"}}]))
    assert words.endswith("answered 400: API key not valid: [key]; the key of OPENAI_API_KEY was sent: set the one of this endpoint")


def test_a_key_that_no_request_can_carry_is_told_by_its_place(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-geheim\u2026-0123456789")
    with pytest.raises(LanguageModelError) as caught:
        model("http://127.0.0.1:9/v1").ask([PAIR])
    assert str(caught.value) == "OPENAI_API_KEY cannot be sent: character 10 of 21 is none of a key; copy the key again, alone"
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")  # as a file ends
    with endpoint(lambda number, request, headers: reply() if headers["Authorization"] == f"Bearer {KEY}" else reply(401)) as (url, _):
        assert model(url).ask([PAIR])[0].phrases == GOOD_PHRASES


def test_no_credit_is_no_outage():
    with standin(says(402, {"error": {"message": "Insufficient Balance"}})) as (root, came):
        with pytest.raises(QuotaExhausted, match="answered 402: Insufficient Balance; waiting does not help"):
            model(root + "/v1").ask([PAIR])
        assert len(came) == 1


def test_a_model_that_is_loading_is_waited_for_told_once_and_costs_one_call(capsys):
    loading = (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})
    with standin(lambda *_: loading if len(came) < 9 else (200, chat())) as (root, came):
        asked = model(root + "/v1", patience=60, max_calls=1)
        assert asked.ask([PAIR])[0].phrases == GOOD_PHRASES
        assert len(came) == 9 and asked.usage.calls == 1
    said = capsys.readouterr().err
    assert said == f"POST {root}/v1/chat/completions answered 503: Loading model; waiting until it is ready, up to 60 s\n"


def test_patience_ends_with_what_sets_it():
    words = told(says(503, {"error": "Model m is currently loading", "estimated_time": 20.0}))
    assert words.endswith("answered 503: Model m is currently loading, for 0 s; `sampling` sets patience, now 0.05")


def test_an_endpoint_without_a_list_of_models_says_why():
    with standin(lambda *_: (401, {"error": "Unauthorized"})) as (root, _):
        with pytest.raises(LanguageModelError) as caught:
            only_model(f"{root}/v1")
        said = f"GET {root}/v1/models answered 401: Unauthorized; it does not say which model it serves: give MODEL@{root}/v1"
        assert str(caught.value) == said
    with standin() as (root, _), pytest.raises(ValueError, match=re.escape(f"{root}/v1 serves 2 models (m, small); give MODEL@")):
        only_model(f"{root}/v1")
    with standin(lambda *_: (200, "<html>")) as (root, _), pytest.raises(LanguageModelError, match="answered no list of models"):
        only_model(f"{root}/v1")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "Not Found"}, "Not Found"),
        ("plain\n words", "plain words"),
        ([], ""),
        (None, ""),
        ({"odd": 1}, '{"odd": 1}'),
        ({"errors": [{"msg": "one"}, {"msg": "two"}]}, "one; two"),
        ("<html><body><h1>Sign in</h1><script>x()</script></body></html>", "a page, 'Sign in'"),
        ({"message": "\x1b[31mred\u202e" + "x" * 999}, "[31mred " + "x" * 291 + "…"),
    ],
)
def test_a_reason_is_found_in_a_body_of_any_form_and_is_short_and_printable(body, words):
    assert readable(reason(body)) == words


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def proxies(monkeypatch):
    """Sets proxies, and takes away those of the machine."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return lambda **given: [monkeypatch.setenv(name, value) for name, value in given.items()]


@pytest.mark.parametrize(
    "given",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        {"ALL_PROXY": "socks5://127.0.0.1:1080"},
        {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "example.org"},
        {"ALL_PROXY": "socks://odd"},
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_leads_to_this_machine(given, host, proxies):
    proxies(**given)
    with endpoint([reply()]) as (url, _):
        assert model(url.replace("127.0.0.1", host)).ask([PAIR])[0].phrases == GOOD_PHRASES
    with language_model("fieldguide", 0) as guide:  # the project's own
        assert guide.ask([Question('what of "three"?', "three")])[0].phrases


def test_a_proxy_that_cannot_be_used_is_named_without_its_password(proxies):
    proxies(ALL_PROXY="socks://me:hunter2@127.0.0.1:1080")
    with pytest.raises(LanguageModelError) as caught:
        model("http://example.invalid/v1").ask([PAIR])
    said = "http://example.invalid/v1: ALL_PROXY (socks://...) is no proxy that can be used, which are http, https, socks5 and socks5h: "
    assert str(caught.value) == said + "mend it, unset it, or set NO_PROXY=example.invalid"
    proxies(NO_PROXY="example.invalid")
    with pytest.raises(LanguageModelError, match=r"no host of the name example\.invalid is known here|failed"):
        model("http://example.invalid/v1").ask([PAIR])


def test_a_socks_proxy_without_its_package_names_the_package(proxies, monkeypatch):
    proxies(ALL_PROXY="socks5://me:hunter2@127.0.0.1:1080")
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    with pytest.raises(LanguageModelError) as caught:
        model("http://example.invalid/v1").ask([PAIR])
    said = "http://example.invalid/v1: ALL_PROXY (socks5://...) needs a package that is not installed: `pip install socksio`, unset it, "
    assert str(caught.value) == said + "or set NO_PROXY=example.invalid"


def test_a_proxy_in_between_is_named_and_how_to_go_past_it(proxies):
    proxies(HTTP_PROXY="http://me:hunter2@127.0.0.1:9")
    with pytest.raises(LanguageModelError) as caught:
        model("http://example.invalid/v1").ask([PAIR])
    assert "; it went through the proxy of HTTP_PROXY: NO_PROXY=example.invalid goes past it" in str(caught.value)
    assert "hunter2" not in str(caught.value) and "nothing listens" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "model", "url"),
    [
        ("llama3.1:8b@http://localhost:11434/v1/", "llama3.1:8b", "http://localhost:11434/v1"),
        ("@cf/meta/llama-3.1-8b-instruct@https://gateway.example/v1", "@cf/meta/llama-3.1-8b-instruct", "https://gateway.example/v1"),
        ("claude-3-5-sonnet@20240620@https://h/v1", "claude-3-5-sonnet@20240620", "https://h/v1"),
        ("m@a@b@HTTP://h:1", "m@a@b", "http://h:1"),
        ("gpt@https://n.openai.azure.com/openai/deployments/d?api-version=1", "gpt", "https://n.openai.azure.com/openai/deployments/d"),
    ],
)
def test_a_model_may_hold_an_at_sign(name, model, url):
    found, address = parted(name)
    assert (found, address.url) == (model, url)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m", "llm 'm' is not MODEL@URL, such as llama3.1@http://localhost:11434/v1"),
        ("m@localhost:11434/v1", "is not MODEL@URL, such as llama3.1@http://localhost:11434/v1; the URL begins with http:// or https://"),
        ("m@http://me:hunter2@host/v1", "the URL of the language model at host holds a password or a key"),
        ("m@http://host/v1?key=hunter2", "the URL of the language model at host holds a password or a key"),
        ("m@http://host/v1?hunter2", "the URL of the language model at host holds a password or a key"),
        ("m@http://host/v1#hunter2", "the URL of the language model at host holds a password or a key"),
        ("m@http://host:port/v1", "the URL of the language model at host has a port that is no number"),
        ("m@http:///v1", "the URL of the language model names no host"),
        ("http://me:hunter2@host/v1", "is not MODEL@URL"),
    ],
)
def test_what_is_no_address_is_refused_without_a_secret(name, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        parted(name)
    assert "hunter2" not in str(caught.value)


def test_a_deployment_on_azure_gets_its_version_and_its_own_header(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with standin(lambda *_: (200, chat())) as (root, came):
        assert model(f"{root}/openai/deployments/d?api-version=2024-06-01").ask([PAIR])[0].phrases == GOOD_PHRASES
        assert model(f"{root}/openai?api-version=2024-06-01").ask([PAIR])[0].phrases == GOOD_PHRASES
    paths = [path for _, path, _, _ in came]
    assert paths == [f"/openai/deployments/{name}/chat/completions?api-version=2024-06-01" for name in "dm"]
    assert all(headers["api-key"] == KEY and "Authorization" not in headers for *_, headers in came)


def test_a_certificate_that_nobody_here_trusts_is_told(monkeypatch):
    """The words of the socket are those of every such server."""

    def untrusted(*_, **__):
        raise ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate (_ssl.c:1006)")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", untrusted)
    words = told(usual, scheme="https", tries=9)
    assert words.endswith("set SSL_CERT_FILE to the file of the authority that did")


def test_the_address_of_openai_is_used_where_none_is_given(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert Address.of(None).url == "https://api.openai.com/v1"
    assert json.dumps(str(Address("http://h", "1"))) == '"http://h?api-version=1"'
