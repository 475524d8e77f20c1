"""The floors of the house: what a file may import. An arrow that runs up, and a circle, fail with file, line and names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gta.files import PACKAGE

# From the ground up; a room may import those below it and, without a circle, those of its own floor.
FLOORS = (
    "affinity checks files checkpoints hashes labels names transport",
    "settings attributes encoders llm optimizers",
    "transduct adapt generate",
    "state loop released",
    "data worlds",
    "scores",
    "studies peers label diagnosis distil",
    "charts batch",
    "workshop doctor __main__",
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}


def imports(package: Path) -> Iterator[tuple[str, str, str]]:
    """Of every file: (where, module, module that it imports), modules without `gta.`, and imports under TYPE_CHECKING left out."""
    modules = {_module(file, package): file for file in sorted(package.rglob("*.py"))}
    for module, file in modules.items():
        for node in _run(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.relative_to(package.parent)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [name if node.module == "gta" or name.removeprefix("gta.") in modules else node.module for name in full]
            else:
                continue
            yield from ((where, module, name.removeprefix("gta.")) for name in found if name.startswith("gta."))


def _module(file: Path, package: Path) -> str:
    parts = file.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from _run(node)


def faults(package: Path) -> list[str]:
    found, files, rooms = [], {}, {}
    for where, module, name in imports(package):
        room, other = module.partition(".")[0], name.partition(".")[0]
        if FLOOR[other] > FLOOR[room]:
            found.append(f"{where}: {module} imports {name}, {FLOOR[other] - FLOOR[room]} floors up")
        if module != name and name != room:
            files.setdefault(module, {}).setdefault(name, where)
        if room != other:
            rooms.setdefault(room, {}).setdefault(other, where)
    return [*found, *_circles(files, "files"), *_circles(rooms, "rooms")]


def _circles(graph: dict[str, dict[str, str]], what: str) -> list[str]:
    """Each circle once, as the imports that close it."""
    found, done = {}, set()

    def visit(node: str, path: list[str]) -> None:
        if node in path:
            circle = path[path.index(node) :]
            steps = [f"{graph[a][b]}: {a} imports {b}" for a, b in zip(circle, [*circle[1:], node], strict=True)]
            found.setdefault(frozenset(circle), f"a circle of {what}: " + "; ".join(steps))
        elif node not in done:
            for other in graph.get(node, {}):
                visit(other, [*path, node])
            done.add(node)

    for node in graph:
        visit(node, [])
    return list(found.values())


def test_no_import_runs_up_and_none_closes_a_circle():
    assert faults(PACKAGE) == []


def test_every_room_has_its_floor_and_says_what_it_is_for():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert rooms | files == set(FLOOR)
    assert len(FLOOR) <= 32 and len(FLOORS) == 9
    for room in rooms:
        said = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert "May import" in said and "Begin with" in said, room


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"names.py": "\nfrom gta import loop"}, "gta/names.py:2: names imports loop, 3 floors up"),
        ({"names.py": "def f():\n    import gta.llm.chat"}, "gta/names.py:2: names imports llm.chat, 1 floors up"),
        (
            {"data/a.py": "from gta.data.b import x", "data/b.py": "from gta.data import a"},
            "a circle of files: gta/data/a.py:1: data.a imports data.b; gta/data/b.py:1: data.b imports data.a",
        ),
        (
            {"data/a.py": "import gta.worlds.b", "worlds/c.py": "import gta.data.d", "worlds/b.py": "", "data/d.py": ""},
            "a circle of rooms: gta/data/a.py:1: data imports worlds; gta/worlds/c.py:1: worlds imports data",
        ),
    ],
)
def test_what_breaks_the_rule_is_named(tmp_path, files, said):
    for name, text in files.items():
        file = tmp_path / "gta" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert said in faults(tmp_path / "gta")
