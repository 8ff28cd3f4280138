"""The residual stream of any number of prompts at one of their tokens."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from refusalscope.engine.rows import (
    Around,
    Step,
    at_last_token,
    engine_of,
    gathered,
    untouched,
)
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import Observe, observe_inputs
from refusalscope.models.prompts import Prompt, n_template_tokens


def streams_at(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    position: int = -1,
    around: Around = untouched,
    batch_size: int = 32,
) -> Iterator[tuple[list[int], Float[Tensor, "layer batch d_model"]]]:
    """Yield which prompts a batch held and their resid_pre at every layer.

    On the CPU in float64; what `around` does to the input of a layer is seen.

    Args:
        position: From the end of each prompt; -1 is the last token.
    """

    @contextmanager
    def taking(batch: Batch) -> Generator[list[Tensor]]:
        taken: list[Tensor] = []
        observe = _taking(replace(batch, last=batch.last + 1 + position), taken)
        with observe_inputs([(layer, observe) for layer in chat.layers]):
            yield taken

    def streams(step: Step) -> Tensor:
        return gathered(step.seen)

    yield from engine_of(chat, batch_size=batch_size).run(
        prompts,
        streams,
        edited=around,
        around=taking,
        n_shared=n_template_tokens(chat.prompt_format),
    )


def _taking(batch: Batch, into: list[Tensor]) -> Observe:
    def observe(hidden: Tensor) -> None:
        into.append(at_last_token(hidden, batch))

    return observe
