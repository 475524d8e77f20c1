"""What varies between experiments: one small frozen object, validated once."""

import hashlib
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gta.names import nearest

PresetName = Literal["", "as_described", "as_released"]  # by name; `gta.released.presets` says what each sets


SizesName = Literal["free", "anchored", "estimated", "equal"]
# What holds the sizes of classes, by name (docs/views-and-sizes.md).
SIZES: dict[str, dict] = {
    "free": {},
    "anchored": {"anchor": 1.0},
    "estimated": {"balance": 1.0, "sizes": "estimated"},
    "equal": {"balance": 1.0},
}


class Checked(BaseModel):
    """A frozen model that refuses a field it does not know, and names the nearest that it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: dict) -> dict:
        for name in values:
            if name not in cls.model_fields:
                raise ValueError(f"unknown parameter {name!r}{nearest(name, cls.model_fields)}")
        return values

    @classmethod
    def read(cls, namespace: dict) -> Self:
        """Read the plain variables of a notebook, before it defines any that is not a parameter.

        papermill gives a misspelt parameter as one more variable; here it is refused with the nearest name. So is a number for a
        text, with the way to give it as a text: the 007 that a user wrote is lost in 7.
        """
        plain = (str, int, float, bool, list, tuple, dict, type(None))
        hidden = {"In", "Out"}  # IPython's own
        given = {k: v for k, v in namespace.items() if isinstance(v, plain) and k not in hidden and not k.startswith("_")}
        try:
            return cls(**given)
        except ValidationError as error:
            wrong = [(e["loc"][0], e["input"]) for e in error.errors() if e["type"] == "string_type" and len(e["loc"]) == 1]
            told = [f"{name} is a text, and -p made {value!r} of it; -r {name} TEXT leaves it as it is" for name, value in wrong]
            raise ValueError("\n".join(told)) if told else error from None


class Settings(Checked):
    """The method's constants; the defaults are the paper's, the same for all datasets (arXiv 2501.06031)."""

    iterations: int = Field(30, ge=1)  # T
    stop: float = Field(0, ge=0, lt=1)  # end when a smaller share of labels changes from one iteration to the next; 0: never
    generate: bool = True
    adapt: bool = True
    transduct: bool = True  # False: z is the text prior, CLIP's own answer
    pairs: Literal["confused", "random"] = "confused"  # random: the control, as many pairs but any
    memory: Literal["cumulative", "one_iteration"] = "cumulative"  # how long the answers of an iteration serve
    margin: float = Field(0.1, gt=0, le=1)  # alpha: two classes of an image are confused when z differs by less
    pair_share: float = Field(0.05, gt=0, le=1)  # share of the pairs seen at first that beta keeps
    lam: float | None = Field(None, ge=0)  # weight of the text prior: 1, and 0.5 with support
    gamma: float = Field(0.01, ge=0)  # weight of support images
    neighbors: int = Field(3, ge=1)
    anchor: float = Field(0, ge=0)  # images that the text of a class weighs in its prototype (StatA's alpha); 0: none
    balance: float = Field(0, ge=0, le=1)  # how strictly classes have `sizes`: 0 leaves them free, 1 holds them
    sizes: Literal["equal", "estimated"] = "equal"
    confident: int = Field(8, ge=1)  # images a class that adapt learns from
    batch_size: int = Field(32, ge=2)
    lr: float = Field(2e-7, gt=0)
    lr_projection: float = Field(1e-6, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    optimizer: Literal["adamw", "released", "released_unrounded"] = "adamw"  # the step of adapt (`gta.optimizers`)
    # What adapt trains: both encoders, or, as released, without what has "proj" in its name but for the projections into the shared space:
    # attention and half of each MLP then stay as they were.
    learns: Literal["all", "released_subset"] = "all"
    seed: int = Field(0, ge=0)
    draw: int = Field(0, ge=0)  # seeds texts, views and batches of adapt, and random pairs: another draw of the same experiment

    @property
    def digest(self) -> str:
        """A hash of every setting, part of a row's `run_id`."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
