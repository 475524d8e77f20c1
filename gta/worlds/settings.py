"""The settings of the embedded encoders. They are not the paper's: tiny encoders need larger learning rates and fewer iterations."""

from gta.settings import Settings

# The best cells that adapt by the rule of `python -m gta.workshop.choose`, on synthetic handwriting and on worlds of other birds. For the
# digits that cell is above `no adapt`; for the aviary `no adapt` is a tenth of a point above it.
EMBEDDED: dict = {"iterations": 3, "confident": 32, "lr": 1e-5, "lr_projection": 1e-5}
AVIARY: dict = {"iterations": 2, "confident": 8, "lr": 1e-5, "lr_projection": 1e-5, "pair_share": 0.5}


def settings_for(backbone: str, dataset: str = "digits", **changes) -> Settings:
    """The paper's settings, or for the embedded encoders of a dataset their own settings; `changes` replace single values."""
    embedded = AVIARY if dataset.partition(":")[0] == "aviary" else EMBEDDED
    return Settings(**{**(embedded if backbone == "embedded" else {}), **changes})
