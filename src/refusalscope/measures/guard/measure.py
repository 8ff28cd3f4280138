"""One kind of instructions, asked of the plain and of the guarded model.

The monitor reads each prompt before anything is answered. Where it fires, the run's direction is
added at its layer from the first token on, which makes a model refuse (Arditi et al. 2024, section
3.2); elsewhere nothing is touched, so an answer there is the plain model's by construction. That a
condition decides whether to steer is CAST's idea: Lee et al. (2024),
https://arxiv.org/abs/2409.05907.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalscope.data.instruction import Instruction
from refusalscope.errors import CannotTryError, ChatTemplateError, InstructionsError
from refusalscope.interventions.apply import intervene_alike
from refusalscope.interventions.intervention import Intervention
from refusalscope.measures.guard.record import Guarded, GuardOptions
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.monitors.monitor import Monitor, load_monitor
from refusalscope.monitors.score import require_same_shape, score_prompts
from refusalscope.pipeline.borderline import WITHOUT, borderline_of
from refusalscope.pipeline.complete_aside import DATASET, Asked, outcomes_under
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.outcomes import own_outcomes
from refusalscope.pipeline.prompt_attacks import prompt_attack
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import chosen_direction
from refusalscope.results.attack_records import PROMPT_ATTACKS
from refusalscope.results.borderline_options import BORDERLINE
from refusalscope.results.measures import FOLDER
from refusalscope.results.outcomes import Outcome, refused_by_index, shares_of

_Outcomes = tuple[Outcome | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Questions:
    """What is asked: of which model, as which prompts, and what the monitor sees of them."""

    item: str
    dataset: str
    chat: ChatModel
    reader: ChatModel
    instructions: Sequence[Instruction]
    prompts: Sequence[Prompt]
    seen: Sequence[Prompt]
    detail: str = ""


def measure(session: Session, options: GuardOptions, item: str) -> Guarded:
    """Ask one kind of instructions, plain and guarded.

    Raises:
        RunFolderError: no run, or one without a direction, completions or outcomes.
        InputError: the monitor is none, or of another model.
        InstructionsError: the file of borderline instructions is not one.
        NumericalError: an activation is NaN or infinite.
    """
    run = session.run
    assert options.monitor is not None, "items_of refuses to begin without one"
    monitor = load_monitor(Path(options.monitor))
    require_same_shape(run.chat, monitor)
    # A file that is none ends the first item, not the last.
    borderline = borderline_of(run, options.borderline, n=options.n_borderline)
    if item == BORDERLINE and not borderline:
        return Guarded(name=item, lacking=WITHOUT)
    if item not in PROMPT_ATTACKS:
        given = borderline if item == BORDERLINE else run.sets[item].instructions
        return _guarded(run, _as_they_are(run, item, given), monitor, options)
    try:
        attack = prompt_attack(run, item, options)
    except (ChatTemplateError, InstructionsError, CannotTryError) as error:
        return Guarded(name=item, lacking=str(error))
    questions = _Questions(
        item=item,
        dataset=DATASET,
        chat=attack.chat,
        reader=attack.reader,
        instructions=run.sets[DATASET].instructions,
        prompts=attack.prompts,
        seen=attack.seen,
        detail=attack.detail,
    )
    return _guarded(run, questions, monitor, options)


def _as_they_are(run: RunContext, item: str, given: Sequence[Instruction]) -> _Questions:
    prompts = run.chat.encode([one.text for one in given])
    return _Questions(
        item=item,
        dataset=item,
        chat=run.chat,
        reader=run.chat,
        instructions=given,
        prompts=prompts,
        seen=prompts,
    )


def _guarded(
    run: RunContext, questions: _Questions, monitor: Monitor, options: GuardOptions
) -> Guarded:
    flags = _flags(run, questions, monitor)
    folder = run.folder.path / FOLDER / "guard" / questions.item
    plain = _plain(run, questions, folder)
    steered = _steered(run, questions, flags, folder, options.coefficient)
    guarded: _Outcomes = tuple(steered.get(i, own) for i, own in enumerate(plain))
    before, after = refused_by_index(plain), refused_by_index(guarded)
    replaced = [flag or own == "refused" for flag, own in zip(flags, plain, strict=True)]
    return Guarded(
        name=questions.item,
        detail=questions.detail,
        n_seen=monitor.n_seen(questions.instructions),
        flagged=rate_of(flags),
        plain=plain,
        guarded=guarded,
        plain_shares=shares_of(plain),
        guarded_shares=shares_of(guarded),
        plain_refused=rate_of([*before.values()]) if before else None,
        guarded_refused=rate_of([*after.values()]) if after else None,
        change=paired_change(before, after) if before and after else None,
        replaced=rate_of(replaced),
    )


def _flags(run: RunContext, questions: _Questions, monitor: Monitor) -> list[bool]:
    """At which prompts the monitor fires."""
    scores = score_prompts(
        questions.reader, questions.seen, monitor, batch_size=run.options.batch_size
    )
    return monitor.flags(scores)


def _plain(run: RunContext, questions: _Questions, folder: Path) -> _Outcomes:
    item = questions.item
    if item in ("harmful", "harmless"):
        return own_outcomes(run.folder.path, item, "baseline")
    asked = Asked(
        dataset=questions.dataset,
        instructions=questions.instructions,
        prompts=questions.prompts,
    )
    return outcomes_under(run, folder / "plain", asked, name=item, chat=questions.chat)


def _steered(
    run: RunContext,
    questions: _Questions,
    flags: Sequence[bool],
    folder: Path,
    coefficient: float,
) -> dict[int, Outcome | None]:
    """The outcomes of those that are flagged, with the direction added."""
    rows = [i for i, flag in enumerate(flags) if flag]
    if not rows:
        return {}
    vector, (_, layer) = chosen_direction(run)
    edit = Intervention(operator="add", vector=coefficient * vector, layer=layer)
    asked = Asked(
        dataset=questions.dataset,
        instructions=[questions.instructions[i] for i in rows],
        prompts=[questions.prompts[i] for i in rows],
    )
    key = [coefficient, layer, vector.tolist()]
    outcomes = outcomes_under(
        run,
        folder / "steered",
        asked,
        name=f"guarded {questions.item}",
        around=intervene_alike(run.chat.model, run.chat.anatomy, edit),
        edit=key,
        chat=questions.chat,
    )
    return dict(zip(rows, outcomes, strict=True))
