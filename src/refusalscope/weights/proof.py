"""The proof that an anatomy is whole: a direction taken out of its tensors is out of the stream."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.models.anatomy import Anatomy
from refusalscope.models.anatomy_search import rounding_of
from refusalscope.models.layers import find_layers
from refusalscope.models.trace import Trace, quiet_state, random_tokens, record_trace
from refusalscope.weights.orthogonalize import orthogonalized
from refusalscope.weights.span import Rows, measure_span, rows_in_memory
from refusalscope.weights.tensor_edit import TensorEdit


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is left of a random direction in the residual stream after weight orthogonalization.

    A leftover is the largest |r . x| / (|r| |x|) over the tokens of a random batch.
    """

    leftover: float
    """Largest over all layers."""
    leftover_by_layer: tuple[float, ...]
    """At the input of each layer, then at the output of the last."""
    leftover_before: float
    """The same as `leftover`, before the edit: what a failure looks like."""
    tolerance: float
    """Rounding in the model's dtype; a leftover below it counts as none."""
    n_writers: int
    n_writers_proven: int
    """Writers whose own output has no component along the direction."""
    n_tensors: int
    n_tensors_proven: int
    """Tensors that cannot write along the direction any more, whatever tokens reach them."""
    seed: int

    @property
    def coverage(self) -> float:
        """The share of writers and of tensors that are proven, the smaller of the two."""
        return min(self.n_writers_proven / self.n_writers, self.n_tensors_proven / self.n_tensors)

    @property
    def is_proven(self) -> bool:
        """Whether nothing of the direction is left anywhere."""
        return self.coverage == 1.0 and self.leftover < self.tolerance


def prove(model: nn.Module, anatomy: Anatomy, *, seed: int = 0) -> Proof:
    """Orthogonalize with a random direction, run random tokens, look for what is left of it.

    Two forward passes. The model is left as it was, bit for bit; while it runs, the originals of
    the edited tensors are kept in memory.

    Args:
        anatomy: With feeders.

    Raises:
        AnatomyError: The anatomy has no feeders, or is not of this model.
    """
    tokens = random_tokens(model, seed=seed + 1, shape=(2, 6))
    direction = torch.randn(
        anatomy.d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    with quiet_state(model, requires_grad=False):
        before = record_trace(model, tokens, with_graph=False)
        with orthogonalized(model, anatomy, direction) as edits:
            after = record_trace(model, tokens, with_graph=False)
            tensors = [_tensor_leftover(model.get_parameter(e.parameter), e) for e in edits]
    by_layer = stream_leftovers(after, direction)
    stream = find_layers(after)[0].resid_pre
    tolerance = _tolerance(stream.dtype, anatomy.d_model)
    writers = [
        by_layer[0]
        if writer.layer is None
        else _writer_leftover(after, model.get_submodule(writer.module), direction)
        for writer in anatomy.all_writers
    ]
    return Proof(
        leftover=max(by_layer),
        leftover_by_layer=by_layer,
        leftover_before=max(stream_leftovers(before, direction)),
        tolerance=tolerance,
        n_writers=len(writers),
        n_writers_proven=sum(value < tolerance for value in writers),
        n_tensors=len(tensors),
        n_tensors_proven=sum(value < tolerance for value in tensors),
        seed=seed,
    )


def _tolerance(dtype: torch.dtype, d_model: int) -> float:
    """What rounding leaves along a random direction, with room.

    Up to 8 times eps / sqrt(d_model) was seen in 139 float32 miniatures (sums are rounded too), and
    2 times in models whose weights and activations were rounded to bfloat16.
    """
    room = 64 if torch.finfo(dtype).bits >= 32 else 16
    return room * rounding_of(dtype) / d_model**0.5


def leftover(rows: Float[Tensor, "... d_model"], direction: Float[Tensor, " d_model"]) -> float:
    """The largest |r . x| / (|r| |x|) over the rows x that are not zero."""
    flat = rows.detach().to("cpu", torch.float64).reshape(-1, rows.shape[-1])
    unit = direction.to("cpu", torch.float64) / direction.double().norm().cpu()
    sizes = flat.norm(dim=-1)
    shares = (flat @ unit).abs() / sizes.clamp_min(torch.finfo(torch.float64).tiny)
    return float(shares.max()) if shares.numel() > 0 else 0.0


def stream_leftovers(trace: Trace, direction: Float[Tensor, " d_model"]) -> tuple[float, ...]:
    """The leftover at the input of each layer, then at the output of the last."""
    layers = find_layers(trace)
    streams = [*(layer.resid_pre for layer in layers), layers[-1].resid_post]
    return tuple(leftover(stream, direction) for stream in streams)


def _writer_leftover(
    trace: Trace, module: nn.Module, direction: Float[Tensor, " d_model"]
) -> float:
    outputs = [call.output for call in trace.calls if call.module is module]
    return max(leftover(output, direction) for output in outputs if output is not None)


def _tensor_leftover(weight: Tensor, edit: TensorEdit) -> float:
    """What is left in a tensor, relative to a random tensor of its size: |r . W| / |W|."""
    rows = Rows.of(tuple(weight.shape), edit.axis)
    found = measure_span(rows_in_memory(weight.detach(), rows), rows, torch.stack(edit.directions))
    return found.size / found.norm if found.norm > 0 else 0.0
