"""The range of several random directions, beside the baseline and the direction itself."""

from refusalscope.results.control_records import ControlRange, ControlSpread, FirstTokenMetric

_IN_PLACE_OF = {"random_ablation": "ablation", "random_addition": "addition"}


def control_ranges(spread: ControlSpread | None) -> tuple[ControlRange, ...]:
    """One range for each data set and control that was drawn; none without draws."""
    rows = spread.rows if spread else ()
    places = dict.fromkeys(
        (row.dataset, row.condition) for row in rows if row.condition in _IN_PLACE_OF
    )
    return tuple(_range(rows, dataset, control) for dataset, control in places)


def _range(rows: tuple[FirstTokenMetric, ...], dataset: str, control: str) -> ControlRange:
    own = [row for row in rows if row.dataset == dataset]
    by_name = {row.condition: row for row in own}
    draws = [row for row in own if row.condition == control]
    means = [row.mean for row in draws if row.mean is not None]
    are_all_finite = len(means) == len(draws)
    direction = by_name.get(_IN_PLACE_OF[control])
    shares = [row.refusing for row in draws]
    return ControlRange(
        dataset=dataset,
        control=control,
        n_draws=len(draws),
        n=by_name["baseline"].n,
        baseline=by_name["baseline"].mean,
        direction=direction.mean if direction else None,
        low=min(means) if are_all_finite else None,
        high=max(means) if are_all_finite else None,
        refusing_baseline=by_name["baseline"].refusing,
        refusing_low=min(shares),
        refusing_high=max(shares),
    )
