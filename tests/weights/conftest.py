"""The bundled organism and a run on it up to its direction."""

from pathlib import Path

import pytest

from refusalscope.directions.direction import Direction, load_direction
from refusalscope.organisms.organism import bundled_organism
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run


@pytest.fixture(scope="session")
def organism() -> Path:
    return bundled_organism()


@pytest.fixture(scope="session")
def organism_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("organism") / "run"
    run(RunOptions(n_train=24, n_val=12, n_test=12), out, until="select")
    return out


@pytest.fixture(scope="session")
def refusal(organism_run: Path) -> Direction:
    """The organism's refusal direction."""
    return load_direction(organism_run)
