"""What attribution costs beside a plain forward pass, and how its memory grows.

A plain pass is one forward pass of the same prompts in the same batches that keeps the logits of
the last tokens. Attribution is that pass with every head, MLP and bias projected on a direction;
attention by region is a pass up to the last token and that token alone.

    python benchmarks/mechanism.py [MODEL] [--prompts N] [--json]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.engine.eager_attention import last_token_attention
from refusalscope.mechanism.attention_regions import SuffixedPrompt, attention_by_region
from refusalscope.mechanism.attribution import Attribution, attribute
from refusalscope.mechanism.head_layout import HeadLayouts, measure_heads
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.models.prompts import Prompt
from refusalscope.models.trace import random_tokens
from refusalscope.organisms.organism import read_organism, resolve_model
from refusalscope.pipeline.instructions import read_instruction_sets
from refusalscope.pipeline.options import RunOptions

BATCH = 32
LENGTHS = (128, 256, 512)


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=RunOptions().model)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = compare(arguments.model, n_prompts=arguments.prompts, repeats=arguments.repeats)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")


def compare(model: str, *, n_prompts: int, repeats: int) -> dict[str, object]:
    """Run each in turn, `repeats` times; ratios are those of the median times."""
    chat, prompts = _prepare(model, n_prompts)
    heads = measure_heads(chat.model)
    direction = torch.randn(chat.d_model, generator=torch.Generator().manual_seed(0))
    top = [(layout, head) for layout in heads.layouts for head in range(layout.n_heads)][:8]
    suffixed = [SuffixedPrompt(prompt=p) for p in prompts]

    def attributed(some: list[Prompt] = prompts) -> Attribution:
        return attribute(chat, heads, some, direction, batch_size=BATCH)

    work: dict[str, Callable[[], object]] = {
        "plain": lambda: refusal_metrics(chat, prompts, (0,), batch_size=BATCH),
        "attribution": attributed,
        "attention": lambda: attention_by_region(chat, top, suffixed, batch_size=BATCH),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for function in work.values():
        function()
    for _ in range(repeats):
        for name, function in work.items():
            _timed(function, seconds[name])
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    error = attributed().sum_error()
    largest = _largest_by_length(chat, heads, direction)
    return {
        "compared": "seconds of attribution over seconds of a plain forward pass, same batches",
        "ratio": medians["attribution"] / medians["plain"],
        "ratio_attention_by_region": medians["attention"] / medians["plain"],
        "seconds": medians,
        "n_prompts": len(prompts),
        "sum_error": error,
        "sums_agree_to_1e-4": error < 1e-4,
        "bytes_held_by_prompts": {
            n: _bytes(attributed(prompts[:n])) for n in (len(prompts) // 2, len(prompts))
        },
        "largest_tensor_by_length": largest,
        "grows_with_square_of_length": any(
            own[LENGTHS[-1]] / own[LENGTHS[0]] > 2 * LENGTHS[-1] / LENGTHS[0]
            for own in largest.values()
        ),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }


class Largest(TorchDispatchMode):
    """Remembers the size, in bytes, of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever an operation returns
        """Run the operation and look at what it returns."""
        del types
        output = func(*args, **(kwargs or {}))
        for each in output if isinstance(output, tuple | list) else [output]:
            if isinstance(each, Tensor):
                self.bytes = max(self.bytes, each.numel() * each.element_size())
        return output


def _largest_by_length(
    chat: ChatModel, heads: HeadLayouts, direction: Tensor
) -> dict[str, dict[int, int]]:
    """Largest tensor in bytes that one prompt of each length makes, parameters left out."""
    found: dict[str, dict[int, int]] = {"attribution": {}, "attention": {}}
    for length in LENGTHS:
        ids = random_tokens(chat.model, seed=0, shape=(1, length))
        prompt = Prompt(ids=tuple(ids[0].tolist()), n_post=1)
        # What is prepared once for a model does not depend on the prompts.
        attribute(chat, heads, [prompt], direction)
        with ExitStack() as stack:
            seen = stack.enter_context(Largest())
            last_token_attention(chat.model, ids)
            found["attention"][length] = seen.bytes
        with ExitStack() as stack:
            seen = stack.enter_context(Largest())
            attribute(chat, heads, [prompt], direction)
            found["attribution"][length] = seen.bytes
    return found


def _bytes(found: Attribution) -> int:
    tensors = (found.contributions, found.projections)
    return sum(t.numel() * t.element_size() for t in tensors)


def _prepare(model: str, n_prompts: int) -> tuple[ChatModel, list[Prompt]]:
    source = resolve_model(model)
    organism = read_organism(Path(source))
    options = RunOptions(model=model, n_train=n_prompts)
    sets = read_instruction_sets(options, organism.language() if organism else None)
    chat = load_chat_model(source)
    return chat, chat.encode([i.text for i in sets["harmful_train"].instructions])


def _timed(function: Callable[[], object], into: list[float]) -> None:
    started = time.perf_counter()
    function()
    into.append(time.perf_counter() - started)


if __name__ == "__main__":
    main()
