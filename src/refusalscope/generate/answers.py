"""Greedy answers of any number of prompts, each as long as its own prompt leaves room for."""

from collections.abc import Iterator, Sequence
from functools import partial

from transformers import PreTrainedModel

from refusalscope.engine.halving import in_halves
from refusalscope.generate.greedy import (
    Generated,
    end_of_turn_ids,
    generate_greedy,
    generated,
    greedy_rows,
)
from refusalscope.generate.stream import Asked, Stream, stream_of
from refusalscope.interventions.apply import intervene
from refusalscope.models.batches import by_length
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt


def greedy_tokens(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    *,
    pad_id: int,
    stops: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Yield some of the prompts and the tokens of any model after them, as they are done."""
    asked = [Asked(prompt=prompt, edit=None, limit=max_new_tokens) for prompt in prompts]
    stream = stream_of(model, None, asked, pad_id=pad_id, stops=stops, batch_size=batch_size)
    if stream is not None:
        for some in stream.run(asked):
            yield [place for place, _ in some], [ids for _, ids in some]
        return

    def run(rows: Sequence[int]) -> list[list[int]]:
        own = [prompts[i] for i in rows]
        return greedy_rows(model, own, pad_id=pad_id, stops=stops, max_new_tokens=max_new_tokens)

    for indices in by_length(prompts, batch_size=batch_size):
        halves = in_halves(indices, run, what="prompts")
        yield indices, [one for half in halves for one in half]


def greedy_answers(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    stop_at_end_of_turn: bool = True,
    batch_size: int = 32,
) -> Iterator[tuple[list[int], list[Generated]]]:
    """Yield some of the prompts and their answers, without intervention, as they are done."""
    asked = [
        Asked(prompt=prompt, edit=None, limit=limit_of(chat, prompt, max_new_tokens))
        for prompt in prompts
    ]
    stream = chat_stream(
        chat, asked, stop_at_end_of_turn=stop_at_end_of_turn, batch_size=batch_size
    )
    if stream is not None:
        yield from streamed(chat, stream, asked)
        return
    for indices in by_length(prompts, batch_size=batch_size):
        own = [asked[i] for i in indices]
        yield indices, answered(chat, own, stop_at_end_of_turn=stop_at_end_of_turn)


def chat_stream(
    chat: ChatModel, asked: Sequence[Asked], *, stop_at_end_of_turn: bool, batch_size: int
) -> Stream | None:
    """What writes the answers of a chat model; None where its rows cannot leave and join."""
    return stream_of(
        chat.model,
        chat.anatomy,
        asked,
        pad_id=chat.pad_id,
        stops=end_of_turn_ids(chat) if stop_at_end_of_turn else frozenset[int](),
        batch_size=batch_size,
    )


def streamed(
    chat: ChatModel, stream: Stream, asked: Sequence[Asked]
) -> Iterator[tuple[list[int], list[Generated]]]:
    """Yield places and answers of rows as they are done."""
    for some in stream.run(asked):
        places = [place for place, _ in some]
        yield places, [generated(chat, ids, stream.stops) for _, ids in some]


def limit_of(chat: ChatModel, prompt: Prompt, max_new_tokens: int) -> int:
    """How many tokens an answer may have: no more than its own prompt leaves."""
    return max(1, int(min(max_new_tokens, chat.room(prompt))))


def answered(
    chat: ChatModel, asked: Sequence[Asked], *, stop_at_end_of_turn: bool
) -> list[Generated]:
    """The answers to one batch of prompts, each under its own intervention.

    A batch that does not fit into memory is halved until it does. Where the model's context ends
    before the token limit, an answer ends there: after as many tokens as its own prompt leaves,
    whatever else is in its batch.
    """

    def run(limit: int, rows: Sequence[int]) -> list[Generated]:
        with intervene(chat.model, chat.anatomy, [asked[i].edit for i in rows]):
            return generate_greedy(
                chat,
                [asked[i].prompt for i in rows],
                max_new_tokens=limit,
                stop_at_end_of_turn=stop_at_end_of_turn,
            )

    places: dict[int, list[int]] = {}
    for i, one in enumerate(asked):
        places.setdefault(one.limit, []).append(i)
    done: dict[int, Generated] = {}
    for limit, own in places.items():
        halves = in_halves(own, partial(run, limit), what="prompts")
        done |= dict(zip(own, [one for half in halves for one in half], strict=True))
    return [done[i] for i in range(len(asked))]
