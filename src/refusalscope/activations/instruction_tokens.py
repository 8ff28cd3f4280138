"""What stands at the tokens of an instruction: read at any layer and site, reduced on the device.

A reading takes from each module's output what it needs of each row while the pass runs (the vector
at a token, the mean over tokens, or a number for each token), so vectors of all tokens at all
layers are never held.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from refusalscope.engine.rows import Around, Step, engine_of, taken_off, untouched
from refusalscope.errors import InputError, NumericalError
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import Observe, by_rows, observe_inputs
from refusalscope.models.observe_outputs import observe_outputs
from refusalscope.models.prompts import Prompt, n_template_tokens
from refusalscope.results.monitor_records import MonitorSite

_WRITERS: dict[MonitorSite, tuple[str, ...]] = {
    "attn": ("attn_out", "mixer_out"),
    "mlp": ("mlp_out",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Columns of each row of a batch: the instruction's first and last token, the prompt's last."""

    first: Int[Tensor, " batch"]
    end: Int[Tensor, " batch"]
    last: Int[Tensor, " batch"]

    def to(self, device: torch.device, *, shift: int) -> "Spans":
        """On a device, moved by tokens that a model puts before the prompt by itself (CPM-Ant)."""
        return Spans(
            first=self.first.to(device) + shift,
            end=self.end.to(device) + shift,
            last=self.last.to(device) + shift,
        )

    def instruction(self, width: int) -> Tensor:
        """Which columns are the instruction's, by row."""
        columns = torch.arange(width, device=self.first.device)[None]
        return (columns >= self.first[:, None]) & (columns <= self.end[:, None])


Take = Callable[[Float[Tensor, "batch pos d_model"], int, Spans], Tensor]
"""From what a module returns, of which layer, to what is kept of each row; linear in the first."""
Finish = Callable[[Tensor, Spans], Tensor]
"""From the sum of what was taken of a layer's modules to what is handed out."""


def at_instruction_end(hidden: Tensor, _layer: int, spans: Spans) -> Float[Tensor, "batch d_model"]:
    """The vector at the instruction's last token; with a suffix that is the suffix's last."""
    return _picked(hidden, spans.end)


def at_position(position: int) -> Take:
    """The vector at a token counted from the end of the prompt; -1 is the template's last."""

    def take(hidden: Tensor, _layer: int, spans: Spans) -> Tensor:
        return _picked(hidden, spans.last + 1 + position)

    return take


def together(*takes: Take) -> Take:
    """What each of several takes, stacked behind the batch: two readings from one pass."""

    def take(hidden: Tensor, layer: int, spans: Spans) -> Float[Tensor, "batch take *width"]:
        return torch.stack([one(hidden, layer, spans) for one in takes], dim=1)

    return take


def instruction_mean(hidden: Tensor, _layer: int, spans: Spans) -> Float[Tensor, "batch d_model"]:
    """The mean over the instruction's tokens."""
    mask = spans.instruction(hidden.shape[1])[..., None]
    total = torch.where(mask, hidden.float(), 0.0).sum(1)
    return total / (spans.end - spans.first + 1)[:, None]


def along(directions: Mapping[int, Float[Tensor, " d_model"]]) -> Take:
    """The dot product of every token with a vector of its layer, in float32."""

    def take(hidden: Tensor, layer: int, _spans: Spans) -> Float[Tensor, "batch pos"]:
        return hidden.float() @ directions[layer].to(hidden.device, torch.float32)

    return take


def largest_window_mean(window: int) -> Finish:
    """The largest mean over `window` neighbouring tokens of the instruction.

    A single token that stands out among others is not enough: as many as the window must agree. Of
    an instruction with fewer tokens it is the mean of all. After
    https://arxiv.org/abs/2604.14865 (2026), where requiring that a segment agrees raised the true
    positive rate at 1 % FPR, and the probes of Kramár et al. (2026),
    https://arxiv.org/abs/2601.11516, who take a maximum where a mean over a long context drowns.
    """

    def finish(tokens: Float[Tensor, "batch pos"], spans: Spans) -> Float[Tensor, " batch"]:
        inside = spans.instruction(tokens.shape[1])
        sums = torch.where(inside, tokens, 0.0).double().cumsum(1)
        sums = nn.functional.pad(sums, (1, 0))
        length = spans.end - spans.first + 1
        width = length.clamp(max=window)
        columns = torch.arange(tokens.shape[1], device=tokens.device)[None]
        ends = columns.expand_as(tokens)
        begins = (ends + 1 - width[:, None]).clamp(min=0)
        means = (sums.gather(1, ends + 1) - sums.gather(1, begins)) / width[:, None]
        is_whole = inside & (ends + 1 - width[:, None] >= spans.first[:, None])
        return torch.where(is_whole, means, -torch.inf).amax(1)

    return finish


def unchanged(taken: Tensor, _spans: Spans) -> Tensor:
    """What was taken."""
    return taken


def site_layers(chat: ChatModel, site: MonitorSite) -> tuple[int, ...]:
    """The layers that have this site.

    Raises:
        InputError: none has.
    """
    if site == "resid":
        return tuple(range(chat.n_layers))
    found = {w.layer for w in chat.anatomy.writers if w.site in _WRITERS[site]}
    if not found:
        there = ", ".join(sorted({w.site for w in chat.anatomy.writers}))
        raise InputError(
            f"no layer of {chat.name} has an output that can be told to be {site} (there are: "
            f"{there}); read the stream with --site resid"
        )
    return tuple(sorted(layer for layer in found if layer is not None))


def read_instructions_at(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    site: MonitorSite,
    layers: Sequence[int],
    take: Take,
    finish: Finish = unchanged,
    around: Around = untouched,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, "prompt layer *width"]:
    """What `take` and `finish` make of each prompt at each layer, in one pass, in float32.

    `resid` is resid_pre of a layer; `attn` (mixers too) and `mlp` are what these add to the stream
    there: the sum over the layer's writers of that kind, each times its coefficient.

    Args:
        around: What is in force while a batch runs; what it does to the stream is seen.

    Raises:
        NumericalError: something that was read is NaN or infinite.
    """
    n_before = n_template_tokens(chat.prompt_format)
    n_post = len(chat.prompt_format.post_instruction)
    found: Tensor | None = None

    @contextmanager
    def taking(batch: Batch) -> Generator[_Taken]:
        end = batch.last - n_post
        spans = Spans(first=end.clamp(max=n_before - batch.n_before), end=end, last=batch.last)
        taken = _Taken(batch=batch, spans=spans, take=take)
        with _observing(chat, site, layers, taken):
            yield taken

    def reduced(step: Step) -> Tensor:
        done = [step.seen.finished(layer, finish) for layer in layers]
        return torch.stack(taken_off(done), dim=1).float()

    engine = engine_of(chat, batch_size=batch_size)
    for rows, own in engine.run(
        prompts, reduced, edited=around, around=taking, n_shared=n_before, progress=progress
    ):
        if not bool(own.isfinite().all()):
            raise NumericalError(
                f"an activation of {chat.name} at {site} is NaN or infinite; load the model in a "
                f"wider type: --dtype float32"
            )
        if found is None:
            found = torch.empty(len(prompts), *own.shape[1:])
        found[rows] = own
    assert found is not None, "there is at least one prompt"
    return found


@dataclass(slots=True, kw_only=True)
class _Taken:
    """What was taken of one batch, summed over the modules of each layer."""

    batch: Batch
    spans: Spans
    take: Take
    sums: dict[int, Tensor] = field(default_factory=dict)
    shift: int = 0

    def add(self, hidden: Tensor, layer: int, coefficient: float) -> None:
        """Take from what one module returned."""
        rows = by_rows(hidden, len(self.batch.last))
        self.shift = rows.shape[1] - self.batch.input_ids.shape[1]
        own = coefficient * self.take(rows, layer, self.spans.to(rows.device, shift=self.shift))
        before = self.sums.get(layer)
        self.sums[layer] = own if before is None else before + own.to(before.device)

    def finished(self, layer: int, finish: Finish) -> Tensor:
        """What is handed out of one layer."""
        total = self.sums[layer]
        return finish(total, self.spans.to(total.device, shift=self.shift))


def _observing(
    chat: ChatModel, site: MonitorSite, layers: Sequence[int], taken: _Taken
) -> AbstractContextManager[None]:
    """Take from each module while the context is open."""

    def observer(turns: Iterator[tuple[int, float]]) -> Observe:
        def observe(hidden: Tensor) -> None:
            layer, coefficient = next(turns)
            if layer in layers:
                taken.add(hidden, layer, coefficient)

        return observe

    if site == "resid":
        return observe_inputs([(chat.layers[i], observer(iter([(i, 1.0)]))) for i in layers])
    turns: dict[nn.Module, list[tuple[int, float]]] = {}
    for writer in chat.anatomy.writers:
        if writer.layer is not None and writer.site in _WRITERS[site]:
            module = chat.model.get_submodule(writer.module)
            turns.setdefault(module, []).append((writer.layer, writer.coefficient))
    return observe_outputs([(module, observer(iter(own))) for module, own in turns.items()])


def _picked(hidden: Tensor, columns: Int[Tensor, " batch"]) -> Float[Tensor, "batch d_model"]:
    return hidden[torch.arange(len(columns), device=hidden.device), columns].float()
