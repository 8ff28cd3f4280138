"""How long commands take to start, by `benchmarks/startup.py`, with room for other machines."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "startup.py"
WITHOUT_TORCH = """
import sys
from refusalscope.cli.main import main
sys.argv = ["refusalscope", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "transformers", "pyarrow", "scipy", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("startup", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_commands_start_as_quickly_as_what_they_import_lets_them(tmp_path: Path) -> None:
    found: dict[str, Any] = benchmark().compare(tmp_path, turns=1)
    quick = ("help", "run help", "weights compare help", "organism list")
    # Half a second where the imports take three: a ratio, since machines differ, and with room.
    assert all(found["cpu"][name] < 0.22 * found["cpu"]["imports"] for name in quick), found
    # transformers takes about twice the plain imports until it has a model class: that is not ours.
    ours = found["cpu_ratios_to_model_class"]
    assert ours["orthogonalize"] < 1.6, found
    assert ours["select"] < 1.6, found


@pytest.mark.parametrize(
    "words",
    [("organism", "list", "--json"), ("evaluate", "agreement", "run"), ("report", "run")],
    ids=" ".join,
)
def test_commands_that_need_no_model_import_no_torch(
    run_folder: Path, words: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words],
        cwd=run_folder.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
