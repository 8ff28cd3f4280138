"""How long commands take to start, beside what no command that needs a model can do without.

The measure of the latter is what imports torch and transformers and does nothing else, in the same
interpreter:

    python -c "import torch; from transformers import AutoModelForCausalLM as A; A.from_config"

Two commands that need a model and have nothing to do are timed beside it: `select` of a finished
run of the bundled organism, and `weights orthogonalize` of the organism along the run's direction.
Beside them stand commands that need none. Every command is a process of its own; all take turns,
and what is compared are medians.

    python benchmarks/startup.py [--turns 5] [--json]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASELINE = "import torch; from transformers import AutoModelForCausalLM as A; A.from_config"
_MAIN = "from refusalscope.cli.main import main; main()"
RUN = ("run", "--n-train", "16", "--n-val", "4", "--n-test", "4", "--max-kl", "100")
WITHOUT_MODEL = {
    "help": ("--help",),
    "run help": ("run", "--help"),
    "weights compare help": ("weights", "compare", "--help"),
    "organism list": ("organism", "list", "--json"),
    "evaluate agreement": ("evaluate", "agreement", "run"),
    "report compare": ("report", "compare", "run", "other", "--out", "out"),
}
WITH_MODEL = {
    "select": ("select", "run"),
    "orthogonalize": (
        *("weights", "orthogonalize", "organism:llama3-aft"),
        *("--direction", "run", "--out", "out"),
    ),
}


def main() -> None:
    """Make a run, time, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        result = compare(Path(folder), turns=arguments.turns)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")


def compare(folder: Path, *, turns: int) -> dict[str, object]:
    """Seconds of each command, and the ratio of those that need a model to the imports alone."""
    start(folder, *RUN, "--out", "run")
    shutil.copytree(folder / "run", folder / "other")
    commands = {**WITHOUT_MODEL, **WITH_MODEL}
    seconds: dict[str, list[float]] = {name: [] for name in ("imports", *commands)}
    start_baseline(folder)  # files that were not read for a while are read once before
    for _ in range(turns):
        seconds["imports"].append(start_baseline(folder))
        for name, words in commands.items():
            _remove(folder / "out")
            seconds[name].append(start(folder, *words))
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    ratios = {name: round(medians[name] / medians["imports"], 3) for name in WITH_MODEL}
    return {
        "ratio": max(ratios.values()),
        "compared": f"commands on the organism with nothing to do, with: python -c '{BASELINE}'",
        "ratios": ratios,
        "seconds_without_model": {name: round(medians[name], 3) for name in WITHOUT_MODEL},
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "spread": {name: [round(min(v), 3), round(max(v), 3)] for name, v in seconds.items()},
        "turns": turns,
        "cores": os.cpu_count(),
    }


def start(folder: Path, *words: str) -> float:
    """Seconds that a command of refusalscope takes, from the start of its process to its end."""
    return _timed(folder, [sys.executable, "-c", _MAIN, *words])


def start_baseline(folder: Path) -> float:
    """Seconds of the imports that every command with a model needs."""
    return _timed(folder, [sys.executable, "-c", BASELINE])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _timed(folder: Path, words: list[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return seconds


if __name__ == "__main__":
    main()
