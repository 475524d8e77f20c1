"""The facts of an encoder's weights: where they are, how they read images and texts, how large they are, what one may do with them."""

from typing import Annotated, Literal

from pydantic import Field

from gta.data.evidence import Manifest, Sha256
from gta.settings import Checked

Role = Literal["paper", "today"]
Activation = Literal["gelu", "gelu-tanh", "quick_gelu", "swiglu"]
Use = Literal["free", "non-commercial", "research only"]
Triple = tuple[float, float, float]


class Preprocessing(Checked):
    """How an image is read, in open_clip's words. mean, std: of the channels, which lie in [0, 1]."""

    mean: Triple
    std: Triple
    interpolation: Literal["bilinear", "bicubic"]
    resize_mode: Literal["shortest", "squash"]


class Texts(Checked):
    """How a text is read. context: tokens; mask: whether a token sees what comes after it (`none`) or not; pool: the place whose state is
    the feature, the end token (`argmax`) or the last one; tokenizer: open_clip's own, or one in the repository of the weights."""

    context: int = Field(gt=0)
    mask: Literal["causal", "none"]
    pool: Literal["argmax", "last"]
    tokenizer: Literal["open_clip", "hub"] = "open_clip"


class Activations(Checked):
    """The nonlinearity in the blocks of each tower."""

    image: Activation
    text: Activation


class Parameters(Checked):
    """How many numbers each tower learnt, without the logit scale."""

    image: int = Field(gt=0)
    text: int = Field(gt=0)


class EncoderWeights(Manifest):
    """Weights of an encoder. name: also the name of the file, with - for /. role: the paper's, or of today.

    architecture, pretrained: names in open_clip; without `pretrained` the repository describes itself and is loaded as `hf-hub:HUB`.
    hub: where open_clip fetches the weights; files: which it looks for, in order; sha256: of files there at `revision`, as far as known.
    checkpoint_sha256: of the file that its authors released. logit_scale: the exponential of the learnt parameter.
    kept: MB (10^6 bytes) in float32 that training keeps for the backward pass of one image with its text.
    imagenet: zero-shot accuracy in % that its evidence reports. licence, use: its name, and what it allows in short. templates: the texts
    that its authors recommend.
    """

    name: str
    role: Role
    architecture: str
    pretrained: str | None = None
    hub: str
    files: tuple[str, ...]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    sha256: dict[str, Sha256] = Field(default_factory=dict)
    checkpoint_sha256: Sha256 | None = None
    embedding: int
    image_size: int
    preprocessing: Preprocessing
    texts: Texts
    activation: Activations
    loss: Literal["softmax", "sigmoid"] = "softmax"
    logit_scale: float | None = None
    parameters: Parameters
    kept: int = Field(gt=0)
    imagenet: float | None = None
    templates: str | None = None
    licence: str
    use: Use
    quirks: tuple[str, ...] = ()

    @property
    def facts(self) -> tuple[str, ...]:
        return tuple(name for name in type(self).model_fields if name not in ("name", "role", "pretrained", "quirks", "evidence"))
