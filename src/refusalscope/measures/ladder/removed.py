"""Rungs that take directions out of the stream: several one after the other, or a trained one."""

import json
import math
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save
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
from refusalscope.measures.ladder.record import Cost, LadderOptions
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.pipeline.choose import limits_of
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.optimised import first_training, optimised_direction
from refusalscope.pipeline.run_folder import stage_key
from refusalscope.pipeline.stages import candidates_of, chosen_direction
from refusalscope.results.files import write_file
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
    basis, places = _removed(run, options, rank, own / "directions.safetensors")
    n_new = rank - 1
    n_prompts = _n_prompts(run, options)
    each = n_prompts + (_LEADS + 4) * _TRIED_ON
    first = direction_cost(run)
    return Made(
        chat=run.chat,
        cost=Cost(
            prompts=first.prompts,
            forward=first.forward + n_new * each,
            backward=n_new * _TRIED_ON,
        ),
        detail=f"{rank} directions removed at once, each read from the model without those before",
        around=partial(without_span, run.chat.model, run.chat.anatomy, basis[:rank]),
        key=[rank, _digest(basis[:rank])],
        places=tuple(places[:rank]),
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
        key=_digest(found.vector),
        places=(place,),
    )


def _n_prompts(run: RunContext, options: LadderOptions) -> int:
    return sum(len(own) for own in first_training(run, options.rank_prompts))


def _removed(
    run: RunContext, options: LadderOptions, rank: int, path: Path
) -> tuple[Float[Tensor, "rank d_model"], list[Candidate]]:
    """An orthonormal basis of the directions, in the order in which they were found.

    What was found for a lower rank is in the file and is gone on with.
    """
    vector, place = chosen_direction(run)
    key = stage_key("ladder rank", vector.tolist(), options.rank_prompts)
    basis = torch.nn.functional.normalize(vector.double(), dim=0)[None]
    places = [place]
    known = _read(path, key)
    if known is not None:
        basis, places = known
    if rank > run.chat.d_model:
        raise CannotTryError(
            f"the residual stream is {run.chat.d_model} wide; {rank} directions cannot be removed"
        )
    while len(basis) < rank:
        with run.progress.stage(f"direction {len(basis) + 1}", None, unit="prompts"):
            new, place = _next_direction(run, options, basis.float())
        new = new.double()
        new -= basis.T @ (basis @ new)
        basis = torch.cat([basis, torch.nn.functional.normalize(new, dim=0)[None]])
        places.append(place)
        _write(path, key, basis, places)
    return basis.float(), places


def _next_direction(
    run: RunContext, options: LadderOptions, basis: Float[Tensor, "rank d_model"]
) -> tuple[Float[Tensor, " d_model"], Candidate]:
    """The difference of means, without what is removed already, whose removal does most."""
    chat = run.chat
    harmful, harmless = first_training(run, options.rank_prompts)
    limits = limits_of(run.study, candidates_of(run).facts)
    _, own = chosen_direction(run)
    some = harmful[:_TRIED_ON]

    def metric(logits: Tensor) -> Tensor:
        return refusal_metric(logits, run.refusal_tokens)

    with without_span(chat.model, chat.anatomy, basis):
        moments = [
            resid_pre_moments(chat, prompts, batch_size=run.options.batch_size)
            for prompts in (harmful, harmless)
        ]
        vectors = difference_in_means(harmful=moments[0].means, harmless=moments[1].means)
        vectors[:, math.ceil(layer_limit(chat.n_layers, limits)) :] = 0
        estimates = first_order(chat, some, vectors, metric, batch_size=_BATCH).ablated
        leads = _leads(vectors, estimates, own)
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
    return vectors[best], best


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


def _digest(vectors: Tensor) -> str:
    return stage_key("vectors", vectors.flatten().tolist())


def _read(path: Path, key: str) -> tuple[Float[Tensor, "rank d_model"], list[Candidate]] | None:
    """What was found before with the same prompts; None where nothing was."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        facts = json.loads((file.metadata() or {}).get("refusalscope", "{}"))
        if facts.get("key") != key:
            return None
        basis = file.get_tensor("basis")
    places = [(int(position), int(layer)) for position, layer in facts["places"]]
    return basis, places


def _write(
    path: Path, key: str, basis: Float[Tensor, "rank d_model"], places: list[Candidate]
) -> None:
    facts = {"schema": 1, "key": key, "places": places}
    write_file(path, save({"basis": basis}, metadata={"refusalscope": json.dumps(facts)}))
