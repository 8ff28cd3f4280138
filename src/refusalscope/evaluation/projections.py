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
from refusalscope.models.tokens import decode_answer


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


def token_lengths(
    tokenizer: PreTrainedTokenizerBase, text: str, written: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """The tokens of a text, and how many of its characters each one ends after the one before it.

    The lengths add up to the text: what is of no token goes to the last one. Without offsets (a
    tokenizer that is not a fast one) all of it does.

    Args:
        written: The tokens that the model wrote, where they were kept. Often the text by itself has
            others; then each ends where the text of those up to it does.
    """
    found = text_tokens(tokenizer, text)
    if written is None or tuple(written) == tuple(found.ids):
        ids, ends = list(found.ids), list(found.ends or [0] * len(found.ids))
    else:
        ids, ends = list(written), _ends(tokenizer, text, written)
    lengths, reached = [], 0
    for end in ends:
        lengths.append(max(0, end - reached))
        reached = max(reached, end)
    if lengths:
        lengths[-1] += len(text) - reached
    return ids, lengths


def _ends(tokenizer: PreTrainedTokenizerBase, text: str, written: Sequence[int]) -> list[int]:
    """Where each token that was written ends in the text, which has none of the space around it."""
    whole = decode_answer(tokenizer, written)
    n_before = len(whole) - len(whole.lstrip())
    parts = (decode_answer(tokenizer, written[: i + 1]) for i in range(len(written)))
    return [min(len(text), max(0, _n_common(whole, part) - n_before)) for part in parts]


def _n_common(whole: str, part: str) -> int:
    """How many characters two texts begin with; one that is not whole yet is in neither."""
    pairs = enumerate(zip(whole, part, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(whole), len(part)))
