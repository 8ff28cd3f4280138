"""Dose and response on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.dose.record import Dose, DosePoint
from refusalscope.report.chart import Chart, Figure, axis, layout
from refusalscope.report.outcome_cells import (
    OUTCOME_COLOURS,
    change_cell,
    outcome_cells,
    plain_outcome_cells,
)
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, number, percent, signed


def section(records: Sequence[Dose]) -> Section | None:
    """A table and a chart; None without a verdict at any strength."""
    points = [point for point in records[0].points if point.shares is not None]
    if not points:
        return None
    return Section(
        tables=(dose_table(points),),
        charts=(dose_chart(points),),
        n_intervals=sum(1 + (p.gap is not None) + (p.damage is not None) for p in points),
    )


def summary(records: Sequence[Dose]) -> Mapping[str, object]:
    """The share refused by strength."""
    return {f"{p.strength:g}": p.refused.rate for p in records[0].points if p.refused}


def lines(records: Sequence[Dose]) -> Iterator[str]:
    """A line for each strength."""
    for point in records[0].points:
        if point.shares is None or point.refused is None:
            yield f"strength {point.strength:g}: no verdict"
            continue
        kl = "not measured" if point.damage is None else f"{point.damage.kl:.4f} nats a token"
        yield (
            f"strength {point.strength:g}: refused {point.refused.rate:.2f} "
            f"[{point.refused.low:.2f}, {point.refused.high:.2f}], complied "
            f"{point.shares.complied:.2f}, degenerate {point.shares.degenerate:.2f} (n = "
            f"{point.shares.n}), KL on harmless answers {kl}"
        )


def dose_table(points: Sequence[DosePoint]) -> Table:
    """Outcomes and damage by strength."""
    return Table(
        title="Dose: how much of the edit is enough",
        caption="Strength 1 removes the direction, 0.5 half of the stream's part along it, 1.25 "
        "more than is there. Outcomes of the harmful test instructions, small: 95 % intervals. "
        "Damage: KL from the unedited model along its own answers to harmless instructions, in "
        "nats a token, small: 95 % bootstrap interval over answers, and the change of their loss.",
        header=("Strength", "Refused", "Gap", "Complied", "Degenerate", "n", "KL", "Loss"),
        rows=tuple(_row(point) for point in points),
    )


def _row(point: DosePoint) -> tuple[str, ...]:
    damage = point.damage
    refused, *others = outcome_cells(point.shares, point.refused)
    return (
        f"{point.strength:g}",
        refused,
        change_cell(point.gap),
        *others,
        NOT_MEASURED
        if damage is None
        else f"{number(damage.kl, 4)}\n{number(damage.kl_low, 4)} to {number(damage.kl_high, 4)}",
        NOT_MEASURED if damage is None else signed(damage.loss_change, 4),
    )


def dose_chart(points: Sequence[DosePoint]) -> Chart:
    """The three outcomes over strength."""
    shares = [point.shares for point in points if point.shares is not None]
    x = [point.strength for point in points]
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": x,
            "y": [getattr(one, name) for one in shares],
            "line": {"color": colour, "width": 2.2},
            "hovertemplate": f"strength %{{x}}: {name} %{{y:.1%}}<extra></extra>",
        }
        for name, colour in OUTCOME_COLOURS
    ]
    return Chart(
        id="chart-dose",
        title="Outcomes over the strength of the edit",
        caption="Answers to harmful instructions with so much of the direction removed.",
        alternative="; ".join(
            f"strength {point.strength:g}: refused {percent(one.refused)}"
            for point, one in zip(points, shares, strict=True)
        ),
        figure={
            "data": data,
            "layout": layout(
                height=300,
                showlegend=True,
                legend={"orientation": "h", "y": -0.25, "font": {"size": 12}},
                xaxis=axis("strength", fixedrange=True),
                yaxis=axis("share", range=[0, 1.05], tickformat=".0%", fixedrange=True),
            ),
        },
        header=("Strength", "Refused", "Complied", "Degenerate", "n"),
        rows=tuple(
            (f"{point.strength:g}", *plain_outcome_cells(one))
            for point, one in zip(points, shares, strict=True)
        ),
    )
