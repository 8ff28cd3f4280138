"""A tiny model and a small run of the bundled organism, as the library sees them."""

from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from model_hooks import n_hooks
from tiny_models import save_tiny

import refusalscope as rs
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run

ORGANISM = "organism:llama3-aft"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> rs.Model:
    """A random model of two layers; its hooks are counted after each test that uses it."""
    return rs.load(save_tiny(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture
def model(tiny: rs.Model) -> Generator[rs.Model]:
    """The tiny model, with no hook on it afterwards."""
    yield tiny
    assert n_hooks(tiny) == 0


@pytest.fixture
def direction(tiny: rs.Model) -> rs.Direction:
    """A direction of the tiny model's width, at layer 1."""
    vector = torch.randn(tiny.d_model, generator=torch.Generator().manual_seed(1))
    return rs.Direction(vector=vector, layer=1, model="tiny")


@pytest.fixture(scope="session")
def organism() -> rs.Model:
    """The bundled organism."""
    return rs.load(ORGANISM)


@pytest.fixture(scope="session")
def organism_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `runs/demo` of a run of the organism on few instructions."""
    out = tmp_path_factory.mktemp("organism") / "runs" / "demo"
    options = RunOptions(model=ORGANISM, n_train=16, n_val=8, n_test=4, random_suffix=0)
    run(options, out)
    return out
