"""How far one channel owns the difference in means, and where other estimators differ from it."""

from refusalscope.report.table import Table
from refusalscope.report.wording import number, percent, position_name
from refusalscope.results.estimator_records import BESIDE, OWNS, PLAIN, ChannelCheck, Estimator
from refusalscope.results.records import DirectionFacts, ExtractionFacts

_SHOWN = 5
ESTIMATOR_NAMES: dict[Estimator, str] = {
    "difference_in_means": "difference in means",
    "masked": "masked",
    "winsorised": "winsorised",
    "discriminant": "discriminant",
    "projected": "projected",
}


def estimator_sentence(extraction: ExtractionFacts) -> str | None:
    """What made the candidates, where it is not the paper's estimator; None where it is."""
    if extraction.estimator == PLAIN:
        return None
    return (
        f"The candidates are made by the {ESTIMATOR_NAMES[extraction.estimator]} estimator in "
        f"place of difference in means (see the table of channels)."
    )


def channel_table(extraction: ExtractionFacts, direction: DirectionFacts | None) -> Table | None:
    """The chosen place and those that one channel owns most; None of a run that did not look."""
    rows = extraction.channels
    if not rows:
        return None
    chosen = None if direction is None else (direction.position, direction.layer)
    first = [row for row in rows if (row.position, row.layer) == chosen]
    rest = sorted((row for row in rows if row not in first), key=lambda row: -row.share)
    owned = sum(row.owns for row in rows)
    n = len(rows)
    return Table(
        title="Whether one channel owns the difference",
        caption=(
            f"The channel that moves most between harmless and harmful prompts, as a share of the "
            f"squared norm of the difference in means. Above {percent(OWNS)} it is more than all "
            f"others together, and the difference is that channel's: so at {owned} of {n} places. "
            f"Loud: |mean| on harmless prompts above 50 times the median channel's. On the right, "
            f"the cosine of other estimates (--estimator) with difference in means. Shown are "
            f"{'the chosen place and ' if first else ''}the {min(_SHOWN, len(rest))} with the "
            f"largest share."
        ),
        header=(
            *("Place", "Channel", "Share", "Times the median", "Loud channels"),
            *(ESTIMATOR_NAMES[name] for name in BESIDE),
        ),
        rows=tuple(_row(row, is_chosen=row in first) for row in (*first, *rest[:_SHOWN])),
    )


def _row(row: ChannelCheck, *, is_chosen: bool) -> tuple[str, ...]:
    place = f"position {position_name(row.position)}, layer {row.layer}"
    return (
        f"{place}\nchosen" if is_chosen else place,
        str(row.channel),
        percent(row.share),
        "the median is 0" if row.ratio is None else number(row.ratio, 1),
        f"{row.n_loud}\n{percent(row.loud_share)} of it" if row.n_loud else "0",
        *(_cosine(row.cosines.get(name)) for name in BESIDE),
    )


def _cosine(value: float | None) -> str:
    return "none" if value is None else number(value, 2)
