"""A tokenizer that lies beside the weights in their repository, at the same revision.

open_clip alone would read the newest files of the Hub, whatever the revision of the weights.
"""

import contextlib
from pathlib import Path

import open_clip
from open_clip.tokenizer import HFTokenizer

from gta.encoders.hub import MissingWeights, NotInRepository, fetch, first_line

VOCABULARY = "tokenizer.json"
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")  # such as the token that pads; some repositories have one of them


def fetched(repository: str, revision: str | None) -> Path:
    """The folder with the files of a tokenizer. Raises MissingWeights where one is in the repository and cannot be had: without its
    settings a tokenizer may be silently another."""
    folder = fetch(repository, [VOCABULARY], revision).parent
    for file in SETTINGS:
        with contextlib.suppress(NotInRepository):
            fetch(repository, [file], revision)
    return folder


def of_tag(architecture: str, repository: str, revision: str | None) -> HFTokenizer | None:
    """The tokenizer of an architecture of open_clip, with its context, cleaning and padding, made of the files of the repository; None
    where open_clip brings the tokenizer, or the repository has none. Raises MissingWeights."""
    text_cfg = (open_clip.get_model_config(architecture) or {})["text_cfg"]
    if not text_cfg.get("hf_tokenizer_name"):
        return None
    try:
        folder = fetched(repository, revision)
    except NotInRepository:
        return None
    settings = {"tokenizer_mode": text_cfg.get("tokenizer_mode"), **text_cfg.get("tokenizer_kwargs", {})}
    try:
        return HFTokenizer(str(folder), context_length=text_cfg["context_length"], **settings)
    except Exception as error:  # of transformers and tokenizers
        raise MissingWeights(f"the tokenizer of {architecture} cannot be made of {folder}: {first_line(error)}") from error
