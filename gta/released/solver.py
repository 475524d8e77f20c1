"""The released solver's deviations: a prior that is overwritten, a search for gamma that carries its state, gamma in each iteration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gta.encoders.encoder import Encoder
from gta.encoders.images import Images
from gta.labels import answer
from gta.transduct import GAMMAS, Transduction, nearest_query_judge, transduct
from gta.transduct import select_gamma as search_anew


def transduct_aliased(features: Tensor, prior: Tensor, *, rounds: int = 10, inner: int = 5, **options) -> Transduction:
    """Transduction from another method's predictions as released: yhat and z are one tensor, so z is its own prior."""
    state = transduct(features, prior, rounds=0, inner=1, **options)
    for step in range(rounds + 1):
        for _ in range(inner - (step == 0)):
            state = transduct(features, state.assignments, start=state, rounds=0, inner=1, **options)
        if step < rounds:
            state = transduct(features, state.assignments, start=state, rounds=1, inner=0, **options)
    return state


def select_gamma(
    features: Tensor,
    prior: Tensor,
    support_features: Tensor,
    support_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    *,
    gammas: Sequence[float] = GAMMAS,
    **options,
) -> tuple[float, Transduction]:
    """As `gta.transduct.select_gamma`, but each gamma goes on from the state of the one before, and the last z is returned."""
    judge = nearest_query_judge(features, val_features, val_labels, prior.shape[1])
    support = {"support_features": support_features, "support_labels": support_labels}
    states: list[Transduction] = []
    for gamma in gammas:
        states.append(transduct(features, prior, start=states[-1] if states else None, **(support | options | {"gamma": gamma})))
    right = [judge(answer(state.assignments)) for state in states]
    return gammas[right.index(max(right))], states[-1]


@dataclass(frozen=True)
class GammaInEachIteration:
    """Before each transduction, gamma is searched for again with the encoder as it is then, for `gamma=` of `gta.loop.run`.

    images, labels: the validation images and their classes (V,); search: `gta.transduct.select_gamma`, or the released one; affinity: as
    in `gta.loop.run`, by default the graph of `gta.transduct.transduct`.
    """

    images: Images
    labels: Tensor
    search: Callable[..., tuple[float, Transduction]] = search_anew
    affinity: Callable | None = None

    def __call__(self, encoder: Encoder, features: Tensor, prior: Tensor, support_features: Tensor, support_labels: Tensor) -> float:
        judged = encoder.encode_images(self.images.pixels), self.labels.to(features.device)
        graph = self.affinity(features, support_features, 3) if self.affinity else None
        gamma, _ = self.search(features, prior, support_features, support_labels, *judged, affinity=graph)
        return gamma

    def __repr__(self) -> str:
        return f"gamma in each iteration, {self.search.__module__}, by {self.images.sha256}"
