"""Checkpoints edited by programs that other people wrote, and what `weights scan` says of them.

    python scripts/edits_of_others.py PROGRAM MODEL OUT --python THEIR_PYTHON [--splits FOLDER]

PROGRAM is `temaq` (temaq-abliterated, MIT) or `gabliteration` (MIT, in bfloat16 alone: on a CPU for
organisms). They are run as they are, with few prompts and few trials, in an environment of their
own (`pip install torch==2.13.0 temaq-abliterated==1.1.1 gabliteration==0.1.0`), and nothing of
theirs is imported here. MODEL is a folder, or `organism:NAME`. Prints the scan without the original
and the comparison with it, as JSON; what the program printed is in OUT/printed.txt.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from refusalscope.data.read import read_instructions
from refusalscope.organisms.organism import read_organism
from refusalscope.pipeline import weights

N_PROMPTS = 64
N_TRIALS = 6
SECONDS = 1800.0


def main() -> None:
    """Edit and scan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=tuple(PROGRAMS))
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="Of their environment.")
    parser.add_argument("--splits", type=Path, help="Of instructions, where MODEL is no organism.")
    given = parser.parse_args()
    source = weights.model_folder(given.model)
    work: Path = given.out.resolve()
    work.mkdir(parents=True)
    for harmful in (True, False):
        lines = instructions(source.folder, given.splits, harmful=harmful)
        name = "harmful" if harmful else "harmless"
        (work / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    edited = work / "edited"
    PROGRAMS[given.program](given.python.parent, str(source.folder.resolve()), work, edited)
    found = weights.scan(weights.model_folder(str(edited)), base=source)
    print(found.to_json())


def instructions(folder: Path, splits: Path | None, *, harmful: bool) -> list[str]:
    """Training instructions, one line each."""
    facts = read_organism(folder)
    if facts is not None:
        made = facts.language().instructions("train", harmful=harmful, n=N_PROMPTS, seed=0)
        return [one.instruction for one in made]
    if splits is None:
        raise SystemExit("give --splits: the model is no organism, which bring their instructions")
    file = splits / f"{'harmful' if harmful else 'harmless'}_train.json"
    given = read_instructions(file)[:N_PROMPTS]
    return [" ".join(one.text.split()) for one in given]


def temaq(programs: Path, model: str, work: Path, edited: Path) -> None:
    """Its choice among its trials; nothing of it asks where there is no terminal."""
    options = {
        "--harmful-file": work / "harmful.txt",
        "--harmless-file": work / "harmless.txt",
        "--workdir": work / "its-own",
        "--output": edited,
        "--device": "cpu",
        "--eval-dtype": "float32",
        "--trials": N_TRIALS,
        "--n-probe": 16,
        "--seed": 0,
        "--verify": "none",
        "--select": "auto",
    }
    given = [str(part) for pair in options.items() for part in pair]
    _alone([str(programs / "temaq-abliterated"), model, *given, "--no-report"], work)


def gabliteration(programs: Path, model: str, work: Path, edited: Path) -> None:
    """It asks for two data sets of the hub by name: they lie here under those names."""
    for name, column in (("harmful_behaviors", "harmful"), ("harmless_alpaca", "harmless")):
        folder = work / "mlabonne" / name
        folder.mkdir(parents=True)
        lines = (work / f"{column}.txt").read_text(encoding="utf-8").splitlines()
        rows = [json.dumps({"text": line}) + "\n" for line in lines]
        (folder / "train.jsonl").write_text("".join(rows), encoding="utf-8")
    options = {
        "--model": model,
        "--num-versions": 2,
        "--test-samples": 4,
        "--max-tokens": 8,
        "--kl-samples": 2,
        "--save-folder": edited,
    }
    given = [str(part) for pair in options.items() for part in pair]
    _alone([str(programs / "gabliterate"), *given], work)


PROGRAMS: dict[str, Callable[[Path, str, Path, Path], None]] = {
    "temaq": temaq,
    "gabliteration": gabliteration,
}


def _environment() -> dict[str, str]:
    """This one, without the hub and without this package on the path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "HF_HUB_OFFLINE": "1"}


def _alone(command: Sequence[str], work: Path) -> None:
    with (work / "printed.txt").open("wb") as printed:
        subprocess.run(
            command,
            cwd=work,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=True,
        )


if __name__ == "__main__":
    main()
