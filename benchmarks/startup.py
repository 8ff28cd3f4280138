"""How long commands take to start, beside what no command that needs a model can do without.

The measure of the latter is what imports torch and transformers and does nothing else, in the same
interpreter:

    python -c "import torch; from transformers import AutoModelForCausalLM as A; A.from_config"

Two commands that need a model and have nothing to do are timed beside it: `select` of a finished
run of the bundled organism, and `weights orthogonalize` of the organism along the run's direction.
So is the import of a model class of transformers, `from transformers import LlamaForCausalLM`,
which the line above puts off and no loaded model can do without: what that takes is not ours to
mend. Beside them stand commands that need no model. Every command is a process of its own; all take
turns, and what is compared are medians. Seconds of processors (`cpu`) tell as much on a machine
that does other work too.

    python benchmarks/startup.py [--turns 5] [--json]
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BASELINE = "import torch; from transformers import AutoModelForCausalLM as A; A.from_config"
MODEL_CLASS = "import torch; from transformers import LlamaForCausalLM"
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
    main = [sys.executable, "-c", _MAIN]
    timed(folder, [*main, *RUN, "--out", "run"])
    shutil.copytree(folder / "run", folder / "other")
    commands = {
        "imports": [sys.executable, "-c", BASELINE],
        "model class": [sys.executable, "-c", MODEL_CLASS],
        **{name: [*main, *words] for name, words in {**WITHOUT_MODEL, **WITH_MODEL}.items()},
    }
    rows: dict[str, list[Took]] = {name: [] for name in commands}
    timed(folder, commands["model class"])  # files that were not read for a while are read before
    for _ in range(turns):
        for name, words in commands.items():
            _remove(folder / "out")
            rows[name].append(timed(folder, words))
    seconds = {name: statistics.median(one.seconds for one in own) for name, own in rows.items()}
    cpu = {name: statistics.median(one.cpu for one in own) for name, own in rows.items()}
    ratios = _ratios(seconds, "imports")
    return {
        "ratio": max(ratios[name] for name in WITH_MODEL),
        "compared": f"commands on the organism with nothing to do, with: python -c '{BASELINE}'",
        "ratios": ratios,
        "cpu_ratios": _ratios(cpu, "imports"),
        "ratios_to_model_class": _ratios(seconds, "model class"),
        "cpu_ratios_to_model_class": _ratios(cpu, "model class"),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "cpu": {name: round(value, 3) for name, value in cpu.items()},
        "spread": {
            name: [round(take(one.seconds for one in own), 3) for take in (min, max)]
            for name, own in rows.items()
        },
        "turns": turns,
        "cores": os.cpu_count(),
    }


def _ratios(seconds: dict[str, float], to: str) -> dict[str, float]:
    names = [name for name in ("model class", *WITH_MODEL) if name != to]
    return {name: round(seconds[name] / seconds[to], 3) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What a process took, from its start to its end."""

    seconds: float
    cpu: float
    """Seconds of all processors together."""


def timed(folder: Path, words: list[str]) -> Took:
    """Run a process in a folder; an error where it does not end well."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return Took(
        seconds=end - begin,
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
