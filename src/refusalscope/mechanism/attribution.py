"""What every head, MLP and bias adds, at the last token, to the projection on a direction."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.directions.direction import unit_direction
from refusalscope.engine.rows import Engine, Step, engine_of
from refusalscope.mechanism.head_layout import HeadLayouts
from refusalscope.mechanism.head_readers import HeadReader, head_readers
from refusalscope.mechanism.probes import Probe, reading, reduced
from refusalscope.models.anatomy import Anatomy
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import require_finite
from refusalscope.models.prompts import Prompt
from refusalscope.results.mechanism_records import ComponentKind

_KINDS: dict[str, ComponentKind] = {
    "attn_out": "attention",
    "mixer_out": "mixer",
    "mlp_out": "mlp",
    "block_out": "block",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Something that writes to the residual stream.

    Attributes:
        writer: Index in `Anatomy.writers`; None for the embedding.
        layer: None for the embedding.
        head: Of a `head` only.
    """

    kind: ComponentKind
    writer: int | None = None
    layer: int | None = None
    head: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Contributions of all components to the projection on a unit direction, in float64.

    Attributes:
        components: In the order in which they write.
        projections: Of resid_pre of each layer, and of the last resid_post.
        carries: What each layer multiplies the stream with before it adds to it.
    """

    components: tuple[Component, ...]
    contributions: Float[Tensor, "prompt component"]
    projections: Float[Tensor, "prompt boundary"]
    carries: tuple[float, ...]

    def sums(self) -> Float[Tensor, "prompt boundary"]:
        """What the components up to each boundary add up to."""
        layers = torch.tensor([-1 if c.layer is None else c.layer for c in self.components])
        total = self.contributions[:, layers == -1].sum(1)
        sums = [total]
        for layer, carry in enumerate(self.carries):
            total = carry * total + self.contributions[:, layers == layer].sum(1)
            sums.append(total)
        return torch.stack(sums, dim=1)

    def sum_error(self) -> float:
        """Largest difference between sums and projections, relative to their root mean square."""
        size = self.projections.square().mean(0).sqrt()
        return ((self.sums() - self.projections).abs() / size).max().item()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributor:
    """Everything that attribution needs of a model and a direction, prepared once."""

    anatomy: Anatomy
    readers: dict[int, HeadReader]
    """By index of the writer."""
    streams: tuple[Probe, ...]
    writers: tuple[Probe, ...]

    def of(self, engine: Engine, prompts: Sequence[Prompt]) -> Attribution:
        """The attribution of prompts in the order given, with one forward pass each.

        Raises:
            NumericalError: a logit is NaN or infinite.
        """
        parts: list[Attribution] = []
        order: list[int] = []
        for rows, part in engine.run(prompts, self._of_step, around=self._reading):
            parts.append(part)
            order += rows
        back = torch.tensor(order).argsort()
        return Attribution(
            components=parts[0].components,
            contributions=torch.cat([part.contributions for part in parts])[back],
            projections=torch.cat([part.projections for part in parts])[back],
            carries=self.anatomy.carries,
        )

    @property
    def _probes(self) -> list[Probe]:
        own = [probe for reader in self.readers.values() for probe in reader.probes]
        return [*self.streams, *self.writers, *own]

    def _reading(self, batch: Batch) -> AbstractContextManager[dict[int, Tensor]]:
        return reading(self._probes, batch)

    def _of_step(self, step: Step) -> Attribution:
        require_finite(step.logits)
        values = iter(reduced(self._probes, step.seen))
        streams = [next(values) for _ in self.streams]
        written = [next(values) for _ in self.writers]
        divided = {
            index: reader.contributions([next(values) for _ in reader.probes])
            for index, reader in self.readers.items()
        }
        columns, parts = [Component(kind="embedding")], [streams[0][:, None]]
        for index, writer in enumerate(self.anatomy.writers):
            place = {"writer": index, "layer": writer.layer}
            reader = self.readers.get(index)
            if reader is None:
                columns.append(Component(kind=_KINDS[writer.site], **place))
            else:
                columns += [Component(kind="head", head=i, **place) for i in range(reader.n_heads)]
                columns += [Component(kind="bias", **place)] if reader.has_bias else []
            part = written[index][:, None] if reader is None else divided[index]
            parts.append(writer.coefficient * part)
        return Attribution(
            components=tuple(columns),
            contributions=torch.cat(parts, dim=1),
            projections=torch.stack(streams, dim=1),
            carries=self.anatomy.carries,
        )


def attributor(
    model: PreTrainedModel, heads: HeadLayouts, direction: Float[Tensor, " d_model"]
) -> Attributor:
    """Prepare the attribution of a model's components to a direction."""
    unit = unit_direction(direction).to("cpu", torch.float64)

    def project(rows: Tensor) -> Tensor:
        return rows @ unit

    layers = heads.anatomy.layer_modules(model)
    streams = [Probe(module=m, kind="stream", is_input=True, reduce=project) for m in layers]
    streams.append(Probe(module=layers[-1], kind="stream", is_input=False, reduce=project))
    writers = [
        Probe(module=model.get_submodule(w.module), kind="writer", is_input=False, reduce=project)
        for w in heads.anatomy.writers
    ]
    return Attributor(
        anatomy=heads.anatomy,
        readers=head_readers(model, heads, unit),
        streams=tuple(streams),
        writers=tuple(writers),
    )


def attribute(
    chat: ChatModel,
    heads: HeadLayouts,
    prompts: Sequence[Prompt],
    direction: Float[Tensor, " d_model"],
    *,
    batch_size: int = 32,
) -> Attribution:
    """Direct feature attribution at the last token (paper section 5.2, Figure 6a).

    The contribution of a component is the projection, on the unit direction, of what it writes to
    the residual stream at the last token: for a head, its output times its part of the output
    projection. Where a norm lies between the heads and the stream (Gemma 2, OLMo 2), it is taken
    at the scale that it had there. One forward pass a prompt; of each prompt nothing is kept but a
    number for each component.

    Raises:
        NumericalError: a logit is NaN or infinite.
    """
    prepared = attributor(chat.model, heads, direction)
    return prepared.of(engine_of(chat, batch_size=batch_size), prompts)
