"""Loading Hugging Face models and tokenizers, from a folder or a hub id, with errors of one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from steelyard.policies.lora import LoRA
from steelyard.types import SteelyardError


def read_config(path_or_id: str | Path) -> Any:
    """The config of a model folder or hub id.

    Raises:
        SteelyardError: if the folder is missing or is no model folder, or the hub does not give it.
    """
    path = Path(path_or_id)
    if path.exists() and not (path / "config.json").is_file():
        raise SteelyardError(
            f"{path} is no model folder: it holds no config.json; give a folder written by save_pretrained"
        )
    if not path.exists() and (path.is_absolute() or str(path_or_id).startswith((".", "~")) or len(path.parts) > 2):
        raise SteelyardError(
            f"there is no folder {path}; give a folder written by save_pretrained, or a hub id (owner/name)"
        )
    try:
        return AutoConfig.from_pretrained(str(path_or_id))
    except (OSError, ValueError) as error:
        raise SteelyardError(f"the model {str(path_or_id)!r} could not be loaded: {_first_line(error)}") from error


def architecture(config: Any, path_or_id: str | Path, classes: Sequence[str]) -> str:
    """The name of the model class of a config, which must be one of `classes`.

    Raises:
        SteelyardError: naming the class and those that would do.
    """
    name = next(iter(getattr(config, "architectures", None) or ["none"]))
    if name not in classes:
        raise SteelyardError(
            f"{path_or_id} holds the architecture {name}, which does not fit; it must be one of {', '.join(classes)}"
        )
    return name


def load_tokenizer(path_or_id: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer as it was saved.

    One saved under a generic class is its `tokenizer.json` and nothing else; `AutoTokenizer` would read it with the
    class of the model's family, which splits texts by other rules.
    """
    saved = get_tokenizer_config(str(path_or_id)).get("tokenizer_class")
    generic = saved in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return (PreTrainedTokenizerFast if generic else AutoTokenizer).from_pretrained(str(path_or_id))


def load_parts(
    path_or_id: str | Path,
    *,
    classes: Sequence[str],
    dtype: str | torch.dtype,
    lora: LoRA | None,
    gradient_checkpointing: bool,
    device: str | torch.device | None,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model, on its device and ready to train, and its tokenizer; see `LanguagePolicy.from_pretrained`."""
    config = read_config(path_or_id)
    model_class = getattr(transformers, architecture(config, path_or_id, classes))
    try:
        model = model_class.from_pretrained(str(path_or_id), dtype=dtype)
        tokenizer = load_tokenizer(path_or_id)
    except (OSError, ValueError, SafetensorError) as error:
        raise SteelyardError(f"the model {str(path_or_id)!r} could not be loaded: {_first_line(error)}") from error
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    module = model if lora is None else lora.apply(model)
    module.train(gradient_checkpointing or (lora is not None and lora.dropout > 0))
    return module, tokenizer


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
