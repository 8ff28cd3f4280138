"""Architectures whose residual stream is not a plain sum: why, in words.

The measurement says what does not add up; this table says why where we have looked. It changes no
result.
"""

from torch import nn

_REASONS: dict[str, str] = {}


def explained(message: str, model: nn.Module) -> str:
    """`message`, with the name of the architecture and, where known, why it is refused."""
    model_type = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    reason = _REASONS.get(model_type)
    return f"{model_type}: {message}" + (f" ({reason})" if reason else "")
