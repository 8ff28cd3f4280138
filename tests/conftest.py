"""Fixtures that any test may use."""

import os

# Before anything imports huggingface_hub: no test reaches the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Before anything imports torch, here or in a process of a test: a worker has one core, and threads
# that wait for each other on a core that is another worker's wait long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch

# Tiny models gain nothing from threads and lose much on a busy machine.
torch.set_num_threads(1)

_REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The paper's splits, datasets and runs, which lie beside the repository and not in it."""
    if not _REFERENCE.is_dir():
        reason = f"no reference data at {_REFERENCE}"
        if os.environ.get("REFUSALSCOPE_REQUIRE_REFERENCE") == "1":
            pytest.fail(f"{reason}, and REFUSALSCOPE_REQUIRE_REFERENCE=1 asks for it")
        pytest.skip(reason)
    return _REFERENCE
