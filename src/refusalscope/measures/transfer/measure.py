"""Directions of other runs, carried into this run's model and tried there.

The models are joined by what both make of the same harmless instructions, nothing else: a ridge map
from the source's activations at the place of its direction to this model's at the place of its own.
A direction is a difference of activations, so the map carries it. No harmful instruction is shown
to the map, so what comes over is not taught to it.
"""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from refusalscope.directions.direction import cosine_of, random_direction
from refusalscope.errors import InputError
from refusalscope.interventions.intervention import Intervention
from refusalscope.measures.transfer.record import Carried, Effect, Transfer, TransferOptions
from refusalscope.measures.transfer.ridge import fit_ridge
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.first_token import ablation_of, refused_at_first
from refusalscope.pipeline.harmless_pool import harmless_pool
from refusalscope.pipeline.reopen import reopen
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import chosen_direction, metric_threshold
from refusalscope.pipeline.training import stream_at


def measure(session: Session, options: TransferOptions, _item: str = "") -> Transfer:
    """Carry each source's direction over, and ablate and add it here.

    Raises:
        InputError: no source, one twice, or too few harmless instructions for a map.
        RunFolderError: a source is no run, has no direction, or its model is not what it was.
        NumericalError: a logit or an activation is NaN or infinite.
    """
    if not options.sources or len(set(options.sources)) < len(options.sources):
        raise InputError(
            f"there are {len(options.sources)} sources ({', '.join(options.sources)}); give the "
            f"folder of each run whose direction is carried over once, with --source"
        )
    run = session.run
    vector, (position, layer) = chosen_direction(run)
    texts = harmless_pool(run)[: options.n_shared]
    here = stream_at(run, run.chat.encode(texts), position=position, layer=layer)
    threshold = metric_threshold(run)
    baseline = {
        name: rate_of(refused_at_first(run, name, None, threshold))
        for name in ("harmful", "harmless")
    }
    own = _tried(run, vector)
    carried = []
    with run.progress.stage("transfer", len(options.sources), unit="runs") as advance:
        for name in options.sources:
            other = reopen(
                Path(name), progress=session.progress, trust_remote_code=session.trust_remote_code
            )
            found = _carried(run, other, (texts, here), options, source=name)
            carried.append(_beside(found, own, baseline["harmful"].rate))
            del other  # so that never more than two models are held
            advance(1)
    return Transfer(
        position=position,
        layer=layer,
        threshold=threshold,
        harmful=baseline["harmful"],
        harmless=baseline["harmless"],
        own=own.effect,
        carried=tuple(carried),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """One direction in this model: its effect, and which harmful instructions it leaves refused."""

    effect: Effect
    refused: list[bool]


def _carried(
    run: RunContext,
    other: RunContext,
    shared: tuple[list[str], Float[Tensor, "prompt d_model"]],
    options: TransferOptions,
    *,
    source: str,
) -> tuple[Carried, _Tried]:
    """One source's direction, not yet beside the run's own.

    Args:
        shared: Harmless instructions, and this model's activations on them.
    """
    texts, here = shared
    theirs, (position, layer) = chosen_direction(other)
    there = stream_at(other, other.chat.encode(texts), position=position, layer=layer)
    ridge = fit_ridge(there, here, seed=options.seed)

    def over(vector: Float[Tensor, " d_source"]) -> Float[Tensor, " d_model"]:
        return (vector.double() @ ridge.weight).float()

    ours, _ = chosen_direction(run)
    vector = over(theirs)
    tried = _tried(run, vector)
    randoms = (random_direction(theirs, seed=options.seed + i) for i in range(options.n_random))
    found = Carried(
        source=source,
        model=other.chat.name,
        position=position,
        layer=layer,
        d_model=other.chat.d_model,
        n_shared=len(texts),
        penalty=ridge.penalty,
        explained=ridge.explained,
        cosine=cosine_of(vector, ours),
        plain_cosine=cosine_of(theirs, ours) if theirs.shape == ours.shape else None,
        effect=tried.effect,
        share=None,
        change=None,
        random=tuple(_tried(run, over(one)).effect for one in randoms),
    )
    return found, tried


def _beside(found: tuple[Carried, _Tried], own: _Tried, baseline: float) -> Carried:
    """A carried direction with what it does of what the run's own does."""
    carried, tried = found
    fall = baseline - own.effect.bypass.rate
    return carried.model_copy(
        update={
            "share": None if fall <= 0 else (baseline - tried.effect.bypass.rate) / fall,
            "change": paired_change(dict(enumerate(own.refused)), dict(enumerate(tried.refused))),
        }
    )


def _tried(run: RunContext, vector: Float[Tensor, " d_model"]) -> _Tried:
    """Ablated on harmful instructions; added on harmless ones, as long as the run's own."""
    ours, (_, layer) = chosen_direction(run)
    threshold = metric_threshold(run)
    added = vector.double() * (ours.double().norm() / vector.double().norm())
    edit = Intervention(operator="add", vector=added.float(), layer=layer)
    refused = refused_at_first(run, "harmful", ablation_of(vector), threshold)
    induced = refused_at_first(run, "harmless", edit, threshold)
    return _Tried(effect=Effect(bypass=rate_of(refused), induce=rate_of(induced)), refused=refused)
