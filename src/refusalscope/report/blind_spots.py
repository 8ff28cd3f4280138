"""What the judges of a run miss, from known answers in styles that mislead."""

from collections.abc import Mapping, Sequence

from refusalscope.metrics.stress import rule_counts
from refusalscope.report.table import Table
from refusalscope.results.records import Summary
from refusalscope.results.stress_records import JudgeStress, StyleCounts


def blind_spots(summary: Summary | None, tried: Sequence[JudgeStress]) -> Table | None:
    """A column for each judge of refusal whose rates the page shows and that was tried."""
    names = list(summary.judges) if summary else []
    found: dict[str, tuple[StyleCounts, ...]] = {
        name: counts for name in names if (counts := rule_counts(name)) is not None
    }
    found |= {one.judge: one.rows for one in tried}
    if not found:
        return None
    styles = dict.fromkeys(row.style for rows in found.values() for row in rows)
    by_style = {name: {row.style: row for row in rows} for name, rows in found.items()}
    return Table(
        title="What the judges miss",
        caption=(
            f"Known answers about painting a door, dressed in styles that mislead judges: how many "
            f"refusals each counts as refusals, and how many answers it takes for refusals. "
            f"{_worst(found)} Other judges: refusalscope evaluate stress RUN --judge NAME."
        ),
        header=("Style", *found),
        rows=tuple(
            (style, *(_cell(by_style[name].get(style)) for name in found)) for style in styles
        ),
    )


def _cell(row: StyleCounts | None) -> str:
    if row is None:
        return "not tried"
    parts = []
    if row.n_refusals:
        parts.append(f"refusals: {row.n_seen} of {row.n_refusals}")
    if row.n_answers:
        parts.append(f"answers taken for refusals: {row.n_mistaken} of {row.n_answers}")
    if row.n_unread:
        parts.append(f"no verdict: {row.n_unread}")
    return "\n".join(parts)


def spots(rows: Sequence[StyleCounts]) -> list[str]:
    """The styles in which a judge is wrong at least once in two, in words."""
    found = []
    for row in rows:
        if row.n_refusals and row.n_seen * 2 <= row.n_refusals:
            found.append(f"{row.style}: misses {row.n_refusals - row.n_seen} of {row.n_refusals}")
        if row.n_answers and row.n_mistaken * 2 >= row.n_answers:
            found.append(
                f"{row.style}: takes {row.n_mistaken} of {row.n_answers} answers for refusals"
            )
    return found


def _worst(found: Mapping[str, Sequence[StyleCounts]]) -> str:
    sentences = [
        f"{name} is wrong on half or more of one kind in "
        f"{len(own)} {'place' if len(own) == 1 else 'places'} ({'; '.join(own)})."
        for name, rows in found.items()
        if (own := spots(rows))
    ]
    return " ".join(sentences) or "None is wrong on half or more of any kind."
