"""What can be wrong with a model that was loaded, or was not."""

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from refusalscope.errors import ModelLoadError, NumericalError
from refusalscope.models.causes import is_out_of_memory


def not_loaded(
    why: str, error: BaseException, *, config: PretrainedConfig, source: str
) -> ModelLoadError:
    """The error of a model whose weights a library could not load, with what helps."""
    quantized = getattr(config, "quantization_config", None)
    if is_out_of_memory(error):
        advice = (
            "there is not enough memory for it: give --dtype bfloat16, another --device, or "
            "--device spread, or use a smaller model"
        )
    elif quantized:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        advice = (
            f"it is quantized ({method or getattr(quantized, 'quant_method', 'method not named')}):"
            f" install the package that this needs, or use the unquantized checkpoint"
        )
    else:
        advice = "check that the folder is whole"
    return ModelLoadError(f"the weights of {source} cannot be loaded ({why}); {advice}")


def require_usable(model: PreTrainedModel, source: str) -> None:
    """Refuse a model whose weights are elsewhere, of a kind none computes in, or no numbers.

    Raises:
        ModelLoadError: parts of it were moved off the devices, or are stored in eight bits.
        NumericalError: NaN or infinity in the weights.
    """
    parameters = dict(model.named_parameters())
    away = [name for name, parameter in parameters.items() if parameter.is_meta]
    if away:
        raise ModelLoadError(
            f"{source} does not fit into the memory of the accelerators: {len(away)} of its "
            f"{len(parameters)} weights (first: {away[0]}) were moved off them, where they cannot "
            f"be looked at; use more accelerators, --dtype bfloat16, or --device cpu"
        )
    for name, parameter in parameters.items():
        if not _is_finite(parameter):
            raise NumericalError(
                f"weight {name} of {source} has NaN or infinite values; the checkpoint is damaged: "
                f"get it again"
            )
    small = [name for name, parameter in parameters.items() if _is_eight_bits(parameter)]
    if small and not getattr(model, "is_quantized", False):
        raise ModelLoadError(
            f"{len(small)} weights of {source} (first: {small[0]}) are stored as "
            f"{parameters[small[0]].dtype}, in which nothing is computed; give --dtype bfloat16"
        )


def _is_eight_bits(value: Tensor) -> bool:
    return value.is_floating_point() and value.element_size() == 1


def _is_finite(value: Tensor) -> bool:
    # No device tells whether numbers of eight bits are finite.
    whole = value.float() if _is_eight_bits(value) else value
    return bool(torch.isfinite(whole).all())
