from pathlib import Path

import pytest

from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run


@pytest.fixture(scope="session")
def organism_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the bundled organism on few instructions; tests that write work on copies."""
    out = tmp_path_factory.mktemp("organism") / "run"
    run(RunOptions(n_train=32, n_val=8, n_test=8, random_suffix=0), out)
    return out
