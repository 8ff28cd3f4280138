"""What the direction tells apart, on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.contrast.record import ContrastMeasure, Detection, MatchedPairs
from refusalscope.report.chart import Chart
from refusalscope.report.mechanism_curves import Line, line_chart
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, number, position_name, thousands
from refusalscope.results.contrast_records import Separation

_SHOWN = 5
_COLOURS = (
    *("var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)"),
    "var(--control)",
)
_DASHES = ("solid", "dash", "dot")


def section(records: Sequence[ContrastMeasure]) -> Section | None:
    """A table and a chart."""
    (record,) = records
    shown = _shown(record)
    n = sum(1 + (row.refusals is not None) for row in shown) + _n_of_pairs(record.pairs)
    return Section(
        place="more", tables=(_table(record, shown),), charts=_charts(record), n_intervals=n
    )


def summary(records: Sequence[ContrastMeasure]) -> Mapping[str, object]:
    """The cosine with the direction of pairs, and what the chosen direction reads."""
    (record,) = records
    own = _own(record)
    return {
        "pairs_cosine": None if record.pairs is None else record.pairs.cosine,
        "refusals_area": None if own is None or own.refusals is None else own.refusals.area,
        "harm_area": None if own is None else own.harm.area,
    }


def lines(records: Sequence[ContrastMeasure]) -> Iterator[str]:
    """Three sentences."""
    (record,) = records
    yield paired(record)
    yield reads(record)


def paired(record: ContrastMeasure) -> str:
    """What pairs matched by words say of the direction."""
    pairs = record.pairs
    if pairs is None:
        return "Fewer than two pairs of instructions alike in words can be made."
    return (
        f"{pairs.n} harmful training instructions beside the harmless ones most like them in words "
        f"(of {thousands(pairs.n_pool)}, mean cosine of words {number(pairs.similarity, 2)}): the "
        f"direction of these pairs has a cosine of {number(pairs.cosine, 2)} with r "
        f"({number(pairs.cosine_interval.low, 2)} to {number(pairs.cosine_interval.high, 2)}). "
        f"Words alone tell the pairs apart with an AUROC of {_area(pairs.words)}, as many "
        f"instructions that are not paired with {_area(pairs.words_before)}."
    )


def reads(record: ContrastMeasure) -> str:
    """Whether the direction reads the model's refusals, or only harm."""
    own = _own(record)
    if own is None:
        return "The direction is none of the candidates."
    harm = f"harmful instructions from harmless ones with an AUROC of {_area(own.harm)}"
    if own.refusals is None:
        return (
            f"The projection on r tells {harm}. Of {record.n_refused + record.n_answered} harmful "
            f"test instructions the model refuses {record.n_refused}, so how well r reads which of "
            f"them it refuses cannot be told."
        )
    best = max(
        (row for row in record.detection if row.refusals is not None),
        key=lambda row: 0.0 if row.refusals is None else row.refusals.area,
    )
    return (
        f"The projection on r tells the {record.n_refused} harmful test instructions that the "
        f"model refuses from the {record.n_answered} that it does not with an AUROC of "
        f"{_area(own.refusals)}, and {harm}. Inducing and detecting are two things: the candidate "
        f"that reads refusals best is that of position {position_name(best.position)}, layer "
        f"{best.layer} ({_area(best.refusals)}, the best of {len(record.detection)} and so too "
        f"high)."
    )


def _own(record: ContrastMeasure) -> Detection | None:
    place = (record.position, record.layer)
    return next((row for row in record.detection if (row.position, row.layer) == place), None)


def _shown(record: ContrastMeasure) -> list[Detection]:
    """The chosen candidate, those that read best, and those that induce most."""
    own = _own(record)
    by_reading = sorted(record.detection, key=lambda row: -_strength(row))[:_SHOWN]
    known = [row for row in record.detection if row.induce is not None]
    by_inducing = sorted(known, key=lambda row: -(row.induce or 0.0))[:_SHOWN]
    rows = {(row.position, row.layer): row for row in (*by_reading, *by_inducing)}
    return [*([] if own is None else [own]), *(row for row in rows.values() if row != own)]


def _strength(row: Detection) -> float:
    return row.harm.area if row.refusals is None else row.refusals.area


def _table(record: ContrastMeasure, shown: Sequence[Detection]) -> Table:
    return Table(
        title="What candidates read, beside what they do",
        caption=(
            f"{paired(record)} {reads(record)} Shown are the chosen candidate, those that read "
            f"best, and those that induce most of what the choice has scored; refusals as "
            f"{record.judge} says; areas under the ROC curve with 95 % intervals (DeLong)."
        ),
        header=("Place", "Own refusals, AUROC", "Harm, AUROC", "Bypass", "Induce"),
        rows=tuple(
            (
                f"position {position_name(row.position)}, layer {row.layer}"
                + (
                    "\nchosen"
                    if (row.position, row.layer) == (record.position, record.layer)
                    else ""
                ),
                _cell(row.refusals),
                _cell(row.harm),
                number(row.bypass, 2),
                number(row.induce, 2),
            )
            for row in shown
        ),
    )


def _charts(record: ContrastMeasure) -> tuple[Chart, ...]:
    """The area over layers, a line for each position."""
    has_refusals = any(row.refusals is not None for row in record.detection)
    positions = sorted({row.position for row in record.detection}, reverse=True)
    layers = sorted({row.layer for row in record.detection})
    rows = {(row.position, row.layer): row for row in record.detection}
    what = "the model's own refusals" if has_refusals else "harm"
    return (
        line_chart(
            "detection",
            title=f"How well each candidate reads {what}",
            caption=(
                f"AUROC on test instructions of the projection on the candidate of the same "
                f"position and layer: {what}; 0.5 is chance."
            ),
            lines=[
                Line(
                    name=f"position {position_name(position)}",
                    colour=_COLOURS[at % len(_COLOURS)],
                    dash=_DASHES[at // len(_COLOURS) % len(_DASHES)],
                    values=[_value(rows.get((position, layer)), has_refusals) for layer in layers],
                )
                for at, position in enumerate(positions)
            ],
            unit="AUROC",
            places=layers,
        ),
    )


def _value(row: Detection | None, has_refusals: bool) -> float | None:
    if row is None:
        return None
    if not has_refusals:
        return row.harm.area
    return None if row.refusals is None else row.refusals.area


def _n_of_pairs(pairs: MatchedPairs | None) -> int:
    return (
        0
        if pairs is None
        else 1 + sum(one is not None for one in (pairs.words, pairs.words_before))
    )


def _area(one: Separation | None) -> str:
    if one is None:
        return NOT_MEASURED
    return f"{number(one.area, 2)} ({number(one.low, 2)} to {number(one.high, 2)})"


def _cell(one: Separation | None) -> str:
    if one is None:
        return NOT_MEASURED
    return f"{number(one.area, 2)}\n{number(one.low, 2)} to {number(one.high, 2)}"
