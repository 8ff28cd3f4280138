"""The model as it is, on harmful, harmless and borderline instructions."""

from collections.abc import Iterator, Sequence

from refusalscope.data.instruction import Instruction
from refusalscope.measures.over_refusal.record import (
    Asked,
    OverRefusal,
    OverRefusalOptions,
)
from refusalscope.metrics.intervals import rate_of
from refusalscope.pipeline.borderline import LANGUAGE, WITHOUT, borderline_of
from refusalscope.pipeline.complete_aside import Asked as Questions
from refusalscope.pipeline.complete_aside import outcomes_under
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.outcomes import own_outcomes
from refusalscope.pipeline.session import Session
from refusalscope.results.borderline_options import BORDERLINE
from refusalscope.results.measures import FOLDER
from refusalscope.results.outcomes import Outcome, shares_of


def measure(session: Session, options: OverRefusalOptions, _item: str = "") -> OverRefusal:
    """Outcomes by kind of instruction and by category; borderline ones are answered here.

    Raises:
        RunFolderError: no run, or one without completions or outcomes.
        InstructionsError: the file of borderline instructions is not one.
    """
    run = session.any_run
    rows: list[Asked] = []
    for dataset in ("harmful", "harmless"):
        found = own_outcomes(run.folder.path, dataset, "baseline")
        rows += _rows(dataset, run.sets[dataset].instructions, found)
    given = borderline_of(run, options.borderline, n=options.n_borderline)
    if not given:
        return OverRefusal(rows=tuple(rows), outcomes=(), source=None, lacking=WITHOUT)
    outcomes = _answered(run, given)
    rows += _rows(BORDERLINE, given, outcomes)
    source = LANGUAGE if options.borderline is None else options.borderline
    return OverRefusal(rows=tuple(rows), outcomes=outcomes, source=source, lacking=None)


def _answered(run: RunContext, given: Sequence[Instruction]) -> tuple[Outcome | None, ...]:
    prompts = run.chat.encode([one.text for one in given])
    asked = Questions(dataset=BORDERLINE, instructions=given, prompts=prompts)
    folder = run.folder.path / FOLDER / "over-refusal" / "answers"
    return outcomes_under(run, folder, asked, name=BORDERLINE)


def _rows(
    dataset: str, instructions: Sequence[Instruction], outcomes: Sequence[Outcome | None]
) -> Iterator[Asked]:
    """All of them, then each category where there are several."""
    yield _asked(dataset, None, outcomes)
    categories = dict.fromkeys(one.category for one in instructions if one.category)
    if len(categories) < 2:
        return
    for category in sorted(categories):
        own: list[Outcome | None] = [
            outcome
            for one, outcome in zip(instructions, outcomes, strict=True)
            if one.category == category
        ]
        yield _asked(dataset, category, own)


def _asked(dataset: str, category: str | None, outcomes: Sequence[Outcome | None]) -> Asked:
    refused = [one == "refused" for one in outcomes if one is not None]
    return Asked(
        dataset=dataset,
        category=category,
        shares=shares_of(outcomes),
        refused=rate_of(refused) if refused else None,
    )
