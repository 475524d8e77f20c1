"""Text files are UTF-8 whatever the locale: a call that would read or write text in the locale's encoding fails with file and line."""

import ast
import json
from collections.abc import Iterator

import pytest

from gta.files import ROOT

FOLDERS = ("gta", "tests", "benchmarks", "notebooks")


def unnamed(text: str) -> Iterator[ast.Call]:
    """Calls that read or write text and do not say in which encoding."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        # A mode is the first argument of a path's method, the second of a function, where a number of arguments tells them apart.
        method = isinstance(function, ast.Attribute) and ast.unparse(function.value) not in ("io", "os", "tempfile", "codecs")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in ("read_text", "write_text"):
            # The encoding may stand in its place: first to read, second to write.
            if len(node.args) <= (name == "write_text"):
                yield node
        elif name in ("open", "fdopen"):
            mode = given.get("mode") or next(iter(node.args[0 if method else 1 :]), None)
            text_mode = isinstance(mode, ast.Constant) and isinstance(mode.value, str) and set(mode.value) <= set("rwaxt+")
            if text_mode or (mode is None and not method):
                yield node
        elif name in ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"):
            mode = given.get("mode") or next(iter(node.args), None)
            if isinstance(mode, ast.Constant) and "b" not in mode.value:
                yield node
        elif getattr(given.get("text", given.get("universal_newlines")), "value", None) is True:
            yield node  # what a process prints


def sources() -> Iterator[tuple[str, str]]:
    """Of every file of Python, and of the code of every notebook: its name and its text."""
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")
        for file in sorted((ROOT / folder).rglob("*.ipynb")):
            cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
            for number, cell in enumerate(cells):
                code = "".join(line for line in cell["source"] if not line.startswith(("%", "!")))
                if cell["cell_type"] == "code":
                    yield f"{file.relative_to(ROOT)} cell {number}", code


def test_every_text_file_is_read_and_written_as_utf8():
    found = [f"{name}:{call.lineno}: {ast.unparse(call)[:80]}" for name, text in sources() for call in unnamed(text)]
    assert not found, "say encoding='utf-8':\n" + "\n".join(found)


@pytest.mark.parametrize(
    "call",
    [
        "file.read_text()",
        "file.write_text(text)",
        "file.read_text(errors='replace')",
        "open(file)",
        "open(file, 'w')",
        "open(file, mode='a')",
        "open(file, newline='')",
        "file.open('w')",
        "os.fdopen(handle, 'w')",
        "io.open(file)",
        "tempfile.NamedTemporaryFile('w')",
        "subprocess.run(words, text=True)",
    ],
)
def test_a_call_without_an_encoding_is_found(call):
    assert len(list(unnamed(call))) == 1


@pytest.mark.parametrize(
    "call",
    ["file.read_text('utf-8')", "open(file, 'rb')", "open(file, encoding='ascii')", "Image.open(file)", "cell.open()", "file.open('rb')"],
)
def test_a_call_that_says_it_or_reads_bytes_is_not(call):
    assert not list(unnamed(call))
