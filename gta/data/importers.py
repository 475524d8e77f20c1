"""Read published attribute lists, which the user has fetched, into a bank.

There are three formats: one file of sentences for each class (AdaptCLIPZS), one file of sentences for each ordered pair (GTA-CLIP),
and one JSON of sentences (CuPL). `data_manifests/attributes/*.yaml` says where each list is and what is unusual about it. The lists
are not redistributed. Every line is taken, fixed or dropped, and the report counts all three.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gta.attributes import Bank
from gta.data import manifests
from gta.llm.answers import is_cut_off, names
from gta.names import fill, nearest


@dataclass
class Report:
    """Counts of an import: texts taken, texts fixed (by fix), lines dropped (by reason); and the empty and the ignored files."""

    taken: int = 0
    fixed: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = [
            f"{what} {', '.join(f'{n} {why}' for why, n in sorted(c.items()))}"
            for what, c in (("fixed", self.fixed), ("dropped", self.dropped))
            if c
        ]
        files = [f"{len(f)} {what} files" for what, f in (("empty", self.empty), ("ignored", self.ignored)) if f]
        return "; ".join([f"{self.taken} texts taken", *counts, *files])


def read(manifest: str, dataset: str, folder: Path | str, bank: Bank) -> tuple[Bank, Report]:
    """Add the published texts of a dataset to a bank, from a checkout of the manifest's repository in `folder`.

    manifest: a file of `data_manifests/attributes`, without its suffix. Raises ValueError, with the nearest name, for an unknown
    manifest, dataset or class, and FileNotFoundError, with the repository to check out, if files are missing.
    """
    source, listed, path = _located(manifest, dataset, folder)
    options = listed.options
    if listed.folders:
        options["aliases"] = {of.folder: of.name for of in manifests.dataset(dataset).classes}
    readers: dict[str, Callable[..., tuple[Bank, Report]]]
    readers = {"class_files": class_files, "pair_files": pair_files, "class_json": class_json}
    return readers[source.format](path, bank, **options)


def first(manifest: str, dataset: str, folder: Path | str, bank: Bank) -> tuple[Bank, dict[str, Report]]:
    """The first attributes of a dataset: its list, then that of its habitats where the manifest has one (`DATASET_location`).

    Returns the bank and a report for each list. Raises as `read` does.
    """
    reports = {}
    bank, reports[dataset] = read(manifest, dataset, folder, bank)
    habitat = f"{dataset}_location"
    if habitat in manifests.attributes()[manifest].datasets:
        bank, reports[habitat] = read(manifest, habitat, folder, bank)
    return bank, reports


def answers(manifest: str, dataset: str, folder: Path | str, bank: Bank) -> tuple[dict[tuple[str, str], tuple[str, ...]], Report]:
    """The published answers to pairs: {(name, against): whole sentences}, cleaned as `pair_files` does; an empty file gives none.

    Raises as `read` does, and ValueError for a manifest of another format.
    """
    source, listed, path = _located(manifest, dataset, folder)
    if source.format != "pair_files":
        raise ValueError(f"{manifest} holds no answers to pairs, but the format {source.format}")
    report = Report()
    found = {}
    for this, other, texts in _pairs(path, bank, listed.aliases, report):
        found[bank.class_names[this[0]], other] = texts
        report.taken += len(texts)
    report.dropped, report.fixed = +report.dropped, +report.fixed
    return found, report


def _located(manifest: str, dataset: str, folder: Path | str) -> tuple[manifests.Attributes, manifests.AttributeList, Path]:
    """The manifest, its list of a dataset, and where that lies in a checkout."""
    known = manifests.attributes()
    if manifest not in known:
        raise ValueError(f"no manifest {manifest!r}{nearest(manifest, known)}; known: {', '.join(known)}")
    source = known[manifest]
    if dataset not in source.datasets:
        raise ValueError(f"{manifest} has no {dataset!r}{nearest(dataset, source.datasets)}; it has: {', '.join(source.datasets)}")
    listed = source.datasets[dataset]
    path = Path(folder) / listed.path
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: check out {source.repository} at {source.commit} into {folder}")
    return source, listed, path


def class_files(
    folder: Path,
    bank: Bank,
    *,
    noun: str,
    sentence: str,
    aliases: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    unquoted: bool = False,
) -> tuple[Bank, Report]:
    """Read one file for each class, with lines such as "A bird with a hooked bill.".

    The words after `noun` go into `sentence` ("... {name} bird {attribute}"). File names have SLASH for `/` and may have `_` for a
    space. Of several files for one class the last one counts. aliases: {file name: class}; ignore: files of other datasets; unquoted:
    remove all quotation marks and apostrophes. Raises ValueError for a file without class, or a class without file.
    """
    report, files = Report(), dict[int, Path]()
    for file in sorted(Path(folder).glob("*.txt")):
        if file.stem in ignore:
            report.ignored.append(file.name)
        else:
            for i in _classes(file.stem.replace("SLASH", "/"), bank, aliases, file.name):
                report.ignored += [files[i].name] if i in files and files[i].name not in report.ignored else []
                files[i] = file
    if missing := [name for i, name in enumerate(bank.class_names) if i not in files]:
        raise ValueError(f"{folder}: no file for {', '.join(map(repr, missing))}")
    for i, file in sorted(files.items()):
        lines = _lines(file.read_text(encoding="utf-8-sig"), report)
        bare = [re.sub("[\"']", "", line) for line in lines] if unquoted else lines
        report.fixed["quoted"] += sum(new != old for new, old in zip(bare, lines, strict=True))
        phrases = [_after(noun, bank.class_names[i], line, report) for line in bare]
        filled = [fill(sentence, name=bank.class_names[i], attribute=phrase) for phrase in phrases if phrase]
        bank = _add(bank, i, filled, report, Path(folder).name)
    return bank.without_templates(), report


def pair_files(folder: Path, bank: Bank, *, aliases: Mapping[str, str] | None = None) -> tuple[Bank, Report]:
    """Read one file `A_B.txt` for each ordered pair, with complete sentences about A that distinguish it from B.

    Class names may contain `_` and `/`; a name with `/` is a path with a folder. A fragment that does not name A goes into the sentence
    of the bank. Classes without a file keep their texts. Raises ValueError for a file that does not name two classes.
    """
    report = Report()
    for this, other, texts in _pairs(folder, bank, aliases, report):
        for i in this:
            bank = _add(bank, i, texts, report, Path(folder).name, against=other)
    report.dropped, report.fixed = +report.dropped, +report.fixed
    return bank, report


def _pairs(folder: Path, bank: Bank, aliases: Mapping[str, str] | None, report: Report) -> Iterator[tuple[list[int], str, tuple[str, ...]]]:
    """Of each pair file: the classes that it is about, the name of the other one, and the sentences that can be used."""
    for file in sorted(Path(folder).rglob("*.txt")):
        pair = file.relative_to(folder).as_posix().removesuffix(".txt")
        this, other = _split(pair, bank, aliases)
        own, lines = bank.class_names[this[0]], _lines(file.read_text(encoding="utf-8-sig"), report)
        if not lines:
            report.empty.append(f"{pair}.txt")
        kept = [line for line in lines if not names(other, line.replace(own, ""))]
        report.dropped["naming the other class"] += len(lines) - len(kept)
        whole = [line if names(own, line) else fill(bank.sentence, name=own, attribute=_fragment(line)) for line in kept]
        report.fixed["without the class's name"] += sum(new != old for new, old in zip(whole, kept, strict=True))
        yield this, other, tuple(whole)


def class_json(file: Path, bank: Bank, *, aliases: Mapping[str, str] | None = None) -> tuple[Bank, Report]:
    """Read one JSON object {class: [texts]}. Some texts begin with the end of their prompt, which is removed.

    Raises ValueError for a key without class, a class without key, or JSON of another shape.
    """
    data = json.loads(Path(file).read_text(encoding="utf-8-sig"))
    if not isinstance(data, dict) or not all(isinstance(texts, list) for texts in data.values()):
        raise ValueError(f"{file} is not a JSON object of lists")
    report, found = Report(), dict[int, list[str]]()
    for key, texts in data.items():
        for i in _classes(key, bank, aliases, f"{Path(file).name}, {key!r}"):
            found[i] = texts
    if missing := [name for i, name in enumerate(bank.class_names) if i not in found]:
        raise ValueError(f"{file}: nothing for {', '.join(map(repr, missing))}")
    for i, texts in sorted(found.items()):
        lines = [line for text in texts for line in _lines(_unglued(text, report), report)]
        bank = _add(bank, i, lines, report, Path(file).name)
    return bank.without_templates(), report


def _classes(name: str, bank: Bank, aliases: Mapping[str, str] | None, where: str) -> list[int]:
    """All classes that have the spelling of a published name. Raises ValueError, with the nearest class, if there is none."""
    meant = (aliases or {}).get(name, name)
    found = [i for i, known in enumerate(bank.class_names) if _spelling(known) == _spelling(meant)]
    if not found:
        raise ValueError(f"{where}: no class {meant!r}{nearest(meant, bank.class_names)}")
    return found


def _spelling(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _split(pair: str, bank: Bank, aliases: Mapping[str, str] | None) -> tuple[list[int], str]:
    """Split `A_B` at the first `_` where both sides are classes. Returns the classes of A and the name of B."""
    wrong: ValueError | None = None
    for underscore in re.finditer("_", pair):
        first, second = pair[: underscore.start()], pair[underscore.end() :]
        try:
            this = _classes(first, bank, aliases, f"{pair}.txt")
        except ValueError as error:
            wrong = wrong or error
            continue
        try:
            return this, bank.class_names[_classes(second, bank, aliases, f"{pair}.txt")[0]]
        except ValueError as error:
            wrong = error
    raise wrong or ValueError(f"{pair}.txt is not named A_B.txt")


def _lines(text: str, report: Report) -> list[str]:
    """The sentences of a text, with single spaces and without enclosing quotes. Incomplete sentences are dropped."""
    lines = [line for line in (" ".join(line.split()).removeprefix("• ") for line in text.splitlines()) if line]
    bare = [line[1:-1] if len(line) > 2 and line[0] == line[-1] == '"' else line for line in lines]
    report.fixed["quoted"] += sum(new != old for new, old in zip(bare, lines, strict=True))
    whole = [line for line in bare if len(line.split()) > 1 and not is_cut_off(line)]
    # If most sentences end with a full stop and the last one does not, the answer reached its length limit.
    stops = [line.endswith((".", "!", "?", ")")) for line in whole]
    if whole and not stops[-1] and sum(stops) > len(stops) / 2:
        whole.pop()
    report.dropped["cut off"] += len(bare) - len(whole)
    return whole


def _after(noun: str, name: str, line: str, report: Report) -> str | None:
    """The words of a line after "A NOUN". Two other beginnings ("The NAME is a NOUN ...", "This NOUN ...") are fixed, the rest dropped."""
    plain = re.match(rf"an? {re.escape(noun)}\b[\s,]*(.+)", line, re.IGNORECASE)
    other = re.match(rf"(?:the {re.escape(name)} is an? |the |this |these ){re.escape(noun)}s?\b[\s,]*(.+)", line, re.IGNORECASE)
    if plain:
        return plain[1].rstrip(". ")
    if other:
        report.fixed["another beginning"] += 1
        return re.sub(r"^(is|are|has|can)\b", r"that \1", other[1].rstrip(". "))
    report.dropped["another beginning"] += 1
    return None


def _fragment(line: str) -> str:
    """A line in the form of a part of a longer sentence: no capital article, no full stop."""
    return (line[0].lower() + line[1:] if re.match(r"An?\b", line) else line).rstrip(". ")


def _unglued(text: str, report: Report) -> str:
    """A text without the end of its prompt, which some answers begin with: "scapeIn a photo ..."."""
    glued = re.match(r"(?: [A-Za-z]|[a-z])[a-z]*(?=[A-Z])", text)
    report.fixed["glued to the end of its prompt"] += bool(glued)
    return text[glued.end() :] if glued else text


def _add(bank: Bank, i: int, texts: Iterable[str], report: Report, origin: str, **provenance: str) -> Bank:
    before = len(bank.attributes[i])
    texts = list(texts)
    bank = bank.add_texts(i, texts, source="imported", origin=origin, **provenance)
    added = len(bank.attributes[i]) - before
    report.taken += added
    report.dropped["duplicate"] += len(texts) - added
    report.dropped, report.fixed = +report.dropped, +report.fixed
    return bank
