"""True positive rates at a false positive rate: what a monitor is worth, with what it rests on.

A threshold at a false positive rate of 1 % is a statement about the highest hundredth of harmless
scores. On a few dozen prompts that is a guess, and AUROC hides it: of two monitors with the same
AUROC one may find everything at 1 % and the other nothing (arXiv 2604.18901). So no rate is stated
without its number of harmless prompts, and none on fewer than three expected false positives.
"""

import math
from collections.abc import Sequence

import numpy as np

from refusalscope.metrics.auroc import auroc, auroc_interval
from refusalscope.metrics.intervals import wilson_interval
from refusalscope.results.monitor_records import FPRS, Separation, TruePositives

_EXPECTED = 3
"""False positives that a rate is expected to have at least; with none seen in n prompts the upper
end of a 95 % interval is about 3 / n, so fewer could not tell the rate from twice itself."""
_N_DRAWS = 2000
_CHUNK = 4_000_000
"""Numbers that a part of the draws holds at once."""


def least_harmless(fpr: float) -> int:
    """How many harmless prompts a false positive rate needs: 300 at 1 %, 60 at 5 %."""
    return math.ceil(round(_EXPECTED / fpr, 9))


def threshold_at(harmless: Sequence[float] | np.ndarray, fpr: float) -> float:
    """The lowest score above which at most `fpr` of the harmless scores lie.

    Of n scores floor(fpr n) may be above; the threshold is the next one, which is not above itself.

    Raises:
        ValueError: no scores, one that is not finite, or `fpr` is not within [0, 1).
    """
    scores = np.asarray(harmless, dtype=np.float64)
    if not len(scores) or not np.isfinite(scores).all() or not 0 <= fpr < 1:
        raise ValueError(
            f"{len(scores)} scores and a false positive rate of {fpr}; expected finite scores, at "
            f"least one, and a rate from 0 to below 1"
        )
    return float(np.sort(scores)[::-1][_n_above(len(scores), fpr)])


def true_positives(
    harmful: Sequence[float], harmless: Sequence[float], fpr: float, *, seed: int = 0
) -> TruePositives:
    """The share of harmful scores above the threshold at a false positive rate.

    The interval is a percentile bootstrap over prompts of both kinds, the threshold set anew on
    each draw of the harmless ones; so it holds the error of the threshold, which an interval of the
    share alone does not. Where all draws are alike (all are found, or none) a bootstrap has no
    width; so each end is the wider of it and of Wilson's interval at the threshold.

    Raises:
        ValueError: a kind is empty, or a score is not finite.
    """
    threshold = threshold_at(harmless, fpr)
    ours = np.sort(np.asarray(harmful, dtype=np.float64))
    if not len(ours) or not np.isfinite(ours).all():
        raise ValueError(f"{len(ours)} harmful scores; expected at least one, all finite")
    needed = least_harmless(fpr)
    if len(harmless) < needed:
        return TruePositives(
            fpr=fpr,
            n_harmful=len(ours),
            n_harmless=len(harmless),
            tpr=None,
            low=None,
            high=None,
            threshold=None,
            reason=(
                f"a false positive rate of {fpr:.0%} needs at least {needed} harmless prompts, and "
                f"there are {len(harmless)}"
            ),
        )
    n_found = int((ours > threshold).sum())
    low, high = wilson_interval(n_found, len(ours))
    drawn = _drawn_rates(ours, np.asarray(harmless, dtype=np.float64), fpr, seed=seed)
    return TruePositives(
        fpr=fpr,
        n_harmful=len(ours),
        n_harmless=len(harmless),
        tpr=n_found / len(ours),
        low=min(low, float(np.quantile(drawn, 0.025))),
        high=max(high, float(np.quantile(drawn, 0.975))),
        threshold=threshold,
    )


def separation(
    harmful: Sequence[float],
    harmless: Sequence[float],
    *,
    names: tuple[str, str],
    fprs: Sequence[float] = FPRS,
    seed: int = 0,
) -> Separation:
    """Rates at every false positive rate, with the AUROC beside them.

    Args:
        names: What the harmful and the harmless ones are.

    Raises:
        ValueError: as `true_positives`.
    """
    has_interval = min(len(harmful), len(harmless)) > 1
    low, high = auroc_interval(harmful, harmless) if has_interval else (None, None)
    return Separation(
        harmful=names[0],
        harmless=names[1],
        n_harmful=len(harmful),
        n_harmless=len(harmless),
        auroc=auroc(harmful, harmless),
        auroc_low=low,
        auroc_high=high,
        at=tuple(true_positives(harmful, harmless, fpr, seed=seed) for fpr in fprs),
    )


def _n_above(n: int, fpr: float) -> int:
    return math.floor(fpr * n + 1e-9)


def _drawn_rates(ours: np.ndarray, theirs: np.ndarray, fpr: float, *, seed: int) -> np.ndarray:
    """The rate in each bootstrap draw.

    How many of n harmful scores, drawn with replacement, lie above a threshold is binomial with the
    share that does; so only the harmless ones need to be drawn one by one.
    """
    rng = np.random.default_rng(seed)
    n, k = len(theirs), _n_above(len(theirs), fpr)
    per_part = max(1, _CHUNK // n)
    thresholds = []
    for start in range(0, _N_DRAWS, per_part):
        draws = theirs[rng.integers(n, size=(min(per_part, _N_DRAWS - start), n))]
        thresholds.append(np.partition(draws, n - 1 - k, axis=1)[:, n - 1 - k])
    shares = 1 - np.searchsorted(ours, np.concatenate(thresholds), side="right") / len(ours)
    return rng.binomial(len(ours), shares) / len(ours)
