"""Save and load a model: the adapted encoder in open_clip's format, and the classes that it was adapted to.

A model is a folder. `open_clip_config.json` and `open_clip_model.safetensors` (and files of the tokenizer, if it is not open_clip's)
are what `open_clip.create_model_from_pretrained("local-dir:FOLDER")` loads. `classifier.json`, `classifier.safetensors` and
`attributes.json` label new images one by one. `README.md` is the model card. No file runs code when it is read. A second view is not
in the folder: `classifier.json` has its name, and the hash of its weights. A text tower that came in its folder
(`gta.encoders.text_towers`) is kept with its `config.json`, and this program alone reads it.
`gta.label.portable` adds what labels without this program.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip import SimpleTokenizer
from pydantic import Field, ValidationError
from torch import Tensor

from gta import encoders
from gta.attributes import Bank
from gta.encoders import text_towers, weights
from gta.encoders.encoder import Encoder
from gta.encoders.image_encoder import ImageEncoder, stored_weights, weights_hash
from gta.encoders.vision import EMBEDDED, READY, View, load_view
from gta.encoders.words import WORDS, WordTokenizer
from gta.files import load_tensors, save_tensors
from gta.label import portable
from gta.label.taxonomy import FLOOR, Taxonomy
from gta.label.unknowns import unfitness
from gta.settings import Checked
from gta.state import Result
from gta.transduct import posterior
from gta.worlds import aviary, digits

SHAPES, TENSORS = "classifier.json", "classifier.safetensors"


class Facts(Checked):
    """The content of `classifier.json`. logit_scale: the temperature of the text prior; lam: its weight; parents, ranks, floor: of the
    taxonomy, empty without one; view, view_sha256: the name of the second view and the hash of its weights, empty without one."""

    class_names: tuple[str, ...]
    logit_scale: float
    lam: float
    weights_sha256: str
    parents: dict[str, str] = Field(default_factory=dict)
    ranks: tuple[str, ...] = ()
    floor: float = FLOOR
    view: str = ""
    view_sha256: str = ""


@dataclass(frozen=True)
class Second:
    """The part of a second view. name, sha256: of the view, as `gta.encoders.vision.load_view` takes it; prototypes (M, d2) and variance
    (d2,): of the mixture."""

    name: str
    sha256: str
    prototypes: Tensor
    variance: Tensor

    def load(self, device: str | None = None, name: str | None = None) -> ImageEncoder:
        """The second view, by another name where it lies elsewhere now. Raises ValueError for features that somebody had made, since new
        images have none, and for another view; and as `load_view` does."""
        name = name or self.name
        if name.startswith(READY):
            why = "new images have no features there. Label them together with `python -m gta label`, or keep a model with another --view"
            raise ValueError(f"the model was made with the second view {name!r}: {why}")
        worlds = (digits.ENCODERS, aviary.ENCODERS) if name == EMBEDDED else (digits.ENCODERS,)
        found = [view for world in worlds if isinstance(view := load_view(name, device=device, embedded=world), ImageEncoder)]
        for view in found:
            if view.weights_sha256 == self.sha256:
                return view
        other = f"{found[0].source}, sha256 {found[0].weights_sha256[:12]}"
        raise ValueError(f"the second view {name!r} ({other}) is not {self.name!r} that the model was made with, sha256 {self.sha256[:12]}")


@dataclass(frozen=True)
class Classifier:
    """Labels images one by one from their features. texts: (M, d), mean text features of the classes; prototypes (M, d) and variance
    (d,): the mixture; logit_scale and lam: as in `gta.transduct`; second: the part of a second view, if there was one; taxonomy: the
    tree above the classes, if there is one."""

    class_names: tuple[str, ...]
    texts: Tensor
    prototypes: Tensor
    variance: Tensor
    logit_scale: float
    lam: float
    second: Second | None = None
    taxonomy: Taxonomy | None = None

    @classmethod
    def of(cls, result: Result, lam: float = 1.0, view: View | None = None, taxonomy: Taxonomy | None = None) -> "Classifier":
        """The classifier of a run: its last mixture and its texts. view: the second view that the run was given."""
        texts = torch.stack([features.mean(0) for features in result.text_features])
        mu, variance, second = result.view_prototypes, result.view_variance, None
        if view is not None and mu is not None and variance is not None:
            second = Second(view.name, view.weights_sha256, mu, variance)
        names, scale = result.attributes.class_names, result.encoder.logit_scale
        return cls(names, texts, result.prototypes, result.variance, scale, lam, second, taxonomy)

    def label(self, features: Tensor, view: Tensor | None = None) -> Tensor:
        """z (N, M) of unit features (N, d), from the text prior and the mixture, without neighbours. view: (N, d2), unit features of the
        second view, if there is one."""
        prior = (features @ (self.logit_scale * self.texts).T).softmax(1)
        of_view = {} if self.second is None else {"view_prototypes": self.second.prototypes, "view_variance": self.second.variance}
        return posterior(features, prior, self.prototypes, self.variance, self.lam, view=view, **of_view)

    def unfitness(self, features: Tensor) -> Tensor:
        """The unfitness (N,) of unit features (N, d), as in `gta.label.unknowns`."""
        return unfitness(features, self.texts)


def save(folder: Path, encoder: Encoder, classifier: Classifier, bank: Bank, card: str) -> None:
    """Write the folder, completely or not at all. An existing model is replaced. Raises ValueError if the tokenizer cannot be written,
    or if the folder exists and is no model."""
    folder = Path(folder)
    if folder.exists() and not (folder / SHAPES).exists():
        raise ValueError(f"{folder} exists and is no model of this program; name another folder, or move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        config = {"model_cfg": encoder.config, "preprocess_cfg": json.loads(encoder.preprocessing)}
        config = json.loads(json.dumps(config))  # a copy
        config["preprocess_cfg"].pop("size")  # open_clip takes the size from the model
        _save_tokenizer(part, encoder.tokenizer, config["model_cfg"]["text_cfg"])
        if text_towers.is_beside(encoder.config):
            (part / "config.json").write_text(encoder.model.text.config.to_json_string(), encoding="utf-8")
        (part / weights.CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        save_tensors(part / weights.WEIGHTS[0], {name: tensor.clone() for name, tensor in stored_weights(encoder.model).items()})
        tensors = {name: getattr(classifier, name) for name in ("texts", "prototypes", "variance")}
        facts = {name: getattr(classifier, name) for name in ("class_names", "logit_scale", "lam")}
        if (second := classifier.second) is not None:
            tensors |= {"view_prototypes": second.prototypes, "view_variance": second.variance}
            facts |= {"view": second.name, "view_sha256": second.sha256}
        if (tree := classifier.taxonomy) is not None:
            facts |= {"parents": tree.parents, "ranks": tree.ranks, "floor": tree.floor}
        save_tensors(part / TENSORS, {name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
        sha = weights_hash(encoder.model)
        (part / SHAPES).write_text(Facts(**facts, weights_sha256=sha).model_dump_json(indent=1) + "\n", encoding="utf-8")
        bank.save(part / "attributes.json")
        (part / "README.md").write_text(card + portable.write(part, encoder, classifier), encoding="utf-8")
        for file, mode in [(part, 0o755), *((file, 0o644) for file in part.iterdir())]:  # a temporary folder is readable only by its owner
            file.chmod(mode)
        old = part.with_name(f"{part.name}.old")
        if folder.exists():
            folder.replace(old)  # kept until the new folder is in place
        try:
            part.replace(folder)
        except OSError:
            if old.exists():
                old.replace(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def load(folder: Path, device: str | None = None) -> tuple[Encoder, Classifier]:
    """Load what `save` wrote. Raises ValueError, with the file, if a file is missing, damaged, or of another model; OSError and
    `gta.encoders.weights.MissingWeights` as `gta.encoders.load` does."""
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(f"{folder}: a file; a model is a folder, such as OUT/model of `python -m gta label ... --out OUT --save-model`")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; a model is OUT/model of `python -m gta label ... --out OUT --save-model`")
    for name in (SHAPES, TENSORS, weights.CONFIG, weights.WEIGHTS[0]):
        if not (folder / name).is_file():
            inside = f"; did you mean {folder / 'model'}?" if (folder / "model" / SHAPES).is_file() else ""
            raise ValueError(f"{folder} is no model of `python -m gta label --save-model`: {name} is missing{inside}")
    try:
        facts = Facts.model_validate_json((folder / SHAPES).read_bytes())
        tree = Taxonomy.of(facts.class_names, facts.parents, facts.ranks, facts.floor) if facts.parents else None
    except ValidationError as error:
        raise ValueError(f"{folder / SHAPES}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    except ValueError as error:
        raise ValueError(f"{folder / SHAPES}: {error}") from None
    tensors = load_tensors(folder / TENSORS)
    encoder = encoders.load(str(folder), device=device)
    if encoder.weights_sha256 != facts.weights_sha256:
        raise ValueError(f"{folder / weights.WEIGHTS[0]} is not the encoder that {SHAPES} was made with; copy the folder again")
    classes = len(facts.class_names)
    size, of_view = (len(tensors[name]) if name in tensors else 0 for name in ("variance", "view_variance"))
    expected = {"texts": (classes, size), "prototypes": (classes, size), "variance": (size,)}
    if facts.view:
        expected |= {"view_prototypes": (classes, of_view), "view_variance": (of_view,)}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != expected or not size:
        raise ValueError(f"{folder / TENSORS}: not the tensors of {classes} classes")
    second = Second(facts.view, facts.view_sha256, tensors["view_prototypes"], tensors["view_variance"]) if facts.view else None
    texts, mu, variance = (tensors[name] for name in ("texts", "prototypes", "variance"))
    return encoder, Classifier(facts.class_names, texts, mu, variance, facts.logit_scale, facts.lam, second, tree)


def _save_tokenizer(folder: Path, tokenizer, text_cfg: dict) -> None:
    """Write the files from which the tokenizer can be made again. Changes `text_cfg` if open_clip needs to know about them."""
    if isinstance(tokenizer, SimpleTokenizer):
        return
    if isinstance(tokenizer, WordTokenizer):
        tokenizer.save(folder / WORDS)
        tokens = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>"}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tokenizer.context_length, **tokens}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        text_cfg["hf_tokenizer_name"] = "."  # open_clip then loads the tokenizer from this folder with transformers
    elif hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(str(folder))
    else:
        raise ValueError(f"a tokenizer of the kind {type(tokenizer).__name__} cannot be saved; label without --save-model")
