"""Numbers read off modules at the last token while a batch runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.engine.rows import at_last_token, taken_off
from refusalscope.models.batches import Batch
from refusalscope.models.hooks import Observe, observe_inputs
from refusalscope.models.observe_outputs import observe_outputs

Reduce = Callable[[Float[Tensor, "batch width"]], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Something to read off one run of one module.

    Attributes:
        kind: What it reads. Of several probes of one kind on one module the first reads its first
            run, the second its second, and so on.
        is_input: Whether it reads what enters the module, or what leaves it.
        reduce: From the rows of the last tokens, on the CPU in float64, to what is kept.
    """

    module: nn.Module
    kind: str
    is_input: bool
    reduce: Reduce


@contextmanager
def reading(probes: Sequence[Probe], batch: Batch) -> Iterator[dict[int, Tensor]]:
    """Read probes while the context is open; yields the rows that they read, by their index."""
    read: dict[int, Tensor] = {}
    waiting: dict[tuple[nn.Module, str, bool], list[int]] = {}
    for index, probe in enumerate(probes):
        waiting.setdefault((probe.module, probe.kind, probe.is_input), []).append(index)
    with ExitStack() as stack:
        for (module, _, is_input), indices in waiting.items():
            observe = _reader(iter(indices), batch, read)
            attach = observe_inputs if is_input else observe_outputs
            stack.enter_context(attach([(module, observe)]))
        yield read


def reduced(probes: Sequence[Probe], read: dict[int, Tensor]) -> list[Tensor]:
    """What each probe makes of the rows that it read, on the CPU in float64."""
    rows = taken_off([read[index] for index in range(len(probes))])
    return [probe.reduce(own) for probe, own in zip(probes, rows, strict=True)]


def _reader(indices: Iterator[int], batch: Batch, read: dict[int, Tensor]) -> Observe:
    def observe(hidden: Tensor) -> None:
        if (index := next(indices, None)) is not None:
            read[index] = at_last_token(hidden, batch)

    return observe
