"""The value of a metric at which refusals and answers are best told apart.

A logistic fit of `refused` on the metric (Hosmer, Lemeshow and Sturdivant (2013), Applied Logistic
Regression), both kinds of prompt weighing the same in sum, with a weak ridge on the slope so that
it exists where the two are apart. The threshold is where both are equally likely. In the paper it
is 0: a refusal token of more than half the probability (Arditi et al. (2024), section 2.3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refusalscope.errors import InputError

_RIDGE = 1e-2
_N_STEPS = 50
_N_RESAMPLES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where a metric tells refusals from answers best.

    Attributes:
        value: In the metric's unit.
        error: Balanced; see `balanced_error`.
        loss: Mean log-loss of the fit, in nats, both kinds weighing the same.
    """

    value: float
    error: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A cut with its 95 % percentile-bootstrap interval over prompts."""

    cut: Cut
    low: float
    high: float


def best_cut(metric: Sequence[float], refused: Sequence[bool]) -> Cut:
    """Fit the value above which a metric says refusal.

    Args:
        metric: Of each prompt, finite.
        refused: Whether the model refused it.

    Raises:
        InputError: all prompts were refused or none, or refusals do not have the higher metric.
    """
    x, y = np.asarray(metric, dtype=np.float64), np.asarray(refused, dtype=bool)
    if y.all() or not y.any():
        raise InputError(
            f"{int(y.sum())} of {len(y)} prompts were refused; a threshold between refusals and "
            f"answers needs some of each"
        )
    fit = _fit(x, y)
    if fit is None:
        raise InputError(
            "the refusal metric is not higher where the model refuses, so no threshold of it tells "
            "refusals from answers; name other refusal tokens"
        )
    value, loss = fit
    return Cut(value=value, error=balanced_error(metric, refused, threshold=value), loss=loss)


def cut_of(metric: Sequence[float], refused: Sequence[bool]) -> Cut | None:
    """The best cut; None where there is none, see `best_cut`."""
    try:
        return best_cut(metric, refused)
    except InputError:
        return None


def calibrate(metric: Sequence[float], refused: Sequence[bool], *, seed: int = 0) -> Threshold:
    """The best cut, and where it would lie with other prompts.

    Raises:
        InputError: as `best_cut`.
    """
    cut = best_cut(metric, refused)
    x, y = np.asarray(metric, dtype=np.float64), np.asarray(refused, dtype=bool)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(x), size=len(x)) for _ in range(_N_RESAMPLES))
    fits = [again for own in draws if (again := _resampled(x[own], y[own])) is not None]
    low, high = np.quantile([cut.value, *fits], [0.025, 0.975])
    return Threshold(cut=cut, low=min(float(low), cut.value), high=max(float(high), cut.value))


def balanced_error(metric: Sequence[float], refused: Sequence[bool], *, threshold: float) -> float:
    """The mean of two shares: refusals at or below the threshold, and answers above it.

    Raises:
        InputError: all prompts were refused or none.
    """
    above = np.asarray(metric, dtype=np.float64) > threshold
    y = np.asarray(refused, dtype=bool)
    if y.all() or not y.any():
        raise InputError("an error between refusals and answers needs some of each")
    return float(((~above[y]).mean() + above[~y].mean()) / 2)


def _resampled(x: np.ndarray, y: np.ndarray) -> float | None:
    fit = None if y.all() or not y.any() else _fit(x, y)
    return None if fit is None else fit[0]


def log_odds(score: Sequence[float], is_positive: Sequence[bool]) -> tuple[float, float] | None:
    """Intercept and slope of the log-odds of being positive, were half of all so.

    Platt scaling (1999) with both kinds weighing the same, by the fit of `best_cut`.

    Returns:
        None where all are of one kind, or positive ones do not have the higher score.
    """
    x, y = np.asarray(score, dtype=np.float64), np.asarray(is_positive, dtype=bool)
    fit = None if y.all() or not y.any() else _newton(x, y)
    if fit is None:
        return None
    slope = float(fit.beta[1]) / fit.scale
    intercept = float(fit.beta[0]) - slope * fit.centre
    return (intercept, slope) if math.isfinite(intercept) and math.isfinite(slope) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _LogisticFit:
    """Log-odds beta[0] + beta[1] * (x - centre) / scale."""

    beta: np.ndarray
    centre: float
    scale: float
    loss: float


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Threshold and loss; None where refusals have no higher metric."""
    fit = _newton(x, y)
    if fit is None:
        return None
    value = fit.centre - fit.scale * float(fit.beta[0] / fit.beta[1])
    return (value, fit.loss) if math.isfinite(value) else None


def _newton(x: np.ndarray, y: np.ndarray) -> _LogisticFit | None:
    """The fit by Newton's method; None where its slope is not above zero."""
    centre, scale = float(x.mean()), float(x.std())
    if scale == 0.0:
        return None
    design = np.stack([np.ones_like(x), (x - centre) / scale], axis=1)
    weight = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum())
    ridge = np.diag([0.0, _RIDGE])
    beta = np.zeros(2)
    for _ in range(_N_STEPS):
        p = _sigmoid(design @ beta)
        gradient = design.T @ (weight * (p - y)) + ridge @ beta
        hessian = (design.T * (weight * p * (1 - p))) @ design + ridge
        step = np.linalg.solve(hessian, gradient)
        beta = beta - step
        if np.abs(step).max() < 1e-10:
            break
    if not beta[1] > 0:
        return None
    signed = np.where(y, 1.0, -1.0) * (design @ beta)
    loss = float((weight * np.logaddexp(0.0, -signed)).sum())
    return _LogisticFit(beta=beta, centre=centre, scale=scale, loss=loss)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(z / 2))
