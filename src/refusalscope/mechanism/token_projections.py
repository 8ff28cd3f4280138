"""The projection of every token of a prompt on a direction, layer by layer."""

from collections.abc import Generator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor

from refusalscope.directions.direction import unit_direction
from refusalscope.engine.rows import Step, engine_of, exact, gathered
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import observe_inputs
from refusalscope.models.prompts import Prompt
from refusalscope.models.tokens import decode
from refusalscope.results.mechanism_maps import ProjectedText


def token_projections(
    chat: ChatModel, prompt: Prompt, direction: Float[Tensor, " d_model"]
) -> Float[Tensor, "pos layer"]:
    """Projection of resid_pre on the unit direction, by token and layer, in float64."""
    unit = unit_direction(direction)

    @contextmanager
    def projecting(_batch: Batch) -> Generator[list[Tensor]]:
        columns: list[Tensor] = []

        def observe(hidden: Tensor) -> None:
            columns.append(exact(hidden[0]) @ exact(unit.to(hidden.device)))

        with observe_inputs([(layer, observe) for layer in chat.layers]):
            yield columns

    def stacked(step: Step) -> Tensor:
        return gathered(step.seen).T

    ((_, found),) = engine_of(chat).run([prompt], stacked, around=projecting)
    return found


def project_text(
    chat: ChatModel,
    prompt: Prompt,
    direction: Float[Tensor, " d_model"],
    *,
    label: str,
    is_harmful: bool | None,
) -> ProjectedText:
    """The record of one prompt, its tokens as text."""
    projected = token_projections(chat, prompt, direction)
    return ProjectedText(
        label=label,
        is_harmful=is_harmful,
        tokens=tuple(decode(chat.tokenizer, [i], skip_special=False) for i in prompt.ids),
        projection=tuple(tuple(round(v, 4) for v in row) for row in projected.tolist()),
    )
