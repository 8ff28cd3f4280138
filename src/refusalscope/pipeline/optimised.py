"""The optimised direction of a run: trained once, and kept beside the run's own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from refusalscope.errors import CannotTryError
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.run_folder import stage_key
from refusalscope.pipeline.stages import chosen_direction
from refusalscope.pipeline.training import kept_training
from refusalscope.results.files import write_file
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
    found = _read(run, key)
    if found is None:
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
        metadata = {"refusalscope": json.dumps({"schema": 1, "key": key})}
        data = save({"direction": found.contiguous()}, metadata=metadata)
        write_file(run.folder.path / OPTIMISED, data)
    n_backward = steps * _passes(harmful, harmless)
    return OwnOptimised(
        vector=found,
        cosine=torch.nn.functional.cosine_similarity(found.double(), vector.double(), dim=0).item(),
        n_forward=len(harmless) + n_backward,
        n_backward=n_backward,
    )


def _passes(harmful: Sequence[Prompt], harmless: Sequence[Prompt]) -> int:
    return min(_BATCH, len(harmful)) + 2 * min(_BATCH, len(harmless))


def _read(run: RunContext, key: str) -> Float[Tensor, " d_model"] | None:
    path = run.folder.path / OPTIMISED
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        facts = json.loads((file.metadata() or {}).get("refusalscope", "{}"))
        return file.get_tensor("direction") if facts.get("key") == key else None
