"""How much a control may move a rate before the effects beside it say little."""

CONTROL_TOLERANCE = 0.05
"""Largest change of a rate, as a share, that a control may make without a warning."""

CONTROL_SHARE = 0.25
"""Largest change of the mean refusal metric that a random direction may make without a warning, as
a share of what the direction does."""

_ROUNDING = 1e-9  # 1.0 - 0.95 is a little more than 0.05


def exceeds_tolerance(change: float) -> bool:
    """Whether a change of a rate, as a share, is more than a control may make."""
    return abs(change) > CONTROL_TOLERANCE + _ROUNDING
