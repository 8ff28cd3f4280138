"""Changes of rates from baseline, over the same instructions: every judge's, by condition."""

from collections.abc import Callable, Mapping, Sequence

from refusalscope.metrics.rate_difference import (
    ShareDifference,
    paired_counts_difference,
    unpaired_counts_difference,
)
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import Judgements, Rate

Changes = dict[str, dict[str, RateChange]]
"""By data set and condition."""


def changes_from_baseline(judgements: Judgements) -> Changes:
    """What each condition does to a judge's rate, instruction by instruction.

    Instructions without a verdict under one of both conditions are left out of a pair's rates.
    """
    flags: dict[str, dict[str, dict[int, bool | None]]] = {}
    for row in judgements.rows:
        flags.setdefault(row.dataset, {}).setdefault(row.condition, {})[row.index] = row.flag
    found: Changes = {}
    for dataset, by_condition in flags.items():
        before = by_condition.get("baseline", {})
        for condition, after in by_condition.items():
            change = None if condition == "baseline" else paired_change(before, after)
            if change is not None:
                found.setdefault(dataset, {})[condition] = change
    return found


def paired_change(
    before: Mapping[int, bool | None], after: Mapping[int, bool | None]
) -> RateChange | None:
    """The change of a share from one set of verdicts to another, paired by key.

    Returns:
        None where no key has a verdict in both.
    """
    both_asked = before.keys() & after.keys()
    pairs = [
        (a, b)
        for key in sorted(both_asked)
        if (a := before[key]) is not None and (b := after[key]) is not None
    ]
    if not pairs:
        return None
    return _change(
        paired_counts_difference(*_fourfold(pairs)),
        hits=sum(a for a, _ in pairs),
        n=len(pairs),
        n_left_out=len(both_asked) - len(pairs),
        is_paired=True,
    )


def unpaired_change(before: Rate, after: Rate) -> RateChange:
    """The change between two rates of which no pairs are known."""
    hits = round(before.rate * before.n)
    found = unpaired_counts_difference((hits, before.n), (round(after.rate * after.n), after.n))
    n = min(before.n, after.n)
    return _change(found, hits=round(before.rate * n), n=n, n_left_out=0, is_paired=False)


def smallest_shown(hits: int, n: int, *, is_fall: bool, is_paired: bool) -> float | None:
    """The smallest change of a share that an experiment of this size can show.

    The most favourable case: every verdict that changes, changes the same way. With fewer changes
    the 95 % interval of the difference holds 0 whatever the truth is.

    Args:
        hits: True verdicts at baseline.
        n: Of so many.

    Returns:
        As a share; None where no change that is possible could be shown.
    """
    possible = hits if is_fall else n - hits
    for moved in range(1, possible + 1):
        kept, other = hits - moved, n - hits - moved
        if is_paired:
            counts = (kept, moved, 0, n - hits) if is_fall else (hits, 0, moved, other)
            found = paired_counts_difference(*counts)
        else:
            after = hits - moved if is_fall else hits + moved
            found = unpaired_counts_difference((hits, n), (after, n))
        if found.high < 0 or found.low > 0:
            return moved / n
    return None


def _change(
    found: ShareDifference, *, hits: int, n: int, n_left_out: int, is_paired: bool
) -> RateChange:
    return RateChange(
        difference=found.difference,
        low=found.low,
        high=found.high,
        n=n,
        is_paired=is_paired,
        n_left_out=n_left_out,
        smallest_fall=smallest_shown(hits, n, is_fall=True, is_paired=is_paired),
        smallest_rise=smallest_shown(hits, n, is_fall=False, is_paired=is_paired),
    )


def _fourfold(pairs: Sequence[tuple[bool, bool]]) -> tuple[int, int, int, int]:
    """How many pairs are true twice, first only, second only, never."""

    def count(is_it: Callable[[bool, bool], bool]) -> int:
        return sum(is_it(a, b) for a, b in pairs)

    return (
        count(lambda a, b: a and b),
        count(lambda a, b: a and not b),
        count(lambda a, b: b and not a),
        count(lambda a, b: not a and not b),
    )
