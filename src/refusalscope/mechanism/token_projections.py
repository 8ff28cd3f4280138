"""The projection of every token of a prompt on a direction, layer by layer."""

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.directions.direction import unit_direction
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.hooks import observe_inputs
from refusalscope.models.prompts import Prompt
from refusalscope.models.tokens import decode
from refusalscope.results.mechanism_maps import ProjectedText


def token_projections(
    chat: ChatModel, prompt: Prompt, direction: Float[Tensor, " d_model"]
) -> Float[Tensor, "pos layer"]:
    """Projection of resid_pre on the unit direction, by token and layer, in float64."""
    unit = unit_direction(direction).to("cpu", torch.float64)
    columns: list[Tensor] = []

    def observe(hidden: Tensor) -> None:
        columns.append(hidden[0].to(device="cpu", dtype=torch.float64) @ unit)

    batch = pad([prompt], pad_id=chat.pad_id, device=chat.device)
    with observe_inputs([(layer, observe) for layer in chat.layers]):
        last_token_logits(chat.model, batch)
    return torch.stack(columns, dim=1)


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
