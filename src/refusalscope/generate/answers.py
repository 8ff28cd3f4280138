"""Greedy answers of any number of prompts, each as long as its own prompt leaves room for."""

from collections.abc import Iterator, Sequence
from functools import partial

from transformers import PreTrainedModel

from refusalscope.engine.halving import in_halves
from refusalscope.generate.greedy import Generated, generate_greedy, greedy_rows
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.batches import by_length
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt


def greedy_in_batches(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    *,
    pad_id: int,
    stops: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Yield which prompts a batch held and the tokens of any model after them, shortest first."""

    def run(rows: Sequence[int]) -> list[list[int]]:
        own = [prompts[i] for i in rows]
        return greedy_rows(model, own, pad_id=pad_id, stops=stops, max_new_tokens=max_new_tokens)

    for indices in by_length(prompts, batch_size=batch_size):
        halves = in_halves(indices, run, what="prompts")
        yield indices, [one for half in halves for one in half]


def answers_in_batches(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    stop_at_end_of_turn: bool = True,
    batch_size: int = 32,
) -> Iterator[tuple[list[int], list[Generated]]]:
    """Yield which prompts a batch held and their answers, without intervention, shortest first."""
    for indices in by_length(prompts, batch_size=batch_size):
        own = [prompts[i] for i in indices]
        yield (
            indices,
            answered(
                chat,
                own,
                edits=[None] * len(own),
                max_new_tokens=max_new_tokens,
                stop_at_end_of_turn=stop_at_end_of_turn,
            ),
        )


def answered(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    edits: Sequence[Intervention | None],
    max_new_tokens: int,
    stop_at_end_of_turn: bool,
) -> list[Generated]:
    """The answers to one batch of prompts, each under its own intervention.

    A batch that does not fit into memory is halved until it does. Where the model's context ends
    before the token limit, an answer ends there: after as many tokens as its own prompt leaves,
    whatever else is in its batch.
    """

    def run(limit: int, rows: Sequence[int]) -> list[Generated]:
        with intervene(chat.model, chat.anatomy, [edits[i] for i in rows]):
            return generate_greedy(
                chat,
                [prompts[i] for i in rows],
                max_new_tokens=limit,
                stop_at_end_of_turn=stop_at_end_of_turn,
            )

    done: dict[int, Generated] = {}
    for limit, places in _by_limit(chat, prompts, max_new_tokens).items():
        halves = in_halves(places, partial(run, limit), what="prompts")
        done |= dict(zip(places, [one for half in halves for one in half], strict=True))
    return [done[i] for i in range(len(prompts))]


def _by_limit(
    chat: ChatModel, prompts: Sequence[Prompt], max_new_tokens: int
) -> dict[int, list[int]]:
    """Places of the prompts by how many tokens their answers may have."""
    places: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        limit = max(1, int(min(max_new_tokens, chat.room(prompt))))
        places.setdefault(limit, []).append(i)
    return places
