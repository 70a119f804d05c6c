"""Low-rank adapters through peft: a large policy trains a few matrices; with them off it is its own reference."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from steelyard.types import SteelyardError


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation: W + (alpha / rank) B A, with B = 0 at the start (Hu et al., arXiv 2106.09685).

    Attributes:
        rank: of A and B.
        alpha: scale.
        targets: names of the linear layers that get an adapter; "all-linear" takes all but the head.
        dropout: on the adapter's input; keep 0 for exact importance ratios.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] | str = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    dropout: float = 0.0

    def apply(self, model: Any) -> Any:
        """The model with a fresh adapter as its only trainable weights.

        Raises:
            SteelyardError: if peft is missing, or no layer of the model is named in `targets`.
        """
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise SteelyardError("LoRA needs peft; install it with `pip install 'steelyard[train]'`") from None
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=targets,
            lora_dropout=self.dropout,
            task_type="CAUSAL_LM" if hasattr(model, "prepare_inputs_for_generation") else None,
        )
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise SteelyardError(
                f"LoRA found none of its targets {targets} in {type(model).__name__}: {error}"
            ) from error


def base_model(module: Any) -> Any:
    """The Hugging Face model inside `module`; adapters, if any, stay in its layers."""
    return module.get_base_model() if hasattr(module, "peft_config") else module


def adapter_off(module: Any) -> AbstractContextManager[Any]:
    """While it lasts, the module answers as its base would."""
    return module.disable_adapter() if hasattr(module, "peft_config") else nullcontext()


def adapter_untouched(module: Any) -> bool:
    """Whether the module has an adapter that still changes nothing (all B matrices are zero)."""
    if not hasattr(module, "peft_config"):
        return False
    outer = [weight for name, weight in module.named_parameters() if "lora_B" in name or "lora_embedding_B" in name]
    return bool(outer) and not any(bool(torch.any(weight != 0)) for weight in outer)
