"""A model of any size without its numbers: what it weighs, what a pass holds, what a token keeps.

Built by transformers from the config alone, on the device `meta`. Passes are those of the code that
runs real models, so mixtures of experts, windows and grouped heads count as they are programmed.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from refusalscope.errors import ModelLoadError
from refusalscope.models.allocations import counted_on_meta
from refusalscope.models.batches import Batch
from refusalscope.models.causes import told
from refusalscope.models.forward import last_token_logits, prefix_cache
from refusalscope.models.hooks import Edit, edit_inputs, edit_outputs
from refusalscope.models.model_class import loading_class

_ROWS, _WIDTH = 4, 64
_EXPERTS = re.compile(r"(^|\.)experts(\.|$)")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_MOST_LAYERS = 4096
_ROUTED = ("num_experts_per_tok", "num_selected_experts", "moe_topk", "moe_k", "top_k_experts")
_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a model weighs; tied tensors count once.

    Attributes:
        in_order: Numbers of each parameter, in the order in which they are looked at.
        n_active: Parameters that one token is multiplied with, the unembedding among them and the
            embedding not; None where a mixture does not say how many experts a token takes.
        n_unembedding: Of these, those of the unembedding.
        n_outside: Parameters outside the decoder layers.
        heads: Query heads times their width, summed over the layers; None where unknown.
    """

    n_parameters: int
    in_order: tuple[int, ...]
    n_active: int | None
    n_unembedding: int
    n_outside: int
    n_layers: int
    d_model: int
    d_vocab: int
    heads: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCache:
    """What one layer keeps of a token, and of how many tokens at the most."""

    per_token: int
    window: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaModel:
    """A model on `meta`."""

    model: PreTrainedModel
    size: Size
    itemsize: int
    """Bytes of a number."""

    def by_pass(self) -> tuple[float, float]:
        """Bytes that a pass holds at its peak, and operations of its layers, for each token.

        No matrix of tokens by tokens is made, so both are the same for passes of any shape. An
        architecture may run more experts than a token takes: what is run counts. Attention's own
        operations are not among them.
        """
        with torch.no_grad(), counted_on_meta() as held:
            last_token_logits(self.model, _batch(_ROWS, _WIDTH))
        of_layers = held.flops - 2 * _ROWS * self.size.n_unembedding
        return held.peak / (_ROWS * _WIDTH), of_layers / (_ROWS * _WIDTH)

    def held_by_gradients(self) -> float:
        """The same of a pass whose logits are differentiated by what enters every layer.

        What the two writers of a layer write, and its gradient, is counted beside what is seen.
        """
        streams: list[Tensor] = []

        def start(output: Tensor) -> Tensor:
            return output.detach().requires_grad_()

        def keep(hidden: Tensor) -> Tensor:
            streams.append(hidden)
            return hidden

        embedding: Any = self.model.get_input_embeddings()
        layers: list[tuple[nn.Module, Edit]] = [(layer, keep) for layer in layers_of(self.model)]
        with (
            counted_on_meta() as held,
            edit_outputs([(embedding, start)]),
            edit_inputs(layers),
        ):
            logits = last_token_logits(self.model, _batch(_ROWS, _WIDTH), with_gradient=True)
            found = torch.autograd.grad(logits.float().sum(), streams)
            del logits, found
        written = 2 * len(streams) * self.size.d_model * self.itemsize
        return held.peak / (_ROWS * _WIDTH) + written

    def cache(self) -> tuple[LayerCache, ...]:
        """What each layer keeps of a token."""
        n_seen = 4
        with torch.no_grad(), counted_on_meta():
            cache: Any = prefix_cache(self.model, _tokens(1, n_seen))
        found = []
        for layer in cache.layers:
            held = [one for one in vars(layer).values() if isinstance(one, Tensor) and one.is_meta]
            per_token = sum(one.nbytes for one in held) // n_seen
            window = getattr(layer, "sliding_window", None)
            found.append(LayerCache(per_token=per_token, window=window))
        return tuple(found)


def meta_model(config: PretrainedConfig, dtype: torch.dtype, source: str) -> MetaModel:
    """Build a model from its config, without weights.

    Raises:
        ModelLoadError: transformers cannot build a model of this config.
    """

    def as_ours(why: str, _error: BaseException) -> ModelLoadError:
        return ModelLoadError(
            f"no model can be built from the config.json of {source} ({why}); mend it, or copy it "
            f"again"
        )

    own: Any = config.get_text_config()
    n_layers = _stated(own, _LAYERS)
    if n_layers is not None and n_layers > _MOST_LAYERS:
        raise ModelLoadError(
            f"the config.json of {source} says {n_layers} layers; expected {_MOST_LAYERS} at the "
            f"most: mend it, or copy it again"
        )
    with told(as_ours), torch.device("meta"):
        model = loading_class(config, source).from_config(config, dtype=dtype)
    model.eval().requires_grad_(False)
    return MetaModel(model=model, size=_size(model), itemsize=dtype.itemsize)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The decoder layers: the module list that holds most of the parameters.

    Raises:
        ModelLoadError: there is no module list.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ModelLoadError(
            f"{type(model).__name__} has no list of layers; expected a decoder of transformers"
        )
    return max(lists, key=_n_parameters)


def _size(model: PreTrainedModel) -> Size:
    config: Any = model.config.get_text_config()
    embedding: Any = model.get_input_embeddings().weight  # pyright: ignore[reportAttributeAccessIssue]
    head: Any = model.get_output_embeddings()
    unembedding = 0 if head is None else head.weight.numel()
    in_order = tuple(parameter.numel() for parameter in model.parameters())
    layers = layers_of(model)
    total = sum(in_order)
    outside = total - _n_parameters(layers)
    routed = [
        sum(p.numel() for name, p in model.named_parameters() if _EXPERTS.search(name)),
        _stated(config, _ROUTED),
        _stated(config, _EXPERT_COUNTS),
    ]
    active: int | None = _n_parameters(layers) + unembedding
    n_routed, n_taken, n_experts = routed
    if n_routed:
        known = n_taken is not None and n_experts is not None
        active = active - n_routed + n_routed * n_taken // n_experts if known else None
    n_heads, width = getattr(config, "num_attention_heads", None), getattr(config, "head_dim", None)
    hidden = int(embedding.shape[1])
    if not isinstance(width, int):
        width = hidden // n_heads if isinstance(n_heads, int) else 0
    return Size(
        n_parameters=total,
        in_order=in_order,
        n_active=active,
        n_unembedding=unembedding,
        n_outside=outside,
        n_layers=len(layers),
        d_model=hidden,
        d_vocab=int(embedding.shape[0] if head is None else head.weight.shape[0]),
        heads=n_heads * width * len(layers) if isinstance(n_heads, int) else None,
    )


def _stated(config: Any, names: tuple[str, ...]) -> Any:  # noqa: ANN401 - a count, or None
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _tokens(rows: int, width: int) -> Tensor:
    return torch.empty(rows, width, dtype=torch.long, device="meta")


def _batch(rows: int, width: int) -> Batch:
    last = torch.empty(rows, dtype=torch.long, device="meta")
    return Batch(input_ids=_tokens(rows, width), attention_mask=None, last=last)
