"""One rung of the ladder, tried on a finished run's harmful test instructions."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from refusalscope.errors import (
    CannotTryError,
    ChatTemplateError,
    InstructionsError,
    MissingExtraError,
)
from refusalscope.measures.ladder.made import Made, made_of_run
from refusalscope.measures.ladder.record import LadderOptions, Rung, pairs_of, rank_of
from refusalscope.measures.ladder.removed import with_optimised, without_directions
from refusalscope.measures.ladder.tuned import tuned_on_pairs, with_edited_weights
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.complete_aside import DATASET, Asked, outcomes_under
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.outcomes import own_outcomes
from refusalscope.pipeline.prompt_attacks import prompt_attack
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import has_no_direction
from refusalscope.results.attack_records import PROMPT_ATTACKS
from refusalscope.results.measures import FOLDER
from refusalscope.results.outcomes import Outcome, refused_by_index, shares_of
from refusalscope.results.records import NoDirection
from refusalscope.results.run_records import NO_DIRECTION, read_record

_OWN = {"baseline": "baseline", "ablation": "ablation", "subtraction": "subtraction"}
_LACKING = (ChatTemplateError, InstructionsError, MissingExtraError, CannotTryError)
"""What a model, or what is installed, has no place for: the rung says so and was not tried."""
_Make = Callable[[RunContext, LadderOptions, Path], Made]
_MAKERS: dict[str, _Make] = {
    "optimised": with_optimised,
    "weights": with_edited_weights,
}


def measure(session: Session, options: LadderOptions, item: str) -> Rung:
    """Try one rung; how long it took is noted in timings.json.

    Raises:
        RunFolderError: no run, or one without completions or outcomes.
    """
    started = time.monotonic()
    found = _tried(session.any_run, options, item)
    seconds = time.monotonic() - started
    session.any_run.folder.add_time(f"ladder {item}", seconds=seconds)
    return found


def _tried(run: RunContext, options: LadderOptions, item: str) -> Rung:
    baseline = own_outcomes(run.folder.path, DATASET, "baseline")
    if has_no_direction(run) and not _needs_none(item):
        lacking = read_record(NoDirection, run.folder.path / NO_DIRECTION)
        return _untried(item, f"the run has no direction: {lacking.text}")
    if item in _OWN or item == "rank_1":
        condition = _OWN.get(item, "ablation")
        found = own_outcomes(run.folder.path, DATASET, condition)
        return _rung(item, found, baseline, made_of_run(run, condition))
    own = run.folder.path / FOLDER / "ladder" / item
    try:
        made = _made(run, options, item, own)
        instructions = [one.text for one in run.sets[DATASET].instructions]
        prompts = made.prompts or tuple(made.chat.encode(instructions))
    except _LACKING as error:
        return _untried(item, str(error))
    return _rung(item, _answered(run, made, prompts, own, item), baseline, made)


def _needs_none(item: str) -> bool:
    """Whether a rung can be tried without a direction."""
    return item in ("baseline", "system_prompt", "answer_prefix", "random_suffix") or (
        pairs_of(item) is not None
    )


def _made(run: RunContext, options: LadderOptions, item: str, own: Path) -> Made:
    if (rank := rank_of(item)) is not None:
        return without_directions(run, options, rank, own.parent)
    if (n_pairs := pairs_of(item)) is not None:
        return tuned_on_pairs(run, options, n_pairs, own)
    if item in PROMPT_ATTACKS:
        attack = prompt_attack(run, item, options)
        return Made(
            chat=attack.chat, prompts=attack.prompts, cost=attack.cost, detail=attack.detail
        )
    return _MAKERS[item](run, options, own)


def _answered(
    run: RunContext, made: Made, prompts: Sequence[Prompt], own: Path, item: str
) -> tuple[Outcome | None, ...]:
    """The outcomes of the answers under what was made; the answers are kept beside the record."""
    instructions = run.sets[DATASET].instructions
    asked = Asked(dataset=DATASET, instructions=instructions, prompts=prompts)
    around = made.around() if made.around else None
    return outcomes_under(run, own, asked, name=item, around=around, edit=made.key, chat=made.chat)


def _rung(
    item: str,
    outcomes: Sequence[Outcome | None],
    baseline: Sequence[Outcome | None],
    made: Made,
) -> Rung:
    refused, before = refused_by_index(outcomes), refused_by_index(baseline)
    return Rung(
        name=item,
        outcomes=tuple(outcomes),
        shares=shares_of(outcomes),
        refused=rate_of([*refused.values()]) if refused else None,
        gap=None if item == "baseline" else paired_change(before, refused),
        cost=made.cost,
        detail=made.detail,
        places=made.places,
    )


def _untried(item: str, why: str) -> Rung:
    return Rung(
        name=item,
        outcomes=(),
        shares=None,
        refused=None,
        gap=None,
        cost=None,
        lacking=why,
    )
