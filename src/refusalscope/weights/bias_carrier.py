"""Which bias adds a vector to the residual stream before a layer: found by trying."""

import torch
from transformers import PreTrainedModel

from refusalscope.models.anatomy import Anatomy
from refusalscope.models.layers import find_layers
from refusalscope.models.trace import quiet_state, random_tokens, record_trace

_TOLERANCE = 1e-5


def find_bias(
    model: PreTrainedModel, anatomy: Anatomy, layer: int, *, seed: int
) -> tuple[str, float] | None:
    """A bias of the layer before that does it, with its writer's coefficient; the last to write."""
    for writer in reversed(anatomy.writers_of(layer - 1)):
        for feeder in writer.feeders:
            is_vector = model.get_parameter(feeder.parameter).ndim == 1
            if (
                is_vector
                and not feeder.norms
                and _adds(model, feeder.parameter, writer.coefficient, layer, seed=seed)
            ):
                return feeder.parameter, writer.coefficient
    return None


def _adds(
    model: PreTrainedModel, parameter: str, coefficient: float, layer: int, *, seed: int
) -> bool:
    """Whether a vector added to a bias is what is added before a layer, and all that is."""
    tokens = random_tokens(model, seed=seed, shape=(2, 6))
    bias = model.get_parameter(parameter)
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(bias.shape, generator=generator)
    with quiet_state(model, requires_grad=False), torch.no_grad():
        before = find_layers(record_trace(model, tokens, with_graph=False))[layer].resid_pre
        bias.add_(vector / coefficient)
        after = find_layers(record_trace(model, tokens, with_graph=False))[layer].resid_pre
        bias.sub_(vector / coefficient)
    off = (after - before - vector).abs().max()
    return float(off) < _TOLERANCE * float(before.abs().max() + vector.abs().max())
