"""The ablation of the hyperparameters: one factor at a time around the default, everything else as it is.

The default is measured once a seed, in the run of T: an iteration does not know how many follow, so the z of every T is an iterate of
the longest run. The runs of the other factors leave the default out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gta.affinity import knn_graph
from gta.checkpoints import Checkpoints
from gta.names import nearest
from gta.settings import Settings
from gta.studies.parameters import RunParameters
from gta.studies.study import Study

BASELINE = ("CLIP+attributes", "")  # what every row is compared with beside the default: CLIP from the same attributes
LEARNING_RATE = "learning rate"


@dataclass(frozen=True)
class Factor:
    """setting: its field of `gta.settings.Settings`; symbol: the paper's; values: around the default of the paper and of the embedded
    encoders, which is left out where it is met again; log: whether an axis of it is logarithmic."""

    setting: str
    symbol: str
    values: tuple[float, ...]
    log: bool = True


FACTORS: dict[str, Factor] = {
    "T": Factor("iterations", "iterations T", (1, 2, 3, 5, 10)),
    "k": Factor("confident", "confident images a class, k", (2, 4, 8, 16, 32)),
    "alpha": Factor("margin", "margin alpha", (0.02, 0.05, 0.2, 0.5)),
    "beta": Factor("pair_share", "share of pairs that beta keeps", (0.05, 0.5, 1.0)),
    "neighbours": Factor("neighbors", "neighbours", (1, 5, 10)),
    "lambda": Factor("lam", "weight of the prior, lambda", (0.0, 0.5, 2.0), log=False),
    LEARNING_RATE: Factor("lr", "learning rate, times the default", (0.1, 0.3, 3.0)),  # both rates by the same factor
}


class Hyperparameters(RunParameters):
    """Parameters of `notebooks/ablation_hyperparameters.ipynb`. factor: which one varies."""

    factor: str

    @property
    def values(self) -> tuple[float, ...]:
        """The values to measure. Raises ValueError for an unknown factor."""
        values = of(self.factor).values
        return values[:2] if self.smoke else values


def of(factor: str) -> Factor:
    """Raises ValueError, with the nearest name, for an unknown factor."""
    if factor not in FACTORS:
        raise ValueError(f"unknown factor {factor!r}{nearest(factor, FACTORS)}; known: {', '.join(FACTORS)}")
    return FACTORS[factor]


def default(settings: Settings, factor: str) -> float:
    """The factor's value in the settings, zero-shot; the learning rate counts in multiples of its default."""
    if factor == LEARNING_RATE:
        return 1.0
    value = getattr(settings, of(factor).setting)
    return 1.0 if value is None else value  # lambda: None is 1 without support


def variant(factor: str, value: float) -> str:
    """The row of a value: `k = 16`."""
    return f"{factor} = {value:g}"


def changes(settings: Settings, factor: str, value: float) -> dict:
    """What a value of a factor changes in the settings."""
    if factor == LEARNING_RATE:
        return {"lr": settings.lr * value, "lr_projection": settings.lr_projection * value}
    whole = type(getattr(settings, of(factor).setting)) is int
    return {of(factor).setting: int(value) if whole else value}


def of_equal_pull(features: Tensor, support_features: Tensor | None, neighbors: int) -> Tensor:
    """`gta.affinity.knn_graph`, its weights times 3 / neighbours: the solver's 1 / (2 * 3) becomes the released 1 / (2 * neighbours),
    so that more neighbours pull no harder than the three of the default."""
    return knn_graph(features, support_features, neighbors) * (Settings().neighbors / neighbors)


def hyperparameters(study: Study, factor: str, values: Sequence[float]) -> None:
    """GTA-CLIP with each value of a factor but the default, into `study.outcomes`, and CLIP from the same attributes to compare with;
    with T also the default, as the row without a variant."""
    if factor == "T":
        return _iterates(study, [int(value) for value in values])
    affinity = of_equal_pull if factor == "neighbours" else knn_graph
    others = [value for value in values if value != default(study.settings, factor)]
    for value in others:
        result = study.run(study.static, study.llm, changes=changes(study.settings, factor, value), affinity=affinity)
        study.outcomes[BASELINE] = (result.clip, result.history[0]["seconds_encode"], BASELINE)
        study.add("GTA-CLIP", variant(factor, value), result, BASELINE)


def _iterates(study: Study, values: Sequence[int]) -> None:
    """Every T as an iterate of one run. Raises ValueError without a folder for its checkpoints, which keep them."""
    if study.checkpoints is None:
        raise ValueError("T: the iterates are read from checkpoints; open the study with a folder for them")
    last = max(*values, study.settings.iterations)
    kept = Checkpoints(study.checkpoints, trail=True)
    result = study.run(study.static, study.llm, changes={"iterations": last}, checkpoints=kept)
    study.outcomes[BASELINE] = (result.clip, result.history[0]["seconds_encode"], BASELINE)
    seconds = 0.0
    for t, (state, step) in enumerate(zip(result.trail, result.history, strict=True), start=1):
        seconds += sum(value for name, value in step.items() if name.startswith("seconds_"))
        if t == study.settings.iterations:
            study.outcomes["GTA-CLIP", ""] = (state.z, seconds, BASELINE)
        elif t in values:
            study.outcomes["GTA-CLIP", variant("T", t)] = (state.z, seconds, BASELINE)
