"""The model card that is saved with a reward model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_card(folder: Path, config: Any, facts: Mapping[str, Any]) -> Path:
    """Write `README.md`: what the model is, how it was trained, how well it does, how to use it.

    Args:
        folder: of the model. config: of `transformers`. facts: name to value; each becomes a row of the table.
    """
    rows = "\n".join(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in facts.items())
    architecture = ", ".join(config.architectures or [type(config).__name__])
    text = f"""---
library_name: transformers
pipeline_tag: text-classification
tags: [reward-model, steelyard]
---
# Reward model ({architecture})

Its one logit is a reward of an answer to a prompt: only differences between answers to the same prompt mean anything.
It was trained on pairs of a chosen and a rejected answer by maximum likelihood of the Bradley-Terry model.

| fact | value |
| --- | --- |
{rows}

## Use

```python
from steelyard.rewards.models.sequence import RewardModel

reward = RewardModel.from_pretrained("this folder")
```

`transformers.AutoModelForSequenceClassification` reads the same folder.

## Before you train against it

A reward model is right only near the data that it saw. Measure it first: `steelyard audit`.
"""
    path = folder / "README.md"
    path.write_text(text, "utf-8")
    return path


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
