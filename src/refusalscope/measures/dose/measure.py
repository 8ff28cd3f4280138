"""The run's direction removed at several strengths."""

import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import InputError
from refusalscope.evaluation.answer_drift import TextDrift, drift_under
from refusalscope.evaluation.loss import answered
from refusalscope.interventions.apply import without_span
from refusalscope.measures.dose.record import Damage, Dose, DoseOptions, DosePoint
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.pipeline.complete_aside import DATASET, Asked, outcomes_under
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.outcomes import own_outcomes
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import chosen_direction
from refusalscope.results.measures import FOLDER
from refusalscope.results.outcomes import Outcome, refused_by_index, shares_of
from refusalscope.results.run_records import read_dataset_completions

_DRAWS = 1000


def measure(session: Session, options: DoseOptions, _item: str = "") -> Dose:
    """Outcomes of the harmful test instructions and damage to harmless answers, by strength.

    A strength s leaves 1 - s of the stream's part along the direction, at every layer and token.

    Raises:
        RunFolderError: no run, or one without a direction, completions or outcomes.
        InputError: no strength, or one twice.
    """
    strengths = sorted(options.strengths)
    if not strengths or len(set(strengths)) < len(strengths):
        raise InputError(f"strengths are {strengths}; give at least one, and each once")
    run = session.run
    vector, _ = chosen_direction(run)
    basis = torch.nn.functional.normalize(vector.double(), dim=0)[None].float()
    outcomes = {strength: _outcomes(run, basis, strength) for strength in strengths}
    damages = _damages(run, basis, strengths)
    base = refused_by_index(own_outcomes(run.folder.path, DATASET, "baseline"))
    points = []
    for strength, own in outcomes.items():
        refused = refused_by_index(own)
        points.append(
            DosePoint(
                strength=strength,
                outcomes=own,
                shares=shares_of(own),
                refused=rate_of([*refused.values()]) if refused else None,
                gap=paired_change(base, refused) if strength else None,
                damage=damages.get(strength),
            )
        )
    return Dose(points=tuple(points))


def _outcomes(
    run: RunContext, basis: Float[Tensor, "one d_model"], strength: float
) -> tuple[Outcome | None, ...]:
    """What the answers are; those that the run has written itself are taken from it."""
    written = {0.0: "baseline", 1.0: "ablation"}
    if strength in written:
        return own_outcomes(run.folder.path, DATASET, written[strength])
    instructions = run.sets[DATASET].instructions
    asked = Asked(dataset=DATASET, instructions=instructions, prompts=run.prompts(DATASET))
    folder = run.folder.path / FOLDER / "dose" / f"strength-{strength:g}"
    return outcomes_under(
        run,
        folder,
        asked,
        name=f"strength {strength:g}",
        around=without_span(run.chat.model, run.chat.anatomy, basis, strength=strength),
        edit=[strength, basis.tolist()],
    )


def _damages(
    run: RunContext, basis: Float[Tensor, "one d_model"], strengths: Sequence[float]
) -> Mapping[float, Damage]:
    answers = read_dataset_completions(run.folder.path, "harmless", "baseline")
    texts = answered(run.chat, run.prompts("harmless"), answers)
    if not texts:
        return {}

    def under(strength: float, _n: int) -> AbstractContextManager[None]:
        return without_span(run.chat.model, run.chat.anatomy, basis, strength=strength)

    with run.progress.stage("damage", len(texts), unit="answers") as advance:
        found = drift_under(
            run.chat,
            texts,
            {f"{strength}": partial(under, strength) for strength in strengths},
            batch_size=run.options.batch_size,
            progress=advance,
        )
    return {strength: _damage(found[f"{strength}"], run.options.seed) for strength in strengths}


def _damage(texts: Sequence[TextDrift], seed: int) -> Damage:
    by_text = [text.by_token.mean().item() for text in texts]
    rng = random.Random(f"{seed}/dose")
    draws = sorted(fmean(rng.choices(by_text, k=len(by_text))) for _ in range(_DRAWS))
    return Damage(
        kl=fmean(by_text),
        kl_low=draws[int(0.025 * _DRAWS)],
        kl_high=draws[int(0.975 * _DRAWS) - 1],
        loss_change=fmean(text.loss_change or 0.0 for text in texts),
        n=len(texts),
    )
