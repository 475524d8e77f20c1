"""Short texts that need no download: what functions and classes of scipy or numpy say of themselves, by module.

A text is the first sentence of a docstring of the installed version; its class is the module's topic. Descriptions of the topics are in
the paper's form: label words, three terms, a definition, a sentence of an encyclopedia (arXiv 2305.02239). They were written for this
project, in `docstrings.yaml`. `python -m gta.worlds.docstrings scipy FOLDER` writes one file for each text.
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

import numpy as np

from gta.files import write_atomically, yaml_of

DESCRIPTIONS = Path(__file__).with_name("docstrings.yaml")
MOST = 60  # texts of a class, evenly from all in the order of their names
PATTERNS = (  # the templates; `{}` is the label words
    "This text is about {}.",
    "{}",
    "A sentence on {}.",
    "The topic is {}.",
    "It belongs to {}.",
    "A function for {}.",
)


def described(library: str) -> dict[str, list[str]]:
    """The descriptions of each topic, the label words first. Raises KeyError for a library other than scipy and numpy."""
    return {name: [name, *of["terms"], of["definition"], of["sentence"]] for name, of in _topics(library).items()}


def texts(library: str) -> dict[str, dict[str, str]]:
    """For each topic the first sentence of each docstring, by the name of what it documents."""
    found: dict[str, dict[str, str]] = {}
    for name, of in _topics(library).items():
        module = importlib.import_module(f"{library}.{of['module']}")
        public = {item: getattr(module, item) for item in sorted(getattr(module, "__all__", dir(module))) if not item.startswith("_")}
        said = {item: first_sentence(inspect.getdoc(it) or "") for item, it in public.items() if callable(it) and not _is_error(it)}
        kept = [item for item, text in said.items() if len(text.split()) > 3 and not text.startswith(f"{item}(")]
        chosen = [kept[i] for i in np.unique(np.linspace(0, len(kept) - 1, min(MOST, len(kept))).round().astype(int))]
        found[name] = {item: said[item] for item in chosen}
    return found


def first_sentence(docstring: str) -> str:
    """The first sentence of the first paragraph, in one line and without marks of code."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split()).replace("`", "")
    return re.split(r"(?<=[.!?])\s", paragraph)[0]


def write(folder: Path, library: str = "scipy") -> Path:
    """Write each text as FOLDER/TOPIC/NAME.txt, where they are not there already."""
    for name, of_topic in texts(library).items():
        for item, text in of_topic.items():
            file = Path(folder) / name.replace(" ", "_") / f"{item}.txt"
            if not file.exists():
                write_atomically(file, text + "\n")
    return Path(folder)


def _topics(library: str) -> dict[str, dict]:
    return yaml_of(DESCRIPTIONS.read_text(encoding="utf-8"))[library]


def _is_error(item: object) -> bool:
    return inspect.isclass(item) and issubclass(item, BaseException)


if __name__ == "__main__":
    write(Path(sys.argv[2]), sys.argv[1])
