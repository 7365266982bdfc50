"""The optimiser: Muon for the matrices of the LSTMs, AdamW for everything else."""

import torch
from torch import nn

# the first three steps of the optimal odd quintics for singular values from 1e-3 to 1 (Amsel et al. 2025)
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)
MUON_MOMENTUM = 0.95


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """
    Replaces each matrix U S Vᵀ of a batch (N, rows, columns) by roughly U Vᵀ.

    Three steps of the Polar Express iteration (Amsel et al. 2025, "The Polar Express", section 3), which bring
    singular values above a hundredth of the matrix's norm to between about 0.7 and 1.9: even enough for Muon.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    # the margin keeps the largest singular value inside the interval despite rounding
    x = x / (1.01 * x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.transpose(1, 2)
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.transpose(1, 2) if tall else x


class MuonAdamW(torch.optim.Optimizer):
    r"""
    Muon on the parameter groups with `muon=True`, AdamW (Loshchilov & Hutter 2019) on the others.

    The weight of an LSTM stacks the matrices of its four gates; each gate is orthogonalised on its own. A step of a
    gate has the spectral norm lr · max(1, rows / columns)^½.

    Args:
        groups: dicts with `params`, `lr`, `weight_decay` and `muon`; AdamW groups also have `betas`.
    """

    def __init__(self, groups: list[dict], eps: float = 1e-8):
        super().__init__(groups, {"eps": eps, "betas": (0.9, 0.99), "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, self.state[parameter], group)
        return loss

    def _muon(self, parameter, state, group):
        momentum = state.setdefault("momentum", torch.zeros_like(parameter))
        momentum.lerp_(parameter.grad, 1 - MUON_MOMENTUM)
        gates = parameter.grad.lerp(momentum, MUON_MOMENTUM).unflatten(0, (4, -1))  # Nesterov
        scale = max(1, gates.shape[1] / gates.shape[2]) ** 0.5
        parameter.add_(orthogonalise(gates).flatten(0, 1), alpha=-group["lr"] * scale)

    def _adamw(self, parameter, state, group):
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        beta1, beta2 = group["betas"]
        state["step"] += 1
        step = state["step"].item()
        state["mean"].lerp_(parameter.grad, 1 - beta1)
        state["square"].lerp_(parameter.grad.square(), 1 - beta2)
        denominator = (state["square"] / (1 - beta2**step)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(state["mean"], denominator, value=-group["lr"] / (1 - beta1**step))


def build_optimizer(
    model: nn.Module,
    name: str = "muon",
    learning_rate: float = 1e-2,
    muon_learning_rate: float = 0.03,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.99),
) -> torch.optim.Optimizer:
    """`"muon"`: `MuonAdamW`; `"adamw"`: AdamW alone. Only matrices decay, embeddings excepted."""
    lstm = [p for m in model.modules() if isinstance(m, nn.LSTM) for p in m.parameters() if p.dim() == 2]
    linear = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    chosen = {id(p) for p in lstm + linear}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    adamw = {"lr": learning_rate, "betas": betas, "muon": False}
    groups = [
        {**adamw, "params": linear, "weight_decay": weight_decay},
        {**adamw, "params": rest, "weight_decay": 0.0},
    ]
    if name == "muon":
        groups.append({"params": lstm, "lr": muon_learning_rate, "weight_decay": weight_decay, "muon": True})
    else:
        groups.append({**adamw, "params": lstm, "weight_decay": weight_decay})
    return MuonAdamW(groups)
