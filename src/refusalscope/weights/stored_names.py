"""Under which names, and which way round, a model's parameters lie in its checkpoint.

transformers renames, splits and stacks tensors between checkpoint and model (a fused tensor of
experts is one file entry an expert). What it does is found by saving a miniature and recognising
each parameter's numbers among those that were written.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.errors import AnatomyError
from refusalscope.results.scratch import temporary_folder

_MODEL = "model."


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """A checkpoint's tensor that holds a parameter or a slice of it."""

    name: str
    axis: int
    """Its axis that is the asked-for axis of the parameter."""


def stored_parts(
    model: PreTrainedModel, wanted: Iterable[tuple[str, int]], *, files: Collection[str] = ()
) -> dict[tuple[str, int], tuple[StoredPart, ...]]:
    """Where `model.save_pretrained` puts parameters, given as (name, axis).

    Args:
        model: A miniature with random numbers everywhere: all of it is written to a temporary
            folder.
        files: Names in the checkpoint. Where a model that also sees was saved, and `model` is its
            text model, they are those of `model` behind another prefix.

    Raises:
        AnatomyError: A parameter is not in the saved checkpoint, whole or in slices, or two
            tensors there hold the same numbers.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with temporary_folder() as folder:
        model.save_pretrained(folder)
        stored = _names_by_digest(folder)
    moved = _moved([name for names in stored.values() for name in names], files)
    stored = {digest: [moved(name) for name in names] for digest, names in stored.items()}
    return {
        (name, axis): _find(name, parameters[name].detach(), axis, stored) for name, axis in wanted
    }


def _moved(saved: Sequence[str], files: Collection[str]) -> Callable[[str], str]:
    """From a name that the model was saved with to that in the files.

    Of all prefixes that could be put before a name, with or without the `model.` that it begins
    with, that one is taken with which the most names are in the files.
    """
    missing = [name for name in saved if name not in files]
    prefixes = {
        (cut, found.removesuffix(name.removeprefix(cut)))
        for name in missing[:1]
        for cut in ("", _MODEL)
        if name.startswith(cut)
        for found in files
        if found.endswith("." + name.removeprefix(cut))
    }

    def in_files(prefix: tuple[str, str]) -> int:
        cut, put = prefix
        return sum(put + n.removeprefix(cut) in files for n in missing if n.startswith(cut))

    if not files or not prefixes:
        return lambda name: name
    cut, put = max(sorted(prefixes), key=in_files)
    if 2 * in_files((cut, put)) < len(missing):
        return lambda name: name

    def moved(name: str) -> str:
        is_behind = name not in files and name.startswith(cut)
        return put + name.removeprefix(cut) if is_behind else name

    return moved


def _find(
    name: str, value: Float[Tensor, "..."], axis: int, stored: dict[str, list[str]]
) -> tuple[StoredPart, ...]:
    whole = _part(value, axis, stored)
    if whole is not None:
        return (whole,)
    for cut in range(value.ndim):
        if cut != axis:
            parts = [_part(piece, axis - (cut < axis), stored) for piece in value.unbind(cut)]
            found = tuple(part for part in parts if part is not None)
            if len(found) == len(parts):
                return found
    raise AnatomyError(
        f"{name} of shape {tuple(value.shape)} is neither whole nor in slices in the checkpoint "
        "that transformers saves: load the model and edit it in memory"
    )


def _part(
    value: Float[Tensor, "..."], axis: int, stored: dict[str, list[str]]
) -> StoredPart | None:
    """The stored tensor that is `value`, or `value` with its last two axes exchanged."""
    turns = [(value, axis)]
    if value.ndim > 1:
        exchanged = {value.ndim - 1: value.ndim - 2, value.ndim - 2: value.ndim - 1}
        turns.append((value.transpose(-1, -2), exchanged.get(axis, axis)))
    for turned, turned_axis in turns:
        names = stored.get(_digest(turned), [])
        if len(names) > 1:
            raise AnatomyError(
                f"{names[0]} and {names[1]} of a random miniature hold the same numbers, so they "
                "cannot be told apart: load the model and edit it in memory"
            )
        if names:
            return StoredPart(name=names[0], axis=turned_axis)
    return None


def _names_by_digest(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                found.setdefault(_digest(file.get_tensor(name)), []).append(name)
    return found


def _digest(value: Tensor) -> str:
    """A fingerprint of a tensor's shape and numbers."""
    numbers = value.to(torch.float32).contiguous().numpy().tobytes()
    return sha256(repr(tuple(value.shape)).encode() + numbers).hexdigest()
