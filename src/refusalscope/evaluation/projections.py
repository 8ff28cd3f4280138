"""The residual stream along a direction at every token of answers, under what wrote them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from refusalscope.directions.direction import unit_direction
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.batches import by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.hooks import observe_inputs
from refusalscope.models.prompts import Prompt
from refusalscope.models.text_tokens import text_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenAnswer:
    """An answer as tokens behind its prompt, with the intervention that it was written under."""

    prompt: Prompt
    tokens: tuple[int, ...]
    intervention: Intervention | None

    @property
    def whole(self) -> Prompt:
        """Prompt and answer."""
        return Prompt(ids=(*self.prompt.ids, *self.tokens), n_post=0)


def answer_projections(
    chat: ChatModel,
    answers: Sequence[WrittenAnswer],
    direction: Float[Tensor, " d_model"],
    *,
    layers: Sequence[int],
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[Float[Tensor, "layer token"]]:
    """Projection of resid_pre on the unit direction at the answer's own tokens, in float64.

    What an intervention does to the input of a layer is seen: under ablation every projection is 0
    but for rounding.

    Args:
        layers: 0-based, in ascending order.
    """
    unit = unit_direction(direction).to("cpu", torch.float64)
    found: dict[int, Tensor] = {}
    texts = [answer.whole for answer in answers]
    for indices in by_length(texts, batch_size=batch_size):
        batch = pad([texts[i] for i in indices], pad_id=chat.pad_id, device=chat.device)
        columns: list[Tensor] = []

        def observe(hidden: Tensor, into: list[Tensor] = columns) -> None:
            into.append(hidden.to(device="cpu", dtype=torch.float64) @ unit)

        rows = [answers[i].intervention for i in indices]
        with (
            torch.inference_mode(),
            intervene(chat.model, chat.anatomy, rows),
            observe_inputs([(chat.layers[layer], observe) for layer in layers]),
        ):
            last_token_logits(chat.model, batch)  # of which none is needed
        projected = torch.stack(columns)
        for row, i in enumerate(indices):
            start = len(answers[i].prompt.ids)
            found[i] = projected[:, row, start : start + len(answers[i].tokens)]
        if progress:
            progress(len(indices))
    return [found[i] for i in range(len(answers))]


def token_lengths(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    """The tokens of a text, and how many of its characters each one ends after the one before it.

    The lengths add up to the text: what a tokenizer gives to no token goes to the last one. Without
    offsets (a tokenizer that is not a fast one) all of it does.
    """
    found = text_tokens(tokenizer, text)
    lengths, reached = [], 0
    for end in found.ends or [0] * len(found.ids):
        lengths.append(max(0, end - reached))
        reached = max(reached, end)
    if lengths:
        lengths[-1] += len(text) - reached
    return list(found.ids), lengths
