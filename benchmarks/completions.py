"""Completions side by side: fixed batches, and rows that leave as they are done.

The same prompts under the same conditions in one process, in turn: `generate` in fixed batches,
each of which waits for its longest, against rows that leave and join. What the lengths allow is the
sum over batches of rows times longest, over the sum of all lengths. Every text that differs is
shown as the gap of log-probability at the first token that does.

    python benchmarks/completions.py [MODEL] --direction RUN [--instructions FILE] [--json]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from refusalscope.data.read import read_instructions
from refusalscope.directions.direction import load_direction
from refusalscope.generate.answers import answered, chat_stream, limit_of, streamed
from refusalscope.generate.greedy import Generated
from refusalscope.generate.stream import Asked, Stream
from refusalscope.interventions.intervention import condition_intervention
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.organisms.organism import read_organism, resolve_model
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.records import Condition

CONDITIONS: tuple[Condition, ...] = (
    *("baseline", "ablation", "addition", "subtraction", "random_ablation"),
)


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=RunOptions().model)
    parser.add_argument("--direction", help="Folder of a run; else a random direction.")
    parser.add_argument("--instructions", help="File of instructions; else the organism's.")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    result = compare(parser.parse_args())
    if parser.parse_args().json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")


def compare(given: argparse.Namespace) -> dict[str, object]:
    """Run both in turn, `repeats` times; the ratio is that of the median times."""
    chat = load_chat_model(resolve_model(given.model))
    asked = _asked(chat, given)
    stream = chat_stream(chat, asked, stop_at_end_of_turn=True, batch_size=given.batch_size)
    if stream is None:
        return {"ratio": None, "why": "rows of this model cannot leave and join"}
    size = given.batch_size
    # As plan makes them: of about equal prompt length.
    order = sorted(range(len(asked)), key=lambda i: (len(asked[i].prompt.ids), i))
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    ways: dict[str, Callable[[], list[Generated]]] = {
        "fixed": lambda: _fixed(chat, asked, batches),
        "stream": lambda: _streamed(chat, stream, [asked[i] for i in order], order),
    }
    found: dict[str, list[Generated]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - began)
    lengths = [len(one.ids) + one.ended for one in found["fixed"]]
    waited = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    ratio = statistics.median(seconds["fixed"]) / statistics.median(seconds["stream"])
    gaps = [
        gap_where_they_part(stream, asked[i], one.ids, other.ids)
        for i, (one, other) in enumerate(zip(found["fixed"], found["stream"], strict=True))
        if one.ids != other.ids
    ]
    return {
        "compared": "seconds of generate in fixed batches over seconds of rows that leave",
        "ratio": ratio,
        "allowed_by_lengths": waited / sum(lengths),
        "share_of_allowed": ratio / (waited / sum(lengths)),
        "n": len(asked),
        "n_equal": len(asked) - len(gaps),
        "gaps_where_they_part": gaps,
        "tokens": sum(lengths),
        "longest": max(lengths),
        "repeats": given.repeats,
        "threads": torch.get_num_threads(),
    }


def _asked(chat: ChatModel, given: argparse.Namespace) -> list[Asked]:
    if given.instructions is not None:
        texts = [one.text for one in read_instructions(Path(given.instructions))][: given.n]
    else:
        organism = read_organism(Path(resolve_model(given.model)))
        if organism is None:
            raise SystemExit("give --instructions FILE: only organisms bring their own")
        language = organism.language()
        half = given.n // 2
        texts = [
            one.instruction
            for harmful in (True, False)
            for one in language.instructions("test", harmful=harmful, n=half, seed=0)
        ]
    vector, layer = _direction(chat, given.direction)
    edits = [
        condition_intervention(name, vector=vector, layer=layer, control_seed=0)
        for name in CONDITIONS
    ]
    return [
        Asked(prompt=prompt, edit=edit, limit=limit_of(chat, prompt, given.max_new_tokens))
        for prompt in chat.encode(texts)
        for edit in edits
    ]


def _direction(chat: ChatModel, folder: str | None) -> tuple[torch.Tensor, int]:
    if folder is not None:
        own = load_direction(Path(folder), d_model=chat.d_model)
        return own.vector, own.layer or chat.n_layers // 2
    generator = torch.Generator().manual_seed(0)
    return torch.randn(chat.d_model, generator=generator), chat.n_layers // 2


def _fixed(chat: ChatModel, asked: list[Asked], batches: list[list[int]]) -> list[Generated]:
    found: dict[int, Generated] = {}
    for batch in batches:
        own = answered(chat, [asked[i] for i in batch], stop_at_end_of_turn=True)
        found |= dict(zip(batch, own, strict=True))
    return [found[i] for i in range(len(asked))]


def _streamed(
    chat: ChatModel, stream: Stream, asked: list[Asked], order: list[int]
) -> list[Generated]:
    found: dict[int, Generated] = {}
    for places, rows in streamed(chat, stream, asked):
        found |= {order[place]: one for place, one in zip(places, rows, strict=True)}
    return [found[i] for i in range(len(asked))]


def gap_where_they_part(
    stream: Stream, asked: Asked, first: Sequence[int], second: Sequence[int]
) -> float:
    """Nats between both tokens where two answers part, by the row alone."""
    n = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )
    logits = stream.alone(asked, list(first[:n]))
    top = logits.topk(2).values
    return (top[0] - top[1]).item()


if __name__ == "__main__":
    main()
