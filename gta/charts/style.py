"""The style of all figures. Its colours are safe for colour-blind readers, and equal numbers give equal bytes."""

from pathlib import Path

import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

PALETTE = sns.color_palette("colorblind")
plt.rcdefaults()  # a user's own matplotlibrc has no say
plt.style.use(Path(__file__).with_name("style.mplstyle"))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Save a figure as PNG and SVG. They contain no date, so that equal figures are equal files."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / f"{name}.png", metadata={"Software": None})
    figure.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None})
