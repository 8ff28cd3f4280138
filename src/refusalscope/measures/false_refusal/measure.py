"""The direction of safe instructions that are refused, and what is refused without it.

Wang et al. (2025), https://arxiv.org/abs/2410.03415: v is the mean activation of refused borderline
instructions less that of harmless ones; its part along the direction of true refusal is taken out,

    v' = v - strictness (v . r^) r^,

and v' is ablated. Which position and layer v' is read at is decided as the run decides on r, by
`selection`: the lowest refusal metric of the borderline instructions under ablation, within a limit
of KL on harmless ones. One half of the borderline instructions makes and chooses the direction, the
other is what it is measured on.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import resid_pre_moments
from refusalscope.data.instruction import Instruction
from refusalscope.directions.direction import (
    Direction,
    cosine_of,
    random_direction,
    save_direction,
)
from refusalscope.errors import CannotTryError, SelectionError
from refusalscope.interventions.apply import intervene_alike
from refusalscope.measures.false_refusal.record import (
    ASKED,
    FalseRefusal,
    FalseRefusalOptions,
    Mended,
)
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.borderline import LANGUAGE, WITHOUT, borderline_of
from refusalscope.pipeline.choose import kept_prompts
from refusalscope.pipeline.complete_aside import Asked, outcomes_under
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.first_token import ablation_of
from refusalscope.pipeline.outcomes import own_outcomes
from refusalscope.pipeline.run_folder import stage_key
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import candidates_of, chosen_direction
from refusalscope.pipeline.training import kept_training
from refusalscope.results.borderline_options import BORDERLINE
from refusalscope.results.measures import FOLDER
from refusalscope.results.outcomes import Outcome, refused_by_index, shares_of
from refusalscope.results.records import CandidateScores, Rate, SelectionLimits
from refusalscope.selection.score_book import ScoreBook
from refusalscope.selection.select_direction import SelectionPlan, select_direction

_LEAST = 4
"""Refused borderline instructions behind a mean, at the least."""
_TOO_FEW = (
    "there is one borderline instruction; half of them are for the direction, half to try it on"
)
_ANY_INDUCE = -1000.0
"""What adding the direction does is no matter here: it is made to be ablated."""
_OWN = Path(FOLDER) / "false-refusal"
DIRECTION = _OWN / "direction.safetensors"

_Outcomes = tuple[Outcome | None, ...]


def measure(session: Session, options: FalseRefusalOptions, _item: str = "") -> FalseRefusal:
    """Find the direction on one half of the borderline instructions and try it on the other.

    Raises:
        RunFolderError: no run, or one without a direction, completions or outcomes.
        InstructionsError: the file of borderline instructions is not one.
        NumericalError: a logit or an activation is NaN or infinite.
    """
    run = session.run
    given = borderline_of(run, options.borderline, n=options.n_borderline)
    if not given:
        return FalseRefusal(source=None, lacking=WITHOUT)
    if len(given) < 2:
        return FalseRefusal(source=_source(options), lacking=_TOO_FEW)
    random.Random(f"{run.options.seed}/false refusal").shuffle(given)
    halves = {"fit": given[::2], BORDERLINE: given[1::2]}
    plain = {name: _plain(run, name, own) for name, own in halves.items()}
    refused = [
        prompt
        for prompt, outcome in zip(_prompts(run, halves["fit"]), plain["fit"], strict=True)
        if outcome == "refused"
    ]
    told = FalseRefusal(
        source=_source(options),
        n_fit=len(halves["fit"]),
        n_refused=len(refused),
    )
    try:
        found = _found(run, refused, options)
    except (CannotTryError, SelectionError) as error:
        return told.model_copy(update={"lacking": str(error)})
    save_direction(found.direction(run), run.folder.path / DIRECTION)
    own: dict[str, tuple[Sequence[Instruction], _Outcomes]] = {
        BORDERLINE: (halves[BORDERLINE], plain[BORDERLINE]),
        **{
            name: (run.sets[name].instructions, own_outcomes(run.folder.path, name, "baseline"))
            for name in ("harmful", "harmless")
        },
    }
    return told.model_copy(
        update={
            "position": found.chosen.position,
            "layer": found.chosen.layer,
            "cosine": found.cosine,
            "kl": found.chosen.kl,
            "passes": found.passes,
            "rows": tuple(_mended(run, name, *own[name], found.vector) for name in ASKED),
        }
    )


def _source(options: FalseRefusalOptions) -> str:
    return LANGUAGE if options.borderline is None else options.borderline


def _prompts(run: RunContext, given: Sequence[Instruction]) -> list[Prompt]:
    return run.chat.encode([one.text for one in given])


def _plain(run: RunContext, name: str, given: Sequence[Instruction]) -> _Outcomes:
    asked = Asked(dataset=BORDERLINE, instructions=given, prompts=_prompts(run, given))
    return outcomes_under(run, run.folder.path / _OWN / name / "plain", asked, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The chosen candidate, without its part along the run's direction."""

    vector: Float[Tensor, " d_model"]
    chosen: CandidateScores
    passes: bool
    cosine: float

    def direction(self, run: RunContext) -> Direction:
        return Direction(
            vector=self.vector,
            position=self.chosen.position,
            layer=self.chosen.layer,
            model=run.chat.name,
        )


def _found(run: RunContext, refused: Sequence[Prompt], options: FalseRefusalOptions) -> _Found:
    """The best of the candidates at every position and layer; scores are kept as they come.

    Raises:
        CannotTryError: the model refuses too few of the instructions that are to make it.
        SelectionError: no candidate has finite scores in a layer that may be chosen.
    """
    if len(refused) < _LEAST:
        raise CannotTryError(
            f"the model refuses {len(refused)} of the borderline instructions that are to make a "
            f"direction; a mean needs at least {_LEAST}: give more with --borderline and "
            f"--n-borderline"
        )
    vector, place = chosen_direction(run)
    kept = kept_training(run)["harmless_train"]
    harmless = [p for p, own in zip(run.prompts("harmless_train"), kept, strict=True) if own]
    size = run.options.batch_size
    means = (resid_pre_moments(run.chat, own, batch_size=size).means for own in (refused, harmless))
    borderline, plain = means
    raw = difference_in_means(harmful=borderline, harmless=plain)
    vectors = without_part_along(raw, vector, share=options.strictness)
    book_key = stage_key(
        "false refusal", vectors.tolist(), [one.ids for one in refused], options.max_kl
    )
    with run.progress.stage("false refusal", None, unit="sweeps") as advance:
        selection = select_direction(
            run.chat,
            vectors,
            harmful=refused,
            harmless=kept_prompts(run.study, candidates_of(run).facts)["harmless_val"],
            refusal_tokens=run.refusal_tokens,
            limits=SelectionLimits(max_kl=options.max_kl, min_induce=_ANY_INDUCE),
            plan=SelectionPlan(n_leads=options.leads, also=[place]),
            book=ScoreBook(run.folder.path / _OWN / "scores.jsonl", key=book_key),
            progress=advance,
        )
    chosen = selection.chosen
    where = (chosen.position, chosen.layer)
    return _Found(
        vector=vectors[where],
        chosen=chosen,
        passes=not selection.nearest,
        cosine=cosine_of(raw[where], vector),
    )


def without_part_along(
    vectors: Float[Tensor, "*batch d_model"], direction: Float[Tensor, " d_model"], *, share: float
) -> Float[Tensor, "*batch d_model"]:
    """Vectors less so much of their part along a direction, in float64, given in float32."""
    unit = torch.nn.functional.normalize(direction.double(), dim=0)
    wide = vectors.double()
    return (wide - share * (wide @ unit)[..., None] * unit).float()


def _mended(
    run: RunContext,
    name: str,
    given: Sequence[Instruction],
    plain: _Outcomes,
    vector: Float[Tensor, " d_model"],
) -> Mended:
    control = random_direction(vector, seed=run.options.seed)
    edited, random_ = (
        _without(run, name, given, kind, own)
        for kind, own in (("edited", vector), ("random", control))
    )
    flags = {
        kind: refused_by_index(own)
        for kind, own in (("plain", plain), ("edited", edited), ("random", random_))
    }
    rates: dict[str, Rate | None] = {
        kind: rate_of([*own.values()]) if own else None for kind, own in flags.items()
    }
    return Mended(
        name=name,
        plain=plain,
        edited=edited,
        random=random_,
        plain_refused=rates["plain"],
        edited_refused=rates["edited"],
        random_refused=rates["random"],
        edited_shares=shares_of(edited),
        change=paired_change(flags["plain"], flags["edited"]),
        random_change=paired_change(flags["plain"], flags["random"]),
    )


def _without(
    run: RunContext,
    name: str,
    given: Sequence[Instruction],
    kind: str,
    vector: Float[Tensor, " d_model"],
) -> _Outcomes:
    asked = Asked(dataset=name, instructions=given, prompts=_prompts(run, given))
    return outcomes_under(
        run,
        run.folder.path / _OWN / name / kind,
        asked,
        name=f"{name} {kind}",
        around=intervene_alike(run.chat.model, run.chat.anatomy, ablation_of(vector)),
        edit=vector.tolist(),
    )
