"""A direction in the residual stream, and its file.

The file is safetensors with one tensor `direction` (d_model,) and, in its metadata, what the
direction is. Any such file is accepted wherever a direction is asked for, with or without metadata;
so is a run folder.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from refusalscope.errors import DirectionFileError, NumericalError
from refusalscope.results.files import write_file
from refusalscope.results.given_files import require_regular
from refusalscope.results.run_records import DIRECTION_TENSOR
from refusalscope.results.tensor_header import header_bytes

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LARGEST = 10**9
"""No model has so many layers or tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction.

    Attributes:
        vector: Not normalised; its length is that of the difference in means.
        position: Token position it was read at, from the end of the prompt; None if unknown.
        layer: 0-based block whose resid_pre it was read from; None if unknown.
        model: Name of the model; None if unknown.
        origin: File or run folder it was read from, as given; None if it was read from none.
    """

    vector: Float[Tensor, " d_model"]
    position: int | None = None
    layer: int | None = None
    model: str | None = None
    origin: str | None = None


def unit_direction(direction: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Scale to length one, in float32.

    Raises:
        NumericalError: a direction has zero or non-finite norm.
    """
    vector = direction.to(torch.float64)
    norm = vector.norm(dim=-1, keepdim=True)
    if not bool((torch.isfinite(norm) & (norm > 0)).all()):
        worst = norm[~(torch.isfinite(norm) & (norm > 0))].flatten()[0].item()
        raise NumericalError(
            f"a direction of shape {tuple(direction.shape)} has norm {worst}; expected a finite "
            f"norm above zero: choose another candidate"
        )
    return (vector / norm).float()


def random_direction(like: Float[Tensor, " d_model"], *, seed: int) -> Float[Tensor, " d_model"]:
    """The control: a random direction with the norm of `like` and at right angles to it.

    Drawn evenly from the sphere, then without its part along `like`, because in a narrow stream
    that part is not small (a cosine of 0.27 was seen at d_model 96), and what it does is no
    control.

    In the few channels where `like` is exactly zero, as a masked direction is in loud ones, it is
    zero too: ablating a direction with a small part in a channel of 10^4 pushes all others by that
    part, and the control would measure the channel. A direction without zeros has the control that
    it always had; so has one with zeros in half of its channels or more, of which none is masked.

    Raises:
        NumericalError: `like` has zero or non-finite norm.
    """
    generator = torch.Generator().manual_seed(seed)
    unit = unit_direction(like).to("cpu", torch.float64)
    vector = torch.randn(like.shape[-1], generator=generator, dtype=torch.float64)
    is_zero = unit == 0
    if 2 * int(is_zero.sum()) < len(unit):
        vector[is_zero] = 0
    vector -= (vector @ unit) * unit
    return (vector / vector.norm() * like.to(torch.float64).norm().cpu()).float().to(like.device)


def cosine_of(one: Float[Tensor, " d_model"], other: Float[Tensor, " d_model"]) -> float:
    """Cosine of two vectors, in float64; 0 where one has length zero."""
    return torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0).item()


def scaled(direction: Float[Tensor, " d_model"], coefficient: float) -> Float[Tensor, " d_model"]:
    """Coefficient * direction, in float64.

    Raises:
        NumericalError: in float32 it is zero, NaN or infinite.
    """
    given = direction.detach().to("cpu", torch.float64)
    vector = coefficient * given
    held = vector.float()
    if not bool(held.isfinite().all()) or not bool(held.any()):
        raise NumericalError(
            f"coefficient {coefficient:g} times a direction of norm {float(given.norm()):.2g} "
            f"has norm {float(held.double().norm()):.2g}; expected finite numbers, not all zero"
        )
    return vector


def save_direction(direction: Direction, path: Path) -> None:
    """Write a direction file, whole or not at all."""
    metadata = {
        "refusalscope": json.dumps(
            {
                "schema": 1,
                "position": direction.position,
                "layer": direction.layer,
                "model": direction.model,
            }
        ),
    }
    tensor = direction.vector.detach().cpu().float().contiguous()
    write_file(path, save({"direction": tensor}, metadata=metadata))


def load_direction(source: Path, *, d_model: int | None = None) -> Direction:
    """Read a direction file, or the direction of a run folder.

    Args:
        source: A safetensors file or a run folder.
        d_model: Expected width; any where None.

    Raises:
        DirectionFileError: not a direction file, not a vector, or of another width.
        NumericalError: the direction is zero, NaN or infinite.
    """
    try:
        path = source / DIRECTION_TENSOR if source.is_dir() else source
        is_file = path.is_file()
    except OSError:  # a name that is too long
        path, is_file = source, False
    if not is_file:
        raise DirectionFileError(
            f"{path} does not exist; expected a safetensors file with a tensor 'direction', or a "
            f"run folder whose selection is done"
        )
    require_regular(path, error=DirectionFileError)
    try:
        header, _ = header_bytes(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            vector = file.get_tensor("direction") if "direction" in header else None
    except (SafetensorError, OSError, ValueError) as error:
        raise DirectionFileError(
            f"{path} is not a whole safetensors file ({error}); copy it again"
        ) from error
    if vector is not None and vector.dtype not in _DTYPES:
        raise DirectionFileError(
            f"the tensor 'direction' of {path} is stored as {header['direction']['dtype']}; "
            "expected numbers of 16, 32 or 64 bits, as in F32: save it as such"
        )
    if vector is None or vector.dim() != 1 or vector.shape[0] != (d_model or vector.shape[0]):
        found = "no tensor 'direction'" if vector is None else f"shape {tuple(vector.shape)}"
        raise DirectionFileError(
            f"{path} has {found}; expected a tensor 'direction' of shape ({d_model or 'd_model'},)"
        )
    try:
        unit_direction(vector.float())
    except NumericalError as error:
        raise NumericalError(f"{path}: {error}") from error
    facts = _facts(metadata.get("refusalscope"), path)
    return Direction(
        vector=vector.float(),
        position=facts.get("position"),
        layer=facts.get("layer"),
        model=facts.get("model"),
        origin=str(source),
    )


def _facts(text: str | None, path: Path) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DirectionFileError(
            f"the metadata of {path} is not JSON ({error}); save the direction again"
        ) from error
    if not isinstance(facts, dict):
        raise DirectionFileError(f"the metadata of {path} is not a JSON object; save it again")
    for name, is_right, expected in (
        ("position", _is_whole, "a whole number"),
        ("layer", lambda value: _is_whole(value) and value >= 0, "a whole number from 0 up"),
        ("model", lambda value: isinstance(value, str) and value.isprintable(), "one line of text"),
    ):
        value = facts.get(name)
        if value is not None and not is_right(value):
            raise DirectionFileError(
                f"the metadata of {path} says that {name} is {str(value)[:80]!r}; expected "
                f"{expected}: save the direction again"
            )
    return facts


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
