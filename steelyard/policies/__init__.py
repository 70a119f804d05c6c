"""Policies: what acts. Torch and transformers are loaded when one of the names is first used."""

from importlib import import_module
from typing import Any

_PLACES = {
    "LanguagePolicy": "language",
    "LoRA": "lora",
    "PatchConfig": "patches",
    "Sampling": "sampling",
    "VisionLanguagePolicy": "vision",
    "load_policy": "vision",
}

__all__ = ["LanguagePolicy", "LoRA", "PatchConfig", "Sampling", "VisionLanguagePolicy", "load_policy"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
