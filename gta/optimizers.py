"""The optimisers of adapt: AdamW, and the step that the released program takes with it; and what a step does to the weights.

The released program keeps linear, convolution, attention and projection weights in float16, with their gradients and AdamW's moments, and
torch 2.0.1 updates them in one unfused operation after the other. While |g| <= `GATE` the second moment is 0 there, and a step is
lr / eps times the running mean of the gradient; above it a step is about lr, which most weights in float16 cannot follow. It is another
optimiser than AdamW in float32, whose step is about lr for any gradient (`docs/reproduction.md`, "The regime of adapt").
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from open_clip.model import convert_weights_to_lp
from torch import Tensor, nn

from gta.settings import Settings

BETAS, EPS = (0.9, 0.98), 1e-6
GATE = 2**-13 * 10  # 1.2207e-3: the largest |g| whose square, times 1 - beta_2, is 0 in float16


def adamw(model: nn.Module, groups: list[dict], settings: Settings) -> torch.optim.Optimizer:
    """AdamW in the weights' own dtype."""
    return torch.optim.AdamW(groups, betas=BETAS, eps=EPS, weight_decay=settings.weight_decay, fused=True)


def released(model: nn.Module, groups: list[dict], settings: Settings, round_weights: bool = True) -> torch.optim.Optimizer:
    """The released step: float16 roundings for what `float16_names` lists, float32 for all else."""
    half = float16_names(model)
    chosen = {id(p) for name, p in model.named_parameters() if name in half}
    parts = [
        {**group, "params": [p for p in group["params"] if (id(p) in chosen) == of_half], "half": of_half}
        for group in groups
        for of_half in (True, False)
    ]
    return ReleasedAdamW([part for part in parts if part["params"]], settings.weight_decay, round_weights)


# By `Settings.optimizer`; each makes an optimiser of a model's parameter groups.
OPTIMIZERS: dict[str, Callable[[nn.Module, list[dict], Settings], torch.optim.Optimizer]] = {
    "adamw": adamw,
    "released": released,
    "released_unrounded": partial(released, round_weights=False),
}


def float16_names(model: nn.Module) -> set[str]:
    """The parameters that are float16 in the release."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta", dtype=torch.float32)) for p in model.parameters()}
    shadow = copy.deepcopy(model, empty)
    convert_weights_to_lp(shadow, torch.float16)
    return {name for name, p in shadow.named_parameters() if p.dtype == torch.float16}


class ReleasedAdamW(torch.optim.Optimizer):
    """AdamW in float32 arithmetic; in groups with `half`, each result of an operation is rounded to float16, as torch 2.0.1 rounds it.

    groups: as other optimisers take them, with `half`, bool. Weights may be float16 or float32; those of a `half` group in float32 hold
    float16 values after a step, unless `round_weights` is False, which leaves them in full and is another optimiser.
    """

    def __init__(self, groups: list[dict], weight_decay: float = 1e-4, round_weights: bool = True):
        super().__init__(groups, {"half": True, "round_weights": round_weights, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    _step(p, p.grad, self.state[p], group)


def _step(p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
    (beta1, beta2), lr, r = BETAS, group["lr"], (_rounded if group["half"] else _kept)
    of_weight = r if group["round_weights"] else _kept
    kept = torch.float16 if group["half"] else torch.float32
    g, w = r(grad.float()), of_weight(p.float() * (1 - lr * group["weight_decay"]))
    t = state["step"] = state.get("step", 0) + 1
    m, v = (state[name].float() if t > 1 else torch.zeros_like(g) for name in ("mean", "square"))
    m = r(r(m * beta1) + (1 - beta1) * g)
    v = r(r(v * beta2) + (1 - beta2) * (g * g))
    denominator = r(r(r(v.sqrt()) / (1 - beta2**t) ** 0.5) + EPS)
    p.copy_(of_weight(w - lr / (1 - beta1**t) * m / denominator))
    state["mean"], state["square"] = m.to(kept), v.to(kept)


def _rounded(x: Tensor) -> Tensor:
    return x.half().float()


def _kept(x: Tensor) -> Tensor:
    return x


class Regime:
    """Watches the steps of an optimiser, by group of tensors: which regime is a run in?"""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        learns = {id(p) for group in optimizer.param_groups for p in group["params"]}
        groups: dict[str, list[nn.Parameter]] = {}
        for name, p in model.named_parameters():
            if id(p) in learns:
                groups.setdefault(group_of(name), []).append(p)
        self._sums = {name: torch.zeros(5, dtype=torch.float64, device=ps[0].device) for name, ps in groups.items()}
        # A GPU is slow at many small tensors, so it sees those of a group as one; a CPU is slow at large copies.
        self._parts = [(name, part) for name, ps in groups.items() for part in ([ps] if ps[0].is_cuda else [[p] for p in ps])]
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    @torch.no_grad()
    def _before(self, *_) -> None:
        self._weights = [_flat(part).clone() for _, part in self._parts]
        for name, part in self._parts:
            if grads := [p.grad for p in part if p.grad is not None]:
                g = _flat(grads).abs()
                there = g > 0
                self._sums[name][:3] += torch.stack([g.sum(dtype=torch.float64), there.sum(), (there & (g <= GATE)).sum()])

    @torch.no_grad()
    def _after(self, *_) -> None:
        for (name, part), before in zip(self._parts, self._weights, strict=True):
            moved = before.sub_(_flat(part)).abs_().sum(dtype=torch.float64)
            self._sums[name][3:] += torch.stack([moved, torch.full_like(moved, before.numel())])
        self._weights = []

    @property
    def groups(self) -> dict[str, dict[str, float]]:
        """{group: mean |g| of an entry, the share of entries with g != 0 that are at or below `GATE`, mean |dw| of a step}."""
        said = {}
        for name, sums in self._sums.items():
            g, there, below, moved, entries = sums.tolist()
            said[name] = {"gradient": g / max(entries, 1), "below_gate": below / max(there, 1), "step": moved / max(entries, 1)}
        return said


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """All entries in one vector, which may be the tensor's own."""
    flat = [tensor.detach().flatten() for tensor in tensors]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def group_of(name: str) -> str:
    """The group of a parameter: its tower, and what it does there."""
    tower = "image" if name.startswith("visual.") else "text"
    own = name.removeprefix("visual.")
    if name == "logit_scale":
        return "logit scale"
    if own in ("proj", "text_projection"):
        kind = "projection"
    elif own.startswith("conv1"):
        kind = "patches"
    elif ".attn." in own and "ln_" not in own:
        kind = "attention"
    elif ".mlp." in own and "ln_" not in own:
        kind = "MLP"
    else:
        kind = "norms and embeddings"
    return f"{tower}: {kind}"
