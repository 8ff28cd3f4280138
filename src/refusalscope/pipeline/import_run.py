"""A run of the paper's own code, chosen from anew and laid down as records."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from refusalscope.data.paper_run import PaperRun, read_paper_run
from refusalscope.errors import InputError
from refusalscope.metrics.intervals import rate_of
from refusalscope.pipeline.summary import chosen_direction
from refusalscope.results.files import new_folder, write_file
from refusalscope.results.record import Record
from refusalscope.results.records import (
    CandidateScores,
    Rate,
    Selection,
    SelectionLimits,
    Summary,
)
from refusalscope.results.run_records import SCORES, SUMMARY
from refusalscope.selection.recorded import RecordedScorer
from refusalscope.selection.search import search
from refusalscope.selection.select import select_candidate
from refusalscope.selection.select_direction import select_recorded

IMPORT = "import.json"
CODE_LIMITS = SelectionLimits(rule="code")


class ImportFacts(Record):
    """import.json: where the run came from, and whether our choice is its choice."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    source: str
    stored_choice: tuple[int, int] | None
    recomputed_choice: tuple[int, int]
    same_choice: bool | None
    """None where the copy does not say what was chosen."""
    sweeps: float
    """Validation sweeps that the lazy search would have run, in whole passes."""
    full_sweeps: int
    absent: tuple[str, ...]


def import_paper_run(folder: Path, out: Path) -> Summary:
    """Read `folder`, choose from its scores by the limits of its code, write records to `out`.

    Raises:
        InputError: not a run of the paper's code, or one without scores.
        OutputError: `out` exists already.
        SelectionError: no candidate passes.
    """
    run = read_paper_run(folder)
    if run.scores is None or run.n_layers is None:
        raise InputError(f"{folder} has no candidate scores; nothing can be chosen from it")
    selection = _select(run.scores, run.n_layers)
    chosen = (selection.chosen.position, selection.chosen.layer)
    facts = ImportFacts(
        source=str(folder),
        stored_choice=run.chosen,
        recomputed_choice=chosen,
        same_choice=None if run.chosen is None else run.chosen == chosen,
        sweeps=selection.sweeps or 0.0,
        full_sweeps=selection.full_sweeps or 0,
        absent=_absent(run),
    )
    summary = _summary(run, folder, selection, facts)
    with new_folder(out) as scratch:
        write_file(scratch / SCORES, selection.to_json())
        write_file(scratch / IMPORT, facts.to_json())
        write_file(scratch / SUMMARY, summary.to_json())
    return summary


def _select(scores: tuple[CandidateScores, ...], n_layers: int) -> Selection:
    """Choose twice, from all scores and lazily; both must agree."""
    scorer = RecordedScorer(scores, n_layers=n_layers)
    candidates = [(s.position, s.layer) for s in scores]
    lazy = search(candidates, scorer, n_layers=n_layers, limits=CODE_LIMITS)
    chosen = select_candidate(lazy, n_layers=n_layers, limits=CODE_LIMITS)
    full = select_recorded(scores, n_layers=n_layers, limits=CODE_LIMITS)
    if (chosen.position, chosen.layer) != (full.position, full.layer):
        raise AssertionError(f"lazy search chose {chosen}, the full grid {full}")
    return Selection(
        limits=CODE_LIMITS,
        n_layers=n_layers,
        baseline_harmful=None,
        baseline_harmless=None,
        n_harmful=None,
        n_harmless=None,
        all_scores=True,
        sweeps=scorer.sweeps,
        full_sweeps=3 * len(candidates),
        candidates=tuple(
            s.model_copy(update={"rejected": row.rejected})
            for s, row in zip(scores, lazy, strict=True)
        ),
        chosen=full,
    )


def _absent(run: PaperRun) -> tuple[str, ...]:
    parts = {
        "candidate directions": run.mean_differences,
        "direction": run.direction,
        "completions": run.completions,
        "losses": run.losses,
        "chosen direction": run.chosen,
    }
    return tuple(name for name, value in parts.items() if value is None)


def _summary(run: PaperRun, folder: Path, selection: Selection, facts: ImportFacts) -> Summary:
    warnings = [f"the copy of the run has no {part}" for part in facts.absent]
    if facts.same_choice is False:
        warnings.append(
            f"the run's code chose {facts.stored_choice}, its scores give {facts.recomputed_choice}"
        )
    refusal: dict[str, dict[str, Rate]] = {}
    safety: dict[str, dict[str, Rate]] = {}
    for completions in run.completions or ():
        for table, flags in (
            (refusal, [row.is_refusal for row in completions.rows]),
            (safety, [row.is_safe for row in completions.rows]),
        ):
            known = [flag for flag in flags if flag is not None]
            if known:
                rates = table.setdefault(completions.dataset, {})
                rates[completions.condition] = rate_of(known)
    loss: dict[str, dict[str, float]] = {}
    for row in run.losses or ():
        loss.setdefault(row.dataset, {})[row.condition] = row.loss
    return Summary(
        model={"name": run.name, "source": str(folder), "n_layers": selection.n_layers},
        direction=chosen_direction(selection),
        refusal=refusal,
        safety={**safety, **({"judge": "llamaguard2"} if safety else {})},
        loss=loss,
        warnings=tuple(warnings),
    )
