"""The residual stream along a direction at every token of answers, under what wrote them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from refusalscope.directions.direction import unit_direction
from refusalscope.engine.rows import Step, engine_of, exact, gathered
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
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
    unit = unit_direction(direction)
    engine = engine_of(chat, batch_size=batch_size, what="answers")

    @contextmanager
    def projecting(_batch: Batch) -> Generator[list[Tensor]]:
        columns: list[Tensor] = []

        def observe(hidden: Tensor) -> None:
            columns.append(exact(hidden) @ exact(unit.to(hidden.device)))

        with observe_inputs([(chat.layers[layer], observe) for layer in layers]):
            yield columns

    def own_tokens(step: Step) -> list[Tensor]:
        projected = gathered(step.seen)
        spans = [
            (len(answers[i].prompt.ids), len(answers[i].prompt.ids) + len(answers[i].tokens))
            for i in step.rows
        ]
        return [projected[:, row, start:end] for row, (start, end) in enumerate(spans)]

    found: dict[int, Tensor] = {}
    for rows, own in engine.run(
        [answer.whole for answer in answers],
        own_tokens,
        edits=[answer.intervention for answer in answers],
        around=projecting,
        progress=progress,
    ):
        found.update(zip(rows, own, strict=True))
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
