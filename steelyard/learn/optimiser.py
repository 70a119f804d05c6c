"""AdamW or gradient descent over a module's trainable parameters, with float32 masters of half-precision weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from steelyard.learn.config import OptimiserKind
from steelyard.types import SteelyardError


class Optimiser:
    """AdamW (Loshchilov and Hutter, 2019), or gradient descent, in float32 whatever the weights are kept in.

    A bfloat16 weight of size 1 cannot move by less than 0.4%, so the small steps of reinforcement learning would be
    lost; the master copy gathers them, and so do the gradients of the micro-batches.

    Args:
        module: its parameters with `requires_grad` are trained.
        betas, weight_decay: of AdamW.
        kind: `adamw`, or `sgd` for θ ← θ − lr·g without momentum or decay (tabular policies, whose papers mean it).

    Raises:
        SteelyardError: if nothing in the module can be trained.
    """

    def __init__(
        self, module: nn.Module, *, betas: tuple[float, float], weight_decay: float, kind: OptimiserKind = "adamw"
    ) -> None:
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise SteelyardError("the policy's module has no trainable parameter; set requires_grad or add an adapter")
        for parameter in self.parameters.values():
            parameter.grad = None  # what an earlier training left behind is none of this run's
        self.masters = {name: _master(p) for name, p in self.parameters.items()}
        fused = all(m.device.type in ("cpu", "cuda") for m in self.masters.values())
        self._rule: torch.optim.Optimizer
        if kind == "sgd":
            self._rule = torch.optim.SGD(self.masters.values(), lr=0.0, fused=fused)
        else:
            self._rule = torch.optim.AdamW(
                self.masters.values(), lr=0.0, betas=betas, weight_decay=weight_decay, fused=fused
            )

    def collect(self) -> None:
        """Add the half-precision gradients of one micro-batch to the masters' and free them."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master is not parameter and parameter.grad is not None:
                gradient = parameter.grad.float()
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                parameter.grad = None

    def reached(self) -> list[bool]:
        """Which parameters the micro-batches so far gave a gradient."""
        return [master.grad is not None for master in self.masters.values()]

    def gradients(self, reached: Sequence[Sequence[bool]]) -> list[Tensor]:
        """The gradients of all parameters that any process reached; zeros where this one did not.

        Args:
            reached: what `reached` said in every process.
        """
        found = []
        for master, *flags in zip(self.masters.values(), *reached, strict=True):
            if any(flags):
                master.grad = torch.zeros_like(master) if master.grad is None else master.grad
                found.append(master.grad)
        return found

    def step(self, *, rate: float, clip: float) -> float:
        """Clip, move the weights and forget the gradients.

        Returns:
            The gradient's norm before clipping; where it is not finite the weights stay as they are.
        """
        norm = float(nn.utils.clip_grad_norm_(list(self.masters.values()), clip))
        if math.isfinite(norm):
            self._rule.param_groups[0]["lr"] = rate
            self._rule.step()
            self._write_back()
        self._rule.zero_grad(set_to_none=True)
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """All state: `<moment>.<parameter>`, and `master.<parameter>` where there is a copy."""
        state = {
            f"{key}.{name}": torch.as_tensor(value)
            for name, master in self.masters.items()
            for key, value in self._rule.state.get(master, {}).items()
            if value is not None
        }
        copies = {f"master.{name}": m.detach() for name, m in self.masters.items() if m is not self.parameters[name]}
        return state | copies

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where `tensors` was taken; load the module's parameters first."""
        for name, master in self.masters.items():
            found = {key.partition(".")[0]: t for key, t in tensors.items() if key.partition(".")[2] == name}
            source = found.pop("master", self.parameters[name].detach())
            with torch.no_grad():
                master.copy_(source)
            if found:
                # Cloned, because the loaded tensors may be views of a file that is mapped into memory.
                self._rule.state[master] = {key: t.to(master.device, copy=True) for key, t in found.items()}

    def _write_back(self) -> None:
        with torch.no_grad():
            for name, master in self.masters.items():
                if master is not self.parameters[name]:
                    self.parameters[name].copy_(master)


def _master(parameter: nn.Parameter) -> Tensor:
    """The parameter itself in float32 and float64, else a float32 copy."""
    if parameter.dtype in (torch.float32, torch.float64):
        return parameter
    return parameter.detach().float().requires_grad_()
