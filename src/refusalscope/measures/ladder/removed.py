"""Rungs that take directions out of the stream: several one after the other, or a trained one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import resid_pre_moments
from refusalscope.activations.next_token import refusal_metrics
from refusalscope.engine.first_order import first_order
from refusalscope.engine.rows import under
from refusalscope.errors import CannotTryError
from refusalscope.interventions.apply import without_span
from refusalscope.interventions.intervention import Intervention
from refusalscope.measures.ladder.made import Made, direction_cost
from refusalscope.measures.ladder.record import LadderOptions
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.choose import limits_of
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.kept_vectors import keep_vectors, kept_vectors
from refusalscope.pipeline.optimised import first_training, optimised_direction
from refusalscope.pipeline.run_folder import stage_key
from refusalscope.pipeline.stages import candidates_of, chosen_direction
from refusalscope.results.attack_records import Cost
from refusalscope.selection.scorer import Candidate
from refusalscope.selection.select import layer_limit

_LEADS = 3
"""Places that first-order estimates put first, and whose removal is tried."""
_TRIED_ON = 8
"""Harmful training prompts that a place is chosen on."""
_BATCH = 8


def without_directions(run: RunContext, options: LadderOptions, rank: int, own: Path) -> Made:
    """With `rank` directions removed at once, each read from the model without those before it.

    The first is the run's. Then, with all that were found removed, the means of harmful and
    harmless training prompts are read anew at every layer and position, and of their differences
    the one whose removal lowers the refusal metric most is added: of the three places that
    first-order estimates put first, and of the run's own.

    Raises:
        CannotTryError: nothing is left to be removed.
    """
    found = _removed(run, options, rank, own / "directions.safetensors")
    first = direction_cost(run)
    return Made(
        chat=run.chat,
        cost=Cost(
            prompts=first.prompts,
            forward=first.forward + sum(found.forward[:rank]),
            backward=sum(found.backward[:rank]),
        ),
        detail=f"{rank} directions removed at once, each read from the model without those before",
        around=partial(without_span, run.chat.model, run.chat.anatomy, found.basis[:rank].float()),
        key=[rank, found.basis[:rank].tolist()],
        places=tuple(found.places[:rank]),
    )


def with_optimised(run: RunContext, options: LadderOptions, _own: Path) -> Made:
    """With a direction removed that gradients found, beginning from the run's.

    Raises:
        CannotTryError: no step is asked for.
    """
    _, place = chosen_direction(run)
    found = optimised_direction(run, steps=options.optimise_steps, n_prompts=options.rank_prompts)
    first = direction_cost(run)
    basis = torch.nn.functional.normalize(found.vector.double(), dim=0)[None].float()
    return Made(
        chat=run.chat,
        cost=Cost(
            prompts=first.prompts,
            forward=first.forward + found.n_forward,
            backward=found.n_backward,
        ),
        detail=f"a direction after {options.optimise_steps} steps of gradient descent from the "
        f"run's, removed; cosine with it {found.cosine:.3f}",
        around=partial(without_span, run.chat.model, run.chat.anatomy, basis),
        key=found.vector.tolist(),
        places=(place,),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removed:
    """Directions in the order in which they were found.

    Attributes:
        basis: Orthonormal, in float64.
        forward: Forward passes of one prompt that each took beyond what the run had done.
        backward: Backward passes.
    """

    basis: Float[Tensor, "rank d_model"]
    places: tuple[Candidate, ...]
    forward: tuple[int, ...]
    backward: tuple[int, ...]


def _removed(run: RunContext, options: LadderOptions, rank: int, path: Path) -> _Removed:
    """At least `rank` directions; what was found for a lower rank is in the file and gone on with.

    Raises:
        CannotTryError: the stream is narrower, or no further direction can be read.
    """
    if rank > run.chat.d_model:
        raise CannotTryError(
            f"the residual stream is {run.chat.d_model} wide; {rank} directions cannot be removed"
        )
    vector, place = chosen_direction(run)
    key = stage_key("ladder rank", vector.tolist(), options.rank_prompts)
    kept = kept_vectors(path, key=key)
    if kept is None:
        unit = torch.nn.functional.normalize(vector.double(), dim=0)
        found = _Removed(basis=unit[None], places=(place,), forward=(0,), backward=(0,))
    else:
        basis, facts = kept
        places = tuple((int(position), int(layer)) for position, layer in facts["places"])
        counts = (tuple(map(int, facts[name])) for name in ("forward", "backward"))
        forward, backward = counts
        found = _Removed(basis=basis, places=places, forward=forward, backward=backward)
    if len(found.basis) >= rank:
        return found
    harmful, harmless = first_training(run, options.rank_prompts)
    while len(found.basis) < rank:
        number = len(found.basis) + 1
        with run.progress.stage(f"direction {number}", None, unit="prompts"):
            found = _with_next(run, found, harmful, harmless)
        keep_vectors(
            path,
            found.basis,
            key=key,
            places=found.places,
            forward=found.forward,
            backward=found.backward,
        )
    return found


def _with_next(
    run: RunContext, before: _Removed, harmful: Sequence[Prompt], harmless: Sequence[Prompt]
) -> _Removed:
    """With the difference of means whose removal, beside what is removed already, does most."""
    chat = run.chat
    limits = limits_of(run.study, candidates_of(run).facts)
    some = harmful[:_TRIED_ON]

    def metric(logits: Tensor) -> Tensor:
        return refusal_metric(logits, run.refusal_tokens)

    with without_span(chat.model, chat.anatomy, before.basis.float()):
        moments = [
            resid_pre_moments(chat, prompts, batch_size=run.options.batch_size)
            for prompts in (harmful, harmless)
        ]
        vectors = difference_in_means(harmful=moments[0].means, harmless=moments[1].means)
        vectors[:, math.ceil(layer_limit(chat.n_layers, limits)) :] = 0
        estimates = first_order(chat, some, vectors, metric, batch_size=_BATCH).ablated
        leads = _leads(vectors, estimates, before.places[0])
        found = {
            place: refusal_metrics(
                chat,
                some,
                run.refusal_tokens,
                around=under(chat, Intervention(operator="ablate", vector=vectors[place].float())),
            )
            .mean()
            .item()
            for place in leads
        }
    best = min(found, key=lambda place: (found[place], place))
    new = vectors[best] - before.basis.T @ (before.basis @ vectors[best])
    unit = torch.nn.functional.normalize(new, dim=0)
    n_forward = len(harmful) + len(harmless) + (1 + len(leads)) * len(some)
    return _Removed(
        basis=torch.cat([before.basis, unit[None]]),
        places=(*before.places, best),
        forward=(*before.forward, n_forward),
        backward=(*before.backward, len(some)),
    )


def _leads(
    vectors: Float[Tensor, "pos layer d_model"],
    estimates: Float[Tensor, "pos layer"],
    own: Candidate,
) -> list[Candidate]:
    """The places to try, as positions from the end and layers.

    Raises:
        CannotTryError: all differences are zero.
    """
    n_positions, n_layers = estimates.shape
    is_there = vectors.any(dim=-1)
    order = estimates.masked_fill(~is_there, float("inf")).flatten().argsort()
    places = [(int(at) // n_layers - n_positions, int(at) % n_layers) for at in order]
    leads = [place for place in places[:_LEADS] if bool(is_there[place])]
    if bool(is_there[own]) and own not in leads:
        leads.append(own)
    if not leads:
        raise CannotTryError(
            "harmful and harmless prompts have equal means at every place, so no further direction "
            "can be read; give other instructions"
        )
    return leads
