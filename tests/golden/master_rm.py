"""Golden adapter of sheet 47, Master-RM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from steelyard.audits.agreement import cohen_kappa
from steelyard.audits.master_keys import fpr_table
from steelyard.rewards.judges.guards import first_sentence, is_content_free
from steelyard.rewards.judges.parsing import yes_or_no


def master_rm(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Verdicts, the table of false positives, agreement, truncation, or the guard."""
    if "outputs" in inputs:
        return {"reward": [yes_or_no(text) for text in inputs["outputs"]]}
    if "fpr_datasets_by_keys" in inputs:
        table = fpr_table(inputs["fpr_datasets_by_keys"])
        means = {"per_key": table.per_key.tolist(), "per_dataset": table.per_dataset.tolist()}
        return means | {"average": table.mean, "worst": table.worst}
    if "judge" in inputs:
        found = cohen_kappa(np.asarray(inputs["judge"]), np.asarray(inputs["gold"]))
        return {"agreement": found.agreement, "kappa": "nan" if math.isnan(found.kappa) else found.kappa}
    if "response" in inputs:
        return {"truncated": first_sentence(inputs["response"])}
    return {"content_free": [is_content_free(text) for text in inputs["responses"]]}
