"""The style of every figure: colour-blind safe, and the same bytes for the same numbers."""

from pathlib import Path

import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

PALETTE = sns.color_palette("colorblind")
plt.style.use(Path(__file__).with_name("style.mplstyle"))


def save(figure: Figure, folder: Path, name: str) -> None:
    """As PNG and as SVG without a date, so that the same figure is the same file."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / f"{name}.png", metadata={"Software": None})
    figure.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None})
