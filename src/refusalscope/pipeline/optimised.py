"""The optimised direction of a run: trained once, and kept beside the run's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from refusalscope.directions.direction import cosine_of
from refusalscope.errors import CannotTryError
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.kept_vectors import keep_vectors, kept_vectors
from refusalscope.pipeline.run_folder import stage_key
from refusalscope.pipeline.stages import chosen_direction
from refusalscope.pipeline.training import kept_training
from refusalscope.selection.optimised import optimise_direction

OPTIMISED = "measures/optimised.safetensors"
_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOptimised:
    """The direction, what it is like, and what it took."""

    vector: Float[Tensor, " d_model"]
    cosine: float
    n_forward: int
    n_backward: int


def first_training(run: RunContext, n: int) -> tuple[list[Prompt], list[Prompt]]:
    """The first `n` harmful and harmless training prompts that the run kept."""
    kept = kept_training(run)
    harmful, harmless = (
        [p for p, is_kept in zip(run.prompts(name), kept[name], strict=True) if is_kept][:n]
        for name in ("harmful_train", "harmless_train")
    )
    return harmful, harmless


def optimised_direction(run: RunContext, *, steps: int, n_prompts: int) -> OwnOptimised:
    """The optimised direction; what another measurement has trained with the same is read.

    Raises:
        CannotTryError: no step is asked for.
        NumericalError: the loss is NaN or infinite.
    """
    if not steps:
        raise CannotTryError("no direction was optimised: --optimise-steps is 0")
    vector, (_, layer) = chosen_direction(run)
    harmful, harmless = first_training(run, n_prompts)
    key = stage_key("optimised", vector.tolist(), steps, n_prompts, _BATCH)
    path = run.folder.path / OPTIMISED
    kept = kept_vectors(path, key=key)
    if kept is not None:
        found = kept[0]
    else:
        with run.progress.stage("optimise", steps, unit="steps") as advance:
            trained = optimise_direction(
                run.chat,
                vector,
                layer=layer,
                harmful=harmful,
                harmless=harmless,
                refusal_tokens=run.refusal_tokens,
                steps=steps,
                batch_size=_BATCH,
                progress=advance,
            )
        found = trained.vector
        keep_vectors(path, found, key=key)
    n_backward = steps * _passes(harmful, harmless)
    return OwnOptimised(
        vector=found,
        cosine=cosine_of(found, vector),
        n_forward=len(harmless) + n_backward,
        n_backward=n_backward,
    )


def _passes(harmful: Sequence[Prompt], harmless: Sequence[Prompt]) -> int:
    return min(_BATCH, len(harmful)) + 2 * min(_BATCH, len(harmless))
