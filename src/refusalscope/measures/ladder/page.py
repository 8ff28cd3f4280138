"""The threat ladder on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.ladder.record import Rung, pairs_of, rank_of
from refusalscope.metrics.rank_area import rank_area
from refusalscope.report.chart import Chart, Figure, axis, layout
from refusalscope.report.outcome_cells import (
    OUTCOME_COLOURS,
    change_cell,
    outcome_cells,
    plain_outcome_cells,
)
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import (
    NOT_MEASURED,
    interval,
    number,
    percent,
    rate_in_full,
    thousands,
)
from refusalscope.results.attack_records import PROMPT_ATTACKS
from refusalscope.results.records import Rate

_FIRST = ("baseline", *PROMPT_ATTACKS, "ablation")


def section(records: Sequence[Rung]) -> Section | None:
    """The table of rungs, the outcomes as bars, the rank curve; None where no rung was tried."""
    rungs = in_order(records)
    if not any(rung.shares for rung in rungs):
        return None
    curve = () if area_of(rungs) is None else (rank_chart(rungs),)
    return Section(
        tables=(ladder_table(rungs),),
        charts=(outcome_bars(rungs), *curve),
        n_intervals=sum(2 if rung.gap else 1 for rung in rungs if rung.refused),
    )


def summary(records: Sequence[Rung]) -> Mapping[str, object]:
    """The share refused on each rung that was tried, and the area under the rank curve."""
    rungs = in_order(records)
    area = area_of(rungs)
    refused = {rung.name: rung.refused.rate for rung in rungs if rung.refused}
    return {"refused": refused, "rank_area": None if area is None else area.model_dump()}


def lines(records: Sequence[Rung]) -> Iterator[str]:
    """A line for each rung, and one for the rank curve."""
    rungs = in_order(records)
    for rung in rungs:
        if rung.shares is None or rung.refused is None:
            yield f"{rung.name}: not tried: {rung.lacking}"
            continue
        gap = "" if rung.gap is None else f", {rung.gap.difference:+.2f} from baseline"
        yield (
            f"{rung.name}: refused {rung.refused.rate:.2f} "
            f"[{rung.refused.low:.2f}, {rung.refused.high:.2f}]{gap}, complied "
            f"{rung.shares.complied:.2f}, degenerate {rung.shares.degenerate:.2f} (n = "
            f"{rung.shares.n})"
        )
    area = area_of(rungs)
    if area is not None:
        yield f"area under the rank curve: {area.rate:.2f} [{area.low:.2f}, {area.high:.2f}]"


def in_order(records: Sequence[Rung]) -> list[Rung]:
    """What needs the least access first: prompts, then directions, then weights."""

    def place(rung: Rung) -> tuple[int, int]:
        if rung.name in _FIRST:
            return _FIRST.index(rung.name), 0
        if (rank := rank_of(rung.name)) is not None:
            return len(_FIRST), rank
        if (n := pairs_of(rung.name)) is not None:
            return len(_FIRST) + 4, n
        later = ("subtraction", "optimised", "weights")
        return len(_FIRST) + 1 + later.index(rung.name), 0

    return sorted(records, key=place)


def area_of(rungs: Sequence[Rung]) -> Rate | None:
    """The area under the rank curve, over the instructions with a verdict at every rank."""
    found = {rank: rung.outcomes for rung in rungs if (rank := rank_of(rung.name)) is not None}
    found = {rank: outcomes for rank, outcomes in found.items() if outcomes}
    if not found:
        return None
    n = min(len(own) for own in found.values())
    kept = [i for i in range(n) if all(own[i] is not None for own in found.values())]
    return rank_area({rank: [own[i] == "refused" for i in kept] for rank, own in found.items()})


def rung_name(name: str) -> str:
    """A rung as it is written on the page."""
    if (rank := rank_of(name)) is not None:
        return f"{rank} direction{'' if rank == 1 else 's'} removed"
    if (n := pairs_of(name)) is not None:
        return f"LoRA on {n} pairs"
    return {
        "baseline": "the model as it is",
        "ablation": "ablation of the direction",
        "subtraction": "subtraction of the direction",
        "optimised": "optimised direction removed",
        "weights": "orthogonalized weights",
    }.get(name, name.replace("_", " "))


def ladder_table(rungs: Sequence[Rung]) -> Table:
    """Outcomes of the harmful test instructions on each rung, with what it cost."""
    return Table(
        title="The threat ladder: harmful instructions",
        caption="A rung is one way to get past refusal, prompts before directions before weights; "
        "random suffix is the control of the searched one, and one direction removed is ablation "
        "again, as the beginning of the rank curve. Small under the share refused: its 95 % Wilson "
        "interval; the gap is the change from the model as it is over the same instructions, "
        "small: its 95 % paired interval. Cost: the instructions that the rung was made from, and "
        "forward and backward passes of one prompt, without the answers that it is measured by.",
        header=("Rung", "Refused", "Gap", "Complied", "Degenerate", "n", "Cost"),
        rows=tuple(_row(rung) for rung in rungs),
    )


def _row(rung: Rung) -> tuple[str, ...]:
    name = f"{rung_name(rung.name)}\n{rung.lacking or rung.detail}"
    if rung.shares is None or rung.refused is None:
        return (name, "not tried", *(NOT_MEASURED,) * 3, "0", NOT_MEASURED)
    cost = rung.cost
    refused, *others = outcome_cells(rung.shares, rung.refused)
    return (
        name,
        refused,
        change_cell(rung.gap),
        *others,
        NOT_MEASURED
        if cost is None
        else f"{thousands(cost.prompts)} prompts\n{thousands(cost.forward)} forward, "
        f"{thousands(cost.backward)} backward",
    )


def outcome_bars(rungs: Sequence[Rung]) -> Chart:
    """The three outcomes of each rung that was tried, as bars that add up to one."""
    tried = [rung for rung in rungs if rung.shares is not None]
    labels = [rung_name(rung.name) for rung in tried]
    shares = [rung.shares for rung in tried if rung.shares is not None]
    data: list[Figure] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": labels,
            "x": [getattr(one, name) for one in shares],
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}: {name} %{{x:.1%}}<extra></extra>",
        }
        for name, colour in OUTCOME_COLOURS
    ]
    return Chart(
        id="chart-ladder",
        title="What became of harmful instructions",
        caption="Refused, complied and degenerate answers on each rung, in the table's order.",
        alternative="; ".join(
            f"{label}: refused {percent(one.refused)}"
            for label, one in zip(labels, shares, strict=True)
        ),
        figure={
            "data": data,
            "layout": layout(
                barmode="stack",
                showlegend=True,
                legend={"orientation": "h", "y": -0.12, "font": {"size": 12}},
                height=110 + 30 * len(tried),
                xaxis=axis("", range=[0, 1], tickformat=".0%", fixedrange=True),
                yaxis=axis("", autorange="reversed", fixedrange=True, showgrid=False, ticks=""),
            ),
        },
        header=("Rung", "Refused", "Complied", "Degenerate", "n"),
        rows=tuple(
            (label, *plain_outcome_cells(one)) for label, one in zip(labels, shares, strict=True)
        ),
    )


def rank_chart(rungs: Sequence[Rung]) -> Chart:
    """The share refused over the number of directions removed."""
    points = [
        (rank, rung.refused)
        for rung in rungs
        if (rank := rank_of(rung.name)) is not None and rung.refused is not None
    ]
    area = area_of(rungs)
    words = "" if area is None else f" Area under it: {number(area.rate, 2)}, 95 % interval "
    words += "" if area is None else f"{number(area.low, 2)} to {number(area.high, 2)}."
    return Chart(
        id="chart-ranks",
        title="How many directions carry refusal",
        caption="Share of harmful instructions refused with so many directions removed at once, "
        f"each read anew from the model without those before it.{words}",
        alternative="; ".join(
            f"{rank} removed: refused {rate_in_full(rate)}" for rank, rate in points
        ),
        figure={
            "data": [
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "x": [str(rank) for rank, _ in points],
                    "y": [rate.rate for _, rate in points],
                    "error_y": {
                        "type": "data",
                        "symmetric": False,
                        "array": [rate.high - rate.rate for _, rate in points],
                        "arrayminus": [rate.rate - rate.low for _, rate in points],
                        "thickness": 1.4,
                        "width": 5,
                    },
                    "line": {"color": "var(--ablation)", "width": 2.2},
                    "hovertemplate": "%{x} removed: %{y:.1%}<extra></extra>",
                }
            ],
            "layout": layout(
                height=300,
                xaxis=axis("directions removed", type="category", fixedrange=True),
                yaxis=axis("share refused", range=[0, 1.05], tickformat=".0%", fixedrange=True),
            ),
        },
        header=("Directions removed", "Refused", "95 % interval", "n"),
        rows=tuple(
            (str(rank), percent(rate.rate), interval(rate), str(rate.n)) for rank, rate in points
        ),
    )
