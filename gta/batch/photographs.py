"""Runs on photographs: what they need, where it lies, and what they are given. A grid names them `photos/FOLDER`.

The photographs are a folder of class folders, `photos/FOLDER` below the folder of the datasets; the encoder is a folder too. Both are made
or brought by the user, and none is published.
"""

from pathlib import Path
from typing import Any

from gta.files import ROOT

BEGINS = "photos/"
TEXTS = "data_manifests/photographs/{}.yaml"  # template, sentence and attributes of a folder's classes


def lacks(dataset: str, data: str, encoder: str, preset: str) -> str | None:
    """What a run needs and this machine does not have, with the way to bring it in; else None."""
    if preset:
        return f"its settings were chosen without a preset, and not for {preset}"
    if not (ROOT / data / dataset).is_dir():
        return f"no folder {data}/{dataset} with a sub-folder of photographs for each class (--config data=FOLDER)"
    if not (ROOT / encoder / "open_clip_config.json").exists():
        return f"no encoder in {encoder} (python -m gta.workshop.pocket; --config pocket=FOLDER)"
    return None


def given(dataset: str, data: str, encoder: str) -> tuple[dict[str, Any], list[str]]:
    """The parameters of a run, and the files that it reads besides the photographs."""
    texts = TEXTS.format(Path(dataset).name)
    named = {"classes": texts} if (ROOT / texts).exists() else {"classes": ""}
    files = sorted(f"{encoder}/{file.relative_to(ROOT / encoder)}" for file in (ROOT / encoder).rglob("*") if file.is_file())
    return {"dataset": f"{data}/{dataset}", "backbone": encoder, **named}, [*filter(None, named.values()), *files]
