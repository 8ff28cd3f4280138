"""Grow organisms for the panel of `weights scan`, build the panel, and measure recall on its edits.

    python scripts/scan_panel.py train FOLDER       # forty organisms, a share of the usual steps
    python scripts/scan_panel.py panel FOLDER [CHECKPOINT...]   # writes the package's panel anew
    python scripts/scan_panel.py recall FOLDER      # edits of the held-out ones, as a table

`train` can be cut and goes on; several may run with other `--part` at a time. Edits are made by
`tests/plain_edits.py`.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean

import torch
import transformers

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import resid_pre_moments
from refusalscope.metrics.intervals import rate_of
from refusalscope.models.chat_model import load_chat_model
from refusalscope.organisms.fit import Fit
from refusalscope.organisms.named import DEFAULT_ORGANISM
from refusalscope.organisms.organism import bundled_organism, read_organism
from refusalscope.organisms.train import Recipe, is_trained, train_organism
from refusalscope.pipeline.weights import model_folder
from refusalscope.results.files import write_file
from refusalscope.results.scan_records import PanelRow
from refusalscope.weights import scan_panel
from refusalscope.weights.checkpoint import open_checkpoint
from refusalscope.weights.checkpoint_plan import examine_checkpoint
from refusalscope.weights.scan import panel_row
from refusalscope.weights.scan_grams import ScanPlan, plan_scan
from refusalscope.weights.scan_measure import lone_biases, measure_spectra
from refusalscope.weights.scan_panel import half_of, panel_of, shipped_panel
from refusalscope.weights.scan_rounding import rounding_of_plan
from refusalscope.weights.scan_verdict import Judgement, judge

ROOT = Path(__file__).resolve().parents[1]
PANEL = ROOT / "src" / "refusalscope" / "weights" / scan_panel.SHIPPED
FAMILIES = ("llama3", "qwen2", "gemma", "yi", "llama2")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STRENGTHS = (1.0, 0.9, 0.7, 0.5, 0.3)
COARSE = ("layers-only", "row-norm", "column-norm")
"""Kinds that are tried at the first two strengths."""
ONCE = ("two", "reflected", "injected", "mlp-only", "per-layer-row-norm")
"""Kinds that are tried at strength 1 alone."""


def main() -> None:
    """Train, build or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "panel", "recall"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkpoints", nargs="*")
    parser.add_argument("--share", type=float, default=0.03, help="Of the recipe's steps.")
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="Of the held-out organisms.")
    parser.add_argument("--n", type=int, help="Organisms whose edits are tried; all if not given.")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="bfloat16")
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    if given.what == "train":
        train(given.folder, given.share, list(recipes())[given.part :: given.parts])
    elif given.what == "panel":
        build(given.folder, given.checkpoints)
    else:
        recall(given.folder, first=given.first, n=given.n, dtype=given.dtype)


def recipes() -> Iterator[Recipe]:
    """Forty, no two of them with the same seed and family."""
    for number, family, alignment in product(range(4), FAMILIES, ("aft", "apo")):
        seed = 100 + 2 * number + (alignment == "apo")
        yield Recipe(family=family, alignment=alignment, seed=seed)


def train(folder: Path, share: float, wanted: list[Recipe]) -> None:
    """Grow organisms with a share of the recipe's steps."""

    def shorter(fit: Fit) -> Fit:
        return replace(fit, steps=round(share * fit.steps))

    for recipe in wanted:
        tuning = recipe.tuning
        light = tuning.preference
        tuning = replace(
            tuning,
            refusal=shorter(tuning.refusal),
            steadying=shorter(tuning.steadying),
            preference=light and replace(light, steps=max(2, round(share * light.steps))),
        )
        short = replace(recipe, helpful=shorter(recipe.helpful), **{recipe.alignment: tuning})
        out = folder / f"{recipe.name}-{recipe.seed}"
        if not is_trained(short, out):
            started = time.monotonic()
            train_organism(short, out)
            print(f"{out.name}: {time.monotonic() - started:.0f} s", flush=True)


def build(folder: Path, checkpoints: list[str]) -> None:
    """The package's panel: every organism of the folder, the bundled one, and what else is named.

    What was measured of a checkpoint is kept in the folder, as NAME.row.json.
    """
    organisms = [path for path in folder.iterdir() if (path / "organism.json").is_file()]
    named = {path.name: path for path in (*organisms, *map(Path, checkpoints))}
    named[f"{DEFAULT_ORGANISM}-bundled"] = bundled_organism()
    rows: list[PanelRow] = []
    for name, path in sorted(named.items()):
        kind = "organism" if (path / "organism.json").is_file() else "model"
        position = sum(row.kind == kind for row in rows)
        kept = folder / f"{name}.row.json"
        if not kept.exists():
            source = replace(model_folder(str(path)), name=name)
            write_file(kept, panel_row(source, kind=kind, position=position).to_json())
        row = PanelRow.from_json(kept.read_text(encoding="utf-8"), source=str(kept))
        rows.append(row.model_copy(update={"half": half_of(position)}))
    n_organisms = sum(row.kind == "organism" for row in rows)
    others = ", ".join(row.name for row in rows if row.kind == "model") or "no other model"
    panel = panel_of(f"{n_organisms} organisms; {others}", rows)
    write_file(PANEL, panel.to_json())
    for name, limit in panel.thresholds.items():
        print(name, limit)
    print("called anything:", panel.false_positives)
    print("called edited:", panel.false_edits)


def recall(folder: Path, *, first: int, n: int | None, dtype: str) -> None:
    """A table of kinds, strengths and directions: found, called suspicious, dose."""
    sys.path.insert(0, str(ROOT / "tests"))
    from plain_edits import KINDS, direction_of, plain_edit  # noqa: PLC0415 - of the tests

    panel = shipped_panel()
    rows = sorted((row for row in panel.rows if row.kind == "organism"), key=lambda r: r.name)
    held_out = [row.name for i, row in enumerate(rows) if half_of(i) == "held out"]
    held_out = held_out[first : None if n is None else first + n]
    cases = [
        (kind, strength, own)
        for kind in KINDS
        for strength in STRENGTHS[: 1 if kind in ONCE else 2 if kind in COARSE else None]
        for own in (False, True)
    ]
    found: dict[tuple[str, float, bool], list[Judgement]] = {case: [] for case in cases}
    scratch = folder / f".edited-{dtype}-{first}"
    for name in held_out:
        source = folder / name if (folder / name).exists() else bundled_organism()
        plan = plan_scan(examine_checkpoint(model_folder(str(source))))
        own_direction = refusal_of(source)
        for kind, strength, own in cases:
            direction = own_direction if own else direction_of(name, plan.width)
            plain_edit(
                source,
                scratch,
                kind,
                strength=strength,
                dtype=DTYPES[dtype],
                direction=direction,
            )
            found[kind, strength, own].append(judged(plan, scratch))
            for path in scratch.iterdir():
                path.unlink()
            scratch.rmdir()
        print(name, "done", file=sys.stderr, flush=True)
    print(f"{len(held_out)} held-out organisms, {dtype}")
    print("| kind | strength | direction | called edited | or suspicious | dose error |")
    print("|---|---|---|---|---|---|")
    for (kind, strength, own), judgements in found.items():
        edited = [j.verdict.startswith("edited") for j in judgements]
        seen = [j.verdict != "nothing found" for j in judgements]
        doses = [1.0 - j.energy**0.5 for j in judgements if j.energy is not None]
        error = f"{mean(abs(dose - strength) for dose in doses):.3f}" if doses else "no dose"
        shares = [rate_of(flags) for flags in (edited, seen)]
        cells = [f"{s.rate:.2f} ({s.low:.2f} to {s.high:.2f})" for s in shares]
        whose = "difference in means" if own else "random"
        print(f"| {kind} | {strength:g} | {whose} | {cells[0]} | {cells[1]} | {error} |")


def judged(plan: ScanPlan, edited: Path) -> Judgement:
    """The verdict on an edited copy of a checkpoint whose anatomy is known."""
    own = replace(plan, checkpoint=open_checkpoint(edited))
    return judge(
        measure_spectra(own),
        shipped_panel(),
        rounding=rounding_of_plan(own),
        lone=lone_biases(own),
    )


def refusal_of(folder: Path) -> torch.Tensor:
    """Difference in means of an organism at the last token, in the middle of the model."""
    facts = read_organism(folder)
    assert facts is not None
    chat, language = load_chat_model(str(folder)), facts.language()
    means = []
    for harmful in (True, False):
        asked = language.instructions("train", harmful=harmful, n=32, seed=0)
        encoded = chat.encode([one.instruction for one in asked])
        means.append(resid_pre_moments(chat, encoded).means)
    return difference_in_means(harmful=means[0], harmless=means[1])[-1, 6].double()


if __name__ == "__main__":
    main()
