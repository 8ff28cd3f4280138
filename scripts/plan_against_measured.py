#!/usr/bin/env python
"""Compare what `refusalscope plan` says of memory with what stages of real runs take.

    python scripts/plan_against_measured.py organism:llama3-aft
    python scripts/plan_against_measured.py MODEL --splits DIR --template paper --json

Each stage runs in a process of its own, on the CPU, which loads the model and does that stage; its
peak is the largest resident set (VmHWM), set back after loading. The plan is told the lengths of
the prompts that were run. Linux only. Ends with status 1 where a ratio is off by more than 15 %.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from refusalscope.engine.shared_prefixes import n_shared_tokens
from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.folder_lock import only_writer
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import do_stages, load

STAGES = ("extract", "select", "complete", "outcomes", "loss", "project")
TOLERANCE = 0.15
SIZES = {"n_train": 16, "n_val": 8, "n_test": 4, "max_new_tokens": 8}
PLAIN = {
    "filter_instructions": False,
    "label": "metric",
    "answer_prefix": "",
    "limits": {"rule": "published", "min_induce": -100.0, "max_kl": 1e6},
}
"""Every model has a direction and no stage depends on what it answers."""


def main() -> int:
    """Print the ratio of predicted and measured memory, a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--splits", help="folder of the paper's splits; organisms need none")
    parser.add_argument("--template", default="model", choices=("model", "paper"))
    parser.add_argument("--refusal-token", default="40")
    parser.add_argument("--layers", type=float, default=0.8, help="--max-layer-fraction of the run")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured_here(json.loads(given.child))))
        return 0
    rows = [
        row
        for model in given.models
        for row in compared(
            model,
            splits=given.splits,
            template=given.template,
            refusal_token=given.refusal_token,
            layers=given.layers,
            stages=given.stages,
        )
    ]
    if given.json:
        print(json.dumps(rows, indent=2))
    else:
        print("model, stage: predicted MB, measured MB, ratio")
        for row in rows:
            print(
                f"{row['model']}, {row['stage']}: {row['predicted'] / 1e6:.0f}, "
                f"{row['measured'] / 1e6:.0f}, {row['ratio']:.3f}"
            )
    return int(any(abs(row["ratio"] - 1) > TOLERANCE for row in rows))


def compared(
    model: str,
    *,
    splits: str | None = None,
    template: str = "model",
    refusal_token: str = "40",
    layers: float = 0.8,
    stages: tuple[str, ...] | list[str] = STAGES,
    sizes: dict | None = None,
) -> list[dict]:
    """A row for loading and for each stage: bytes predicted, bytes measured, their ratio."""
    sizes = sizes or SIZES
    options = {"model": model, "template": template, **sizes, **PLAIN}
    options["limits"] = {**PLAIN["limits"], "max_layer_fraction": layers}
    if splits is not None:
        options |= {"splits": splits, "refusal_tokens": [refusal_token]}
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        peaks: dict[str, int] = {}
        for stage in stages:
            found = _child({"options": options, "out": out, "stage": stage})
            peaks |= {stage: found["stage"], "load": max(found["load"], peaks.get("load", 0))}
    words = [model, "--max-layer-fraction", str(layers)]
    for name, value in {**sizes, **found["prompts"]}.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    plan = json.loads(
        subprocess.run(
            [sys.executable, "-m", "refusalscope", "plan", *words, "--json"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    predicted = {row["name"]: row["total"] for row in plan["stages"]}
    return [
        {
            "model": plan["model"]["name"],
            "stage": stage,
            "predicted": predicted[stage],
            "measured": peak,
            "ratio": predicted[stage] / peak,
        }
        for stage, peak in sorted(peaks.items(), key=lambda row: (row[0] != "load", row[0]))
    ]


def _child(what: dict) -> dict:
    """A stage in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(what)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
    )
    if done.returncode:
        raise SystemExit(f"{what['stage']} of {what['options']['model']}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured_here(what: dict) -> dict:
    """Load the model, do the run up to one stage, and say what both held at their peaks."""
    out = Path(what["out"])
    with only_writer(out):
        context = load(RunOptions(**what["options"]), out, progress=Silent())
        loading = _peak()
        Path("/proc/self/clear_refs").write_text("5", "ascii")
        do_stages(context, until=what["stage"])
        peak = _peak()
        by_set = {name: context.prompts(name) for name in context.sets}
    prompts = [prompt for own in by_set.values() for prompt in own]
    lengths = [len(prompt.ids) for prompt in prompts]
    val = [prompt for name, own in by_set.items() if name.endswith("_val") for prompt in own]
    return {
        "load": loading,
        "stage": peak,
        "prompts": {
            "shortest_prompt": min(lengths),
            "prompt_tokens": round(sum(lengths) / len(lengths)),
            "longest_prompt": max(lengths),
            "shared_tokens": n_shared_tokens(val),
            "positions": len(context.chat.positions),
        },
    }


def _peak() -> int:
    """The largest resident set since it was set back, in bytes."""
    status = Path("/proc/self/status").read_text("ascii")
    (line,) = (one for one in status.splitlines() if one.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    sys.exit(main())
