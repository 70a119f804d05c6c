"""What every test runs under: one thread, no hub, no telemetry, and the same hypothesis examples on every machine."""

import os

for name, value in {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
    "NO_COLOR": "1",
    "COLUMNS": "160",
}.items():
    os.environ.setdefault(name, value)

from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "house", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")


def pytest_sessionstart() -> None:
    """One thread for torch, where it is installed."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)
