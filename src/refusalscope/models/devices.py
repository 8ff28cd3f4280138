"""Where a model goes: what `--device` means on this machine."""

import logging

import torch

from refusalscope.errors import ModelLoadError

_WITHOUT_FLOAT64 = ("mps",)
"""Accelerators, such as Apple's, on which float64 is an error."""
_LOG = logging.getLogger(__name__)


def device_map_of(device: str) -> str | dict[str, str] | None:
    """The `device_map` that transformers is given; None where the model stays on the CPU.

    Args:
        device: `auto` (the accelerator if there is one that computes in float64), `cpu`, `spread`
            (the layers over all accelerators), or one accelerator by name, such as `cuda:1`.

    Raises:
        ModelLoadError: there is no such device; a model is never put on another in silence.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None and accelerator.type in _WITHOUT_FLOAT64:
        if device.split(":", maxsplit=1)[0] == accelerator.type:
            raise ModelLoadError(
                f"--device is {device!r}, which does not compute in float64; sums and metrics need "
                f"that: give --device cpu"
            )
        _LOG.info("%s does not compute in float64; the CPU is used", accelerator.type)
        accelerator = None
    if device == "cpu" or (device in ("auto", "spread") and accelerator is None):
        return None
    if device == "spread":
        return "auto"
    if device == "auto":
        return {"": str(accelerator)}
    n_devices = 0 if accelerator is None else torch.accelerator.device_count()
    names = [f"{accelerator.type}:{i}" for i in range(n_devices)] if accelerator else []
    if device not in (*names, *(name.split(":")[0] for name in names[:1])):
        raise ModelLoadError(
            f"--device is {device!r}; this machine has {', '.join(['cpu', *names])} (or give auto, "
            f"or spread)"
        )
    return {"": device}
