"""The settings that a backbone begins with, where they are not the defaults of `gta.settings.Settings`.

Tiny embedded encoders need larger learning rates and fewer iterations than the paper's. OpenAI's three encoders take the optimiser and the
parameters of the released program, from which the published figures come (`docs/reproduction.md`, "The regime of adapt"); all others keep
AdamW until a measurement says otherwise.
"""

from gta.encoders.weights import OPENAI
from gta.settings import Settings

# The best cells that adapt by the rule of `python -m gta.workshop.choose`, on synthetic handwriting and on worlds of other birds. For the
# digits that cell is above `no adapt`; for the aviary `no adapt` is a tenth of a point above it.
EMBEDDED: dict = {"iterations": 3, "confident": 32, "lr": 1e-5, "lr_projection": 1e-5}
AVIARY: dict = {"iterations": 2, "confident": 8, "lr": 1e-5, "lr_projection": 1e-5, "pair_share": 0.5}


RELEASED: dict = {"optimizer": "released", "learns": "released_subset"}


OF_OPENAI = {*OPENAI, *(f"{name} openai" for name in (*OPENAI, *OPENAI.values()))}


def settings_for(backbone: str, dataset: str = "digits", **changes) -> Settings:
    """The settings of an encoder on a dataset; `changes` replace single values. backbone: as `gta.encoders.load` takes it, with a tag of
    pretrained weights after a space, if one is given."""
    own = (AVIARY if dataset.partition(":")[0] == "aviary" else EMBEDDED) if backbone == "embedded" else {}
    own = RELEASED if backbone in OF_OPENAI else own
    return Settings(**{**own, **changes})
