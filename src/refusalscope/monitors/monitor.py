"""A monitor and its file: safetensors with its weights, and in the metadata what it is.

Tensors: `weight`, `mean` and `scale` (d_model,) and `bias` (1,) in float64, and `seen`, the first
eight bytes of the SHA-256 of each instruction that anything of it was chosen on, so that it is not
measured on those. The metadata hold a `MonitorFacts` record as JSON.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from refusalscope.data.instruction import Instruction
from refusalscope.errors import InputError, RunFolderError
from refusalscope.monitors.readout import Readout
from refusalscope.results.files import write_file
from refusalscope.results.given_files import LARGEST, open_given
from refusalscope.results.monitor_records import MonitorFacts
from refusalscope.results.tensor_header import header_bytes

_KEY = "refusalscope_monitor"
_MEND = "fit it with: refusalscope monitor fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """A monitor, ready to score prompts of models of its width.

    Attributes:
        seen: Digests of the instructions that it was fitted, chosen or set on.
    """

    facts: MonitorFacts
    readout: Readout
    seen: Int[Tensor, " prompt"]

    def n_seen(self, instructions: Iterable[Instruction]) -> int:
        """How many of some instructions it was fitted, chosen or set on."""
        return int(torch.isin(digests(instructions), self.seen).sum())

    def flags(self, scores: Float[Tensor, " prompt"]) -> list[bool]:
        """At which scores it fires: those above its threshold."""
        return (scores > self.facts.threshold).tolist()

    def probability(self, scores: Float[Tensor, " prompt"]) -> Float[Tensor, " prompt"] | None:
        """Of being harmful, were half of all prompts so; None without a map to probabilities."""
        platt = self.facts.platt
        return None if platt is None else torch.sigmoid(platt.intercept + platt.slope * scores)


def digests(instructions: Iterable[Instruction]) -> Int[Tensor, " prompt"]:
    """The first eight bytes of the SHA-256 of each text, as whole numbers."""
    found = [hashlib.sha256(one.text.strip().encode()).digest()[:8] for one in instructions]
    return torch.tensor([int.from_bytes(one, signed=True) for one in found], dtype=torch.int64)


def monitor_bytes(monitor: Monitor) -> bytes:
    """The file's content: the same monitor always gives the same bytes."""
    readout = monitor.readout
    tensors = {
        "weight": readout.weight,
        "mean": readout.mean,
        "scale": readout.scale,
        "bias": torch.tensor([readout.bias], dtype=torch.float64),
        "seen": monitor.seen,
    }
    metadata = {_KEY: monitor.facts.to_json()}
    return save({name: t.contiguous() for name, t in tensors.items()}, metadata)


def save_monitor(monitor: Monitor, path: Path) -> None:
    """Write a monitor's file, whole or not at all."""
    write_file(path, monitor_bytes(monitor))


def load_monitor(path: Path) -> Monitor:
    """Read a monitor's file.

    Raises:
        InputError: it is no monitor's file, or was damaged or changed by hand.
    """
    with open_given(path) as file:
        size = file.seek(0, 2)
    if size > LARGEST:
        raise InputError(f"{path} has {size} bytes and is no monitor's file; {_MEND}")
    try:
        header_bytes(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # its own method
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}); copy the monitor again"
        ) from error
    if _KEY not in metadata:
        raise InputError(
            f"{path} is no monitor's file: its metadata say nothing of a monitor; {_MEND}"
        )
    try:
        facts = MonitorFacts.from_json(metadata[_KEY], source=f"the metadata of {path}")
    except RunFolderError as error:
        raise InputError(str(error)) from error
    _require_whole(tensors, facts, path)
    return Monitor(
        facts=facts,
        readout=Readout(
            weight=tensors["weight"],
            mean=tensors["mean"],
            scale=tensors["scale"],
            bias=float(tensors["bias"]),
        ),
        seen=tensors["seen"],
    )


def _require_whole(tensors: dict[str, Tensor], facts: MonitorFacts, path: Path) -> None:
    d_model = facts.d_model
    shapes = {"weight": (d_model,), "mean": (d_model,), "scale": (d_model,), "bias": (1,)}
    for name, shape in shapes.items():
        own = tensors.get(name)
        if own is None or tuple(own.shape) != shape or own.dtype != torch.float64:
            found = "absent" if own is None else f"{own.dtype} of shape {tuple(own.shape)}"
            raise InputError(
                f"{path}: the tensor {name!r} is {found}; expected float64 of shape {shape}: "
                f"{_MEND}"
            )
        if not bool(own.isfinite().all()) or (name == "scale" and not bool((own > 0).all())):
            raise InputError(
                f"{path}: the tensor {name!r} holds numbers that are NaN, infinite or no scale; "
                f"{_MEND}"
            )
    seen = tensors.get("seen")
    if seen is None or seen.dim() != 1 or seen.dtype != torch.int64:
        raise InputError(f"{path} does not say what it was fitted on (tensor 'seen'); {_MEND}")
    if not 0 <= facts.layer < facts.n_layers or (facts.pool == "sliding") != bool(facts.window):
        raise InputError(
            f"{path} reads layer {facts.layer} of {facts.n_layers} by {facts.pool} with window "
            f"{facts.window}; it was changed by hand: {_MEND}"
        )
