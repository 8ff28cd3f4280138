"""Whether the first token of an answer is a refusal: cheap, and enough to compare directions by."""

from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.engine.rows import under, untouched
from refusalscope.interventions.intervention import Intervention
from refusalscope.pipeline.context import RunContext


def refused_at_first(
    run: RunContext, name: str, edit: Intervention | None, threshold: float
) -> list[bool]:
    """Whether the refusal metric of each prompt of a set is above the threshold, under an edit.

    Raises:
        NumericalError: a logit is NaN or infinite.
    """
    metrics = refusal_metrics(
        run.chat,
        run.prompts(name),
        run.refusal_tokens,
        around=untouched if edit is None else under(run.chat, edit),
        batch_size=run.options.batch_size,
    )
    return [metric > threshold for metric in metrics.tolist()]


def ablation_of(vector: Float[Tensor, " d_model"]) -> Intervention:
    """The direction removed at every layer and token."""
    return Intervention(operator="ablate", vector=vector.float())
