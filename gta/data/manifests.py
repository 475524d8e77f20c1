"""Manifests: what is known about each dataset, encoder and attribute list. Each has one YAML file, which is checked when it is read.

Every fact has a level of evidence (`gta.data.evidence`).
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from gta.data.encoder_facts import EncoderWeights, Role
from gta.data.evidence import Evidence, Hex, Manifest, Sha256
from gta.files import Once, shipped
from gta.names import nearest
from gta.settings import Checked

FOLDER = shipped("data_manifests")
Count = Annotated[int, Field(ge=0)]
M = TypeVar("M", bound=Manifest)


class Class(Checked):
    """A class; a manifest lists them in label order. name: its name in texts; folder: its folder in the official archive."""

    name: str
    folder: str


def _class(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value, "folder": value}
    if isinstance(value, dict) and len(value) == 1:
        ((folder, name),) = value.items()
        return {"name": name, "folder": folder}
    return value


class Source(Checked):
    """Where an archive or a set of files is. hub: `paths` are in a repository at a revision; url: `paths` are addresses.

    bytes, sha256, md5: of a single path, if known. `gta.data.fetch` tries the sources in order.
    """

    kind: Literal["hub", "url"]
    repository: str | None = None
    repository_type: Literal["model", "dataset"] = "dataset"
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    paths: tuple[str, ...] = Field(min_length=1)
    bytes: Count | None = None
    sha256: Sha256 | None = None
    md5: Annotated[Hex, Field(min_length=32, max_length=32)] | None = None
    evidence: Evidence

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.kind == "hub" and not (self.repository and self.revision):
            raise ValueError("a hub source needs repository and revision")
        if (self.sha256 or self.md5 or self.bytes) and len(self.paths) > 1:
            raise ValueError("bytes, sha256 and md5 belong to a single path")
        return self

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}: {', '.join(self.paths)}" if self.kind == "hub" else ", ".join(self.paths)


class SplitFile(Checked):
    """A published split, pinned by the SHA-256 of its bytes, or by git's blob hash if nothing else is known."""

    name: str
    sha256: Sha256 | None = None
    git_blob: Annotated[Hex, Field(min_length=40, max_length=40)] | None = None
    url: str | None = None


class Splits(Checked):
    """The number of images of each split. val 0: there is no such split, and validation images are drawn from train."""

    train: Count
    val: Count
    test: Count


class Variant(Checked):
    """A public copy that is not the paper's. Its number of test images identifies it."""

    test: Count
    what: str
    evidence: Evidence


class Dataset(Manifest):
    """A dataset of the paper. template, sentence, nameless, domain: as in `gta.data.tasks.Task`; rule: how files map to splits
    (`gta.data.splits`); layouts: {origin of the layout: folder of the images below the root}; ignored: folders that belong to no
    class; left_out: images that no split uses; file_names: columns of a Hub copy with the original file names of images; steps: what
    to do by hand if nothing can be fetched; also: other copies, not pinned; quirks: what is unusual."""

    name: str
    title: str
    template: str = Field(pattern=r"\{\}")
    sentence: str = Field(pattern=r"\{name\}.*\{attribute\}")
    nameless: str = Field(pattern=r"\{attribute\}")
    domain: str
    splits: Splits
    split_origin: str
    rule: Literal["split_json", "aircraft_lists", "cub_lists", "val_folders"]
    split_file: SplitFile | None = None
    layouts: dict[str, str] = Field(min_length=1)
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    file_names: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    steps: str | None = None
    also: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    licence: str
    quirks: tuple[str, ...] = ()
    classes: tuple[Annotated[Class, BeforeValidator(_class)], ...] = Field(min_length=1)

    @property
    def facts(self) -> tuple[str, ...]:
        return ("classes", "template", "splits", "split_origin", "split_file", "layouts", "left_out", "licence")

    @property
    def parts(self) -> dict[str, Evidence]:
        return {f"source {source.paths[0]}": source.evidence for source in self.sources} | {
            f"variant of {variant.test:,} test images": variant.evidence for variant in self.variants
        }

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.rule == "split_json") != (self.split_file is not None):
            raise ValueError("split_file and the rule split_json belong together")
        if len({c.folder for c in self.classes}) != len(self.classes):
            raise ValueError("two classes share a folder")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)


class AttributeList(Checked):
    """Where the texts of one dataset are, and the options of their importer (`gta.data.importers`). folders: whether its files are named
    by the official folder of a class, such as a WordNet id, and not by its name."""

    path: str
    noun: str | None = None
    sentence: str | None = None
    aliases: dict[str, str] | None = None
    ignore: tuple[str, ...] | None = None
    unquoted: bool | None = None
    folders: bool = False
    evidence: Evidence

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the importer besides path and bank."""
        return self.model_dump(exclude={"path", "folders", "evidence"}, exclude_none=True)


class Attributes(Manifest):
    """Published attribute lists. They are not redistributed; they are read after the user has fetched them."""

    repository: str = Field(pattern=r"^https://github\.com/")
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    licence: str
    format: Literal["class_files", "pair_files", "class_json"]
    datasets: dict[str, AttributeList] = Field(min_length=1)

    @property
    def facts(self) -> tuple[str, ...]:
        return ("commit", "licence", "format")

    @property
    def parts(self) -> dict[str, Evidence]:
        return {f"list of {name}": of.evidence for name, of in self.datasets.items()}


def names() -> tuple[str, ...]:
    """The names of the datasets that have a manifest."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def dataset(name: str) -> Dataset:
    """The manifest of a dataset. Raises ValueError, with the nearest name, for an unknown name."""
    if name not in names():
        raise ValueError(f"no dataset {name!r}{nearest(name, names())}; known: {', '.join(names())}")
    return _read(FOLDER / f"{name}.yaml", Dataset)


def encoders(role: Role = "paper") -> list[EncoderWeights]:
    """The manifests of encoder weights: of the paper's three, or of the encoders of today."""
    read = [_read(file, EncoderWeights) for file in sorted((FOLDER / "encoders").glob("*.yaml"))]
    return [encoder for encoder in read if encoder.role == role]


def attributes() -> dict[str, Attributes]:
    """The manifests of published attribute lists by name."""
    return {file.stem: _read(file, Attributes) for file in sorted((FOLDER / "attributes").glob("*.yaml"))}


class _Loader(Once, yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """The quick loader: a manifest may have a thousand classes."""


def _read(file: Path, kind: type[M]) -> M:
    return cast(M, _parsed(file.resolve(), file.stat().st_mtime_ns, kind))


@lru_cache(maxsize=64)
def _parsed(file: Path, changed: int, kind: type[Manifest]) -> Manifest:
    try:
        return kind.model_validate(yaml.load(file.read_text(encoding="utf-8"), _Loader))
    except (ValidationError, ValueError, yaml.YAMLError) as error:
        details = error.errors() if isinstance(error, ValidationError) else [{"loc": (), "msg": str(error)}]
        lines = [f"  {'.'.join(map(str, d['loc'])) or 'file'}: {re.sub('^Value error, ', '', str(d['msg']))}" for d in details]
        raise ValueError(f"{file}:\n" + "\n".join(lines)) from error
