"""Edits of a checkpoint by plain code: safetensors in, torch, safetensors out.

Nothing of `refusalscope.weights` is used, so that the scan is not tried on its own idea of an edit.
For checkpoints with the names of Llama and its like in one file.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

KINDS = (
    *("global", "layers-only", "per-layer", "band", "two", "row-norm", "column-norm"),
    *("per-layer-row-norm", "mlp-only", "reflected", "injected"),
)
_WRITES = re.compile(r"layers\.(\d+)\.(?:self_attn\.o_proj|mlp\.down_proj)\.weight$")
_EMBEDDING = re.compile(r"embed_tokens\.weight$")
_GAINS = {"o_proj": "post_attention_layernorm", "down_proj": "post_feedforward_layernorm"}


def direction_of(seed: str, size: int) -> Tensor:
    """A random unit direction."""
    generator = torch.Generator().manual_seed(int.from_bytes(seed.encode()[-6:], "big"))
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    return vector / vector.norm()


def without(weight: Tensor, direction: Tensor, strength: float) -> Tensor:
    """W - s r r^T W with d_model first, in float64."""
    w, r = weight.double(), direction.double()
    return w - strength * torch.outer(r, r @ w)


def keep_rows(old: Tensor, new: Tensor) -> Tensor:
    """Every output row as long as it was."""
    return new * (old.double().norm(dim=1) / new.norm(dim=1).clamp(min=1e-12))[:, None]


def keep_columns(old: Tensor, new: Tensor) -> Tensor:
    """Every input's column as long as it was."""
    return new * (old.double().norm(dim=0) / new.norm(dim=0).clamp(min=1e-12))


def plain_edit(
    source: Path,
    target: Path,
    kind: str,
    *,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
    direction: Tensor | None = None,
    band: tuple[float, float] = (0.33, 0.67),
    quantize: Callable[[Tensor], Tensor] | None = None,
) -> Path:
    """Write an edited copy of a one-file checkpoint.

    Args:
        direction: In the residual stream; random if None. Of `per-layer` kinds each layer's own is
            this one with an equal random part.
        band: First and last layer as shares of the depth.
        quantize: Applied to every matrix after the edit.
    """
    target.mkdir(parents=True)
    for name in ("config.json", "generation_config.json"):
        if (source / name).is_file():
            shutil.copy(source / name, target)
    config = json.loads((source / "config.json").read_text())
    size, depth = config["hidden_size"], config["num_hidden_layers"]
    tensors = load_file(source / "model.safetensors")
    r = direction_of("shared", size) if direction is None else direction / direction.norm()
    first, last = round(band[0] * depth), round(band[1] * depth)
    changed: dict[str, Tensor] = {}
    for name, old in tensors.items():
        layer = _WRITES.search(name)
        is_embedding = _EMBEDDING.search(name) is not None
        new = old
        if layer is not None or is_embedding:
            weight = old.T if is_embedding else old
            number = None if layer is None else int(layer[1])
            gain = _gain(tensors, name)
            is_in = number is not None and first <= number <= last
            if kind != "band" or is_in:
                own = _edited(weight, kind, strength, r, layer=number, gain=gain)
            else:
                own = weight
            new = own.T if is_embedding else own
        changed[name] = new.to(dtype).contiguous()
        if quantize is not None and new.ndim > 1:
            changed[name] = quantize(changed[name].float()).to(dtype).contiguous()
    save_file(changed, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _gain(tensors: dict[str, Tensor], name: str) -> Tensor | None:
    """1 + g of the norm behind a writer, where there is one (Gemma 2 and 3)."""
    for writer, norm in _GAINS.items():
        place = name.partition(".self_attn")[0].partition(".mlp")[0]
        behind = f"{place}.{norm}.weight"
        if writer in name and f"{place}.post_feedforward_layernorm.weight" in tensors:
            return 1.0 + tensors[behind].double()
    return None


def _edited(
    weight: Tensor,
    kind: str,
    strength: float,
    shared: Tensor,
    *,
    layer: int | None,
    gain: Tensor | None,
) -> Tensor:
    r = shared
    if kind.startswith("per-layer"):
        if layer is None:
            return weight
        r = shared + direction_of(f"layer {layer:03d}", len(shared))
    if kind in ("layers-only", "mlp-only", "injected") and layer is None:
        return weight
    if gain is not None:
        r = gain * r
    r = r / r.norm()
    if kind == "mlp-only" and weight.shape[1] < 1.5 * weight.shape[0]:
        return weight
    if kind == "injected":
        along = direction_of(f"input {layer}", weight.shape[1])
        size = strength * float(weight.double().norm()) / weight.shape[1] ** 0.5
        return weight.double() + 4.0 * size * torch.outer(r, along)
    new = without(weight, r, 2.0 if kind == "reflected" else strength)
    if kind == "two":
        other = direction_of("second", len(r)).to(r)
        other = other if gain is None else gain * other
        other = other - (other @ r) * r
        new = without(new, other / other.norm(), strength)
    if kind.endswith("row-norm"):
        new = keep_rows(weight, new)
    if kind == "column-norm":
        new = keep_columns(weight, new)
    return new
