"""Slug to adapter: (case name, inputs) to a dict with the keys of the case's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.golden.ace_rl import ace_rl
from tests.golden.bleuberi import bleuberi_case
from tests.golden.brme import brme
from tests.golden.carr import carr
from tests.golden.contrast_instructions import contrast_instructions
from tests.golden.copo import copo
from tests.golden.cream import cream
from tests.golden.firm import firm
from tests.golden.flow import densegrpo, flow_grpo, rlcm
from tests.golden.g_ra import g_ra
from tests.golden.master_rm import master_rm
from tests.golden.paco_rl import paco_rl
from tests.golden.policy_cliff import policy_cliff
from tests.golden.rlpr import rlpr
from tests.golden.rova import rova
from tests.golden.rpo import rpo_case
from tests.golden.sarm import sarm
from tests.golden.slate import slate
from tests.golden.toolrl import toolrl
from tests.golden.unlikeliness import unlikeliness
from tests.golden.urlvr import urlvr
from tests.golden.verpo import verpo

Adapter = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]

ADAPTERS: dict[str, Adapter] = {
    "ace-rl": ace_rl,
    "RLPR": rlpr,
    "Unlikeliness reward (rank-penalised GRPO)": unlikeliness,
    "firm": firm,
    "flow-grpo": flow_grpo,
    "densegrpo": densegrpo,
    "rlcm": rlcm,
    "copo": copo,
    "carr": carr,
    "brme": brme,
    "contrast-instructions": contrast_instructions,
    "cream": cream,
    "g-ra": g_ra,
    "master-rm": master_rm,
    "paco-rl": paco_rl,
    "policy-cliff": policy_cliff,
    "rova": rova,
    "rpo": rpo_case,
    "sarm": sarm,
    "VeRPO": verpo,
    "BLEUBERI": bleuberi_case,
    "slate": slate,
    "toolrl": toolrl,
    "urlvr": urlvr,
}
