"""The settings of the embedded encoders. They are not the paper's: tiny encoders need larger learning rates and fewer iterations."""

from gta.settings import Settings

# `python -m gta.workshop.choose` chose them: on synthetic handwriting, never on real handwriting, and on worlds of other birds.
EMBEDDED: dict = {"iterations": 5, "lr": 1e-4, "lr_projection": 1e-4}
AVIARY: dict = {"iterations": 15, "lr": 3e-5, "lr_projection": 3e-5, "pair_share": 0.5}


def settings_for(backbone: str, dataset: str = "digits", **changes) -> Settings:
    """The paper's settings, or for the embedded encoders of a dataset their own settings; `changes` replace single values."""
    embedded = AVIARY if dataset.partition(":")[0] == "aviary" else EMBEDDED
    return Settings(**{**(embedded if backbone == "embedded" else {}), **changes})
