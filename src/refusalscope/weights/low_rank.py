"""The A and B of LoRA for the removal of directions, in the layout and under the names of PEFT."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Float32
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from refusalscope.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """A and B of one parameter, with the names that PEFT gives them."""

    names: tuple[str, str]
    a: Float32[Tensor, "rank_in columns"]
    b: Float32[Tensor, "rows rank_out"]


def low_rank(
    model: nn.Module,
    parameter: str,
    *,
    axis: int,
    basis: Float[Tensor, "rank d_model"],
    along: Float[Tensor, "rank other"],
) -> LowRank:
    """A and B with W + B A = W - U^T U W.

    Args:
        axis: The axis of the parameter that is d_model.
        basis: U.
        along: U W, with the other axes laid out as one.
    """
    module, _, _ = parameter.rpartition(".")
    prefix = f"base_model.model.{module}."
    shape = model.get_parameter(parameter).shape
    kind = model.get_submodule(module)
    unit, along = basis.float(), along.float()
    if isinstance(kind, nn.Embedding):
        names = (f"{prefix}lora_embedding_A", f"{prefix}lora_embedding_B")
        return LowRank(names=names, a=along, b=-unit.T)
    names = (f"{prefix}lora_A.weight", f"{prefix}lora_B.weight")
    if len(shape) == 2:
        a, b = (along, -unit.T) if axis == 0 else (unit, -along.T)
        return LowRank(names=names, a=a, b=b)
    # Experts: A is expert by rank, B rank by expert; in some models the last axis is the output.
    n_experts, rank = shape[0], len(unit)
    outputs = 2 if getattr(kind, "is_transposed", False) else 1
    each = along.view(rank, n_experts, -1)
    same = unit[:, None].expand(rank, n_experts, -1)
    a, b = (each, -same) if axis == outputs else (same, -each)
    return LowRank(
        names=names,
        a=a.transpose(0, 1).reshape(n_experts * rank, -1),
        b=b.reshape(rank * n_experts, -1).T,
    )


def lora_config(
    model: PreTrainedModel, parameters: Sequence[str], *, rank: int, strength: float, base: str
) -> LoraConfig:
    """The config with which PEFT adapts exactly these parameters.

    Weights of linear layers and embeddings are named by their modules. PEFT takes some such names
    (`down_proj` in models with experts) for others; then every parameter but those of embeddings
    is named by itself.

    Raises:
        InputError: PEFT adapts others, or refuses.
    """
    kinds = {name: model.get_submodule(name.rpartition(".")[0]) for name in parameters}
    odd: list[str] = []
    for by_module in ((nn.Linear, nn.Embedding), (nn.Embedding,)):
        named = [name for name, kind in kinds.items() if isinstance(kind, by_module)]
        config = LoraConfig(
            task_type="CAUSAL_LM",
            base_model_name_or_path=base,
            r=rank,
            # PEFT says that it is an integer; a scale of 0.7 needs a number like any other.
            lora_alpha=strength * rank,  # pyright: ignore[reportArgumentType]
            target_modules=sorted(name.rpartition(".")[0] for name in named),
            target_parameters=sorted(set(parameters) - set(named)) or None,
            inference_mode=True,
        )
        values = config_values(config)
        found = _adapted(model, config)
        odd = sorted(found ^ {name.rpartition(".")[0] for name in parameters})
        if not odd:
            return LoraConfig(**values)
    raise InputError(
        f"an adapter cannot express the edit: PEFT does not adapt {odd[0]} as it is named "
        f"({len(odd)} such): use `weights orthogonalize`"
    )


def config_values(config: LoraConfig) -> dict[str, Any]:
    """The config as JSON values in a fixed order."""
    found = json.loads(json.dumps(config.to_dict(), default=sorted))
    return {key: found[key] for key in sorted(found)}


def _adapted(model: PreTrainedModel, config: LoraConfig) -> set[str]:
    """The modules that get an A and a B."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped: Any = get_peft_model(model, config)
            names = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
            wrapped.unload()
    except ValueError as error:
        raise InputError(
            f"an adapter cannot express the edit: PEFT says: {str(error).splitlines()[0]} Use "
            "`weights orthogonalize`"
        ) from error
    return {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in names}
