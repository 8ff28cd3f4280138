"""A run of the paper's own code, chosen from anew and laid down as a run folder."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from refusalscope.data.paper_quirks import quirks_of
from refusalscope.data.paper_run import PaperRun, read_paper_run
from refusalscope.directions.direction import Direction, save_direction
from refusalscope.errors import InputError, SelectionError
from refusalscope.evaluation.flag_completions import flag_completions
from refusalscope.metrics.refusal_phrases import is_refusal
from refusalscope.pipeline.imported_records import (
    imported_completions,
    imported_direction,
    imported_inputs,
    imported_judgements,
    imported_losses,
    imported_model,
)
from refusalscope.pipeline.summary import summarize
from refusalscope.report.page import write_report
from refusalscope.results.files import new_folder, write_file
from refusalscope.results.import_records import IMPORT, FlagCheck, ImportFacts
from refusalscope.results.loss_records import TextLosses
from refusalscope.results.records import (
    CandidateScores,
    Completion,
    Judgements,
    Losses,
    RunManifest,
    Selection,
    SelectionLimits,
    Summary,
)
from refusalscope.results.run_records import (
    COHERENCE_FLAGS,
    COMPLETIONS,
    DIRECTION,
    DIRECTION_TENSOR,
    EVALUATION,
    MEAN_DIFFERENCES,
    RUN,
    SCORES,
    SUMMARY,
    TEXT_LOSSES,
    completions_file,
    judgements_file,
)
from refusalscope.results.versions import package_versions
from refusalscope.selection.recorded import RecordedScorer
from refusalscope.selection.search import search
from refusalscope.selection.select import select_candidate
from refusalscope.selection.select_direction import select_recorded

CODE_LIMITS = SelectionLimits(rule="code")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Imported:
    """The records that the parts of a run become."""

    run: PaperRun
    manifest: RunManifest
    selection: Selection
    completions: tuple[Completion, ...]
    judgements: tuple[Judgements, ...]
    losses: tuple[TextLosses, ...]
    facts: ImportFacts


def import_paper_run(folder: Path, out: Path) -> Summary:
    """Read `folder`, choose from its scores by the limits of its code, write a run to `out`.

    Parts that the folder lacks stay absent and are named, as is what is odd about such runs.

    Raises:
        InputError: not a run of the paper's code, or one without scores.
        OutputError: `out` exists already.
        SelectionError: no candidate passes.
    """
    run = read_paper_run(folder)
    if run.scores is None or run.n_layers is None:
        raise InputError(f"{folder} has no candidate scores; nothing can be chosen from it")
    imported = _imported(run, folder, out, scores=run.scores, n_layers=run.n_layers)
    summary = summarize(
        model=imported.manifest.model,
        selection=imported.selection,
        judgements=list(imported.judgements),
        losses=Losses(rows=tuple(row for text in imported.losses for row in text.rows)),
    )
    with new_folder(out) as scratch:
        _write(imported, scratch)
        write_file(scratch / SUMMARY, summary.to_json())
        write_report(scratch)
    return summary.model_copy(update={"warnings": (*imported.manifest.warnings, *summary.warnings)})


def _imported(
    run: PaperRun, folder: Path, out: Path, *, scores: tuple[CandidateScores, ...], n_layers: int
) -> _Imported:
    selection = _select(scores, n_layers)
    completions = tuple(imported_completions(run))
    facts = _facts(run, folder, selection, completions)
    manifest = RunManifest(
        options={},
        versions=package_versions(),
        model=imported_model(run, source=str(folder), n_layers=n_layers),
        inputs=imported_inputs(run),
        stages={},
        command=shlex.join(["refusalscope", "import-run", str(folder), "--out", str(out)]),
        warnings=_warnings(facts),
        imported_from=str(folder),
    )
    return _Imported(
        run=run,
        manifest=manifest,
        selection=selection,
        completions=completions,
        judgements=tuple(imported_judgements(run)),
        losses=tuple(imported_losses(run)),
        facts=facts,
    )


def _select(scores: tuple[CandidateScores, ...], n_layers: int) -> Selection:
    """Choose twice, from all scores and lazily; both must agree."""
    scorer = RecordedScorer(scores, n_layers=n_layers)
    candidates = [(s.position, s.layer) for s in scores]
    lazy = search(candidates, scorer, n_layers=n_layers, limits=CODE_LIMITS)
    chosen = select_candidate(lazy, n_layers=n_layers, limits=CODE_LIMITS)
    full = select_recorded(scores, n_layers=n_layers, limits=CODE_LIMITS)
    if (chosen.position, chosen.layer) != (full.position, full.layer):
        raise AssertionError(f"lazy search chose {chosen}, the full grid {full}")
    untouched = _untouched(scores)
    return Selection(
        limits=CODE_LIMITS,
        n_layers=n_layers,
        baseline_harmful=untouched.bypass if untouched else None,
        baseline_harmless=untouched.induce if untouched else None,
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


def _untouched(scores: tuple[CandidateScores, ...]) -> CandidateScores | None:
    """The zero candidate, whose scores are the baseline's.

    At layer 0 the last token of the template has one embedding in all prompts, so the difference
    of its means is zero; a KL of exactly 0 says that it was.
    """
    return next((s for s in scores if (s.position, s.layer, s.kl) == (-1, 0, 0.0)), None)


def _facts(
    run: PaperRun, folder: Path, selection: Selection, completions: tuple[Completion, ...]
) -> ImportFacts:
    chosen = (selection.chosen.position, selection.chosen.layer)
    return ImportFacts(
        source=str(folder),
        stored_choice=run.chosen,
        recomputed_choice=chosen,
        same_choice=None if run.chosen is None else run.chosen == chosen,
        published_choice=_published_choice(run, selection.n_layers),
        sweeps=selection.sweeps or 0.0,
        full_sweeps=selection.full_sweeps or 0,
        same_direction=_same_direction(run),
        flags=_check_flags(run),
        absent=_absent(run),
        n_withheld=sum(row.completion is None for row in completions),
        quirks=quirks_of(run),
    )


def _published_choice(run: PaperRun, n_layers: int) -> tuple[int, int] | None:
    try:
        row = select_recorded(run.scores or (), n_layers=n_layers, limits=SelectionLimits())
    except SelectionError:
        return None
    return row.position, row.layer


def _same_direction(run: PaperRun) -> bool | None:
    if run.direction is None or run.mean_differences is None or run.chosen is None:
        return None
    return torch.equal(run.direction, run.mean_differences[run.chosen].to(run.direction.dtype))


def _check_flags(run: PaperRun) -> FlagCheck:
    stored = [
        row for one in run.completions or () for row in one.rows if row.is_refusal is not None
    ]
    texts = [(row.completion, row.is_refusal) for row in stored if row.completion is not None]
    return FlagCheck(
        n_stored=len(stored),
        n_compared=len(texts),
        n_different=sum(is_refusal(text) != flag for text, flag in texts),
    )


def _absent(run: PaperRun) -> tuple[str, ...]:
    parts = {
        "candidate directions": run.mean_differences,
        "file of the chosen direction": run.direction,
        "completions": run.completions,
        "losses": run.losses,
        "chosen direction": run.chosen,
    }
    return tuple(name for name, value in parts.items() if value is None)


def _warnings(facts: ImportFacts) -> tuple[str, ...]:
    """What a reader must know: parts that are not there, differences, quirks."""
    found = [f"the copy of the run has no {part}" for part in facts.absent]
    if facts.n_withheld:
        found.append(f"the copy withholds the text of {facts.n_withheld} completions")
    if facts.same_choice is False:
        found.append(
            f"the run's code chose {facts.stored_choice}, its scores give {facts.recomputed_choice}"
        )
    if facts.published_choice != facts.recomputed_choice:
        found.append(f"by the rule as published the choice is {facts.published_choice or 'none'}")
    if facts.same_direction is False:
        found.append("the stored direction is not the candidate at the stored choice")
    if facts.flags.n_different:
        found.append(
            f"{facts.flags.n_different} of {facts.flags.n_compared} stored refusal flags are not "
            f"what the phrases say of the text"
        )
    return (*found, *facts.quirks)


def _write(imported: _Imported, folder: Path) -> None:
    write_file(folder / SCORES, imported.selection.to_json())
    write_file(folder / IMPORT, imported.facts.to_json())
    _write_completions(imported.completions, folder)
    for judgements in imported.judgements:
        write_file(folder / EVALUATION / judgements_file(judgements.judge), judgements.to_json())
    for text in imported.losses:
        write_file(folder / TEXT_LOSSES / f"{text.text}.json", text.to_json())
    _write_direction(imported, folder)
    write_file(folder / RUN, imported.manifest.to_json())


def _write_completions(completions: tuple[Completion, ...], folder: Path) -> None:
    if not completions:
        return
    files: dict[str, list[Completion]] = {}
    for row in completions:
        files.setdefault(completions_file(row.dataset, row.condition), []).append(row)
    for name, rows in files.items():
        write_file(folder / COMPLETIONS / name, "".join(row.to_line() for row in rows))
    write_file(folder / COHERENCE_FLAGS, flag_completions(completions).to_json())


def _write_direction(imported: _Imported, folder: Path) -> None:
    """The chosen direction, as a run's own; not there where the copy has no candidates."""
    name = imported.manifest.model.name
    facts = imported_direction(imported.run, imported.selection, name)
    candidates = imported.run.mean_differences
    if facts is None or candidates is None:
        return
    write_file(folder / DIRECTION, facts.to_json())
    write_file(folder / MEAN_DIFFERENCES, save({"mean_differences": candidates.contiguous()}))
    vector = candidates[facts.position, facts.layer].float()
    direction = Direction(vector=vector, position=facts.position, layer=facts.layer, model=name)
    save_direction(direction, folder / DIRECTION_TENSOR)
