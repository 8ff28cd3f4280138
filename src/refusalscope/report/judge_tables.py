"""What every judge says, and how far judges agree."""

from collections.abc import Sequence

from refusalscope.report.blind_spots import blind_spots
from refusalscope.report.headline_changes import MEASURES, headline_rates
from refusalscope.report.table import Table
from refusalscope.report.wording import (
    NOT_MEASURED,
    condition_name,
    conditions_in_order,
    interval,
    number,
    percent,
    thousands,
)
from refusalscope.results.evaluation_records import Agreement, PairAgreement
from refusalscope.results.records import Rate, Summary
from refusalscope.results.stress_records import JudgeStress


def judge_tables(
    summary: Summary | None, agreement: Agreement | None, tried: Sequence[JudgeStress] = ()
) -> tuple[Table, ...]:
    """Those of the tables that the run has records for."""
    found = (
        rate_table(summary),
        blind_spots(summary, tried),
        kappa_table(agreement),
        combination_table(agreement),
    )
    return tuple(table for table in found if table is not None)


def rate_table(summary: Summary | None) -> Table | None:
    """Every judge's rates, where one's are not those that the headline shows anyway."""
    if summary is None or not _says_more(summary):
        return None
    rows = [
        (judge, dataset, rates)
        for judge, datasets in summary.judges.items()
        for dataset, rates in datasets.items()
    ]
    conditions = conditions_in_order({name for _, _, rates in rows for name in rates})
    return Table(
        title="Every judge's rates",
        caption="Share refused or safe, whichever the judge measures, with 95 % Wilson intervals.",
        header=("Judge and data set", *(condition_name(each) for each in conditions)),
        rows=tuple(
            (f"{judge}\n{dataset}", *(rate_cell(rates.get(each)) for each in conditions))
            for judge, dataset, rates in rows
        ),
    )


def _says_more(summary: Summary) -> bool:
    if summary.refusal_judge is None:  # an earlier version, which does not say whose rates it shows
        return len(summary.judges) > 2
    shown = [headline_rates(summary, measure) for measure in MEASURES]
    return any(rates not in shown for rates in summary.judges.values())


def kappa_table(agreement: Agreement | None) -> Table | None:
    """Agreement of every two judges of one measure."""
    if agreement is None or not agreement.pairs:
        return None
    return Table(
        title="How far judges agree",
        caption="Cohen's kappa is 1 where two judges always agree and 0 where they agree no more "
        "often than by chance; with its 95 % interval.",
        header=("Judges", "On", "Agree", "Kappa", "Only the first says yes", "Only the second"),
        rows=tuple(
            (
                f"{row.first} and {row.second}\n{row.measure}",
                f"{row.dataset or 'all data sets'}\nn = {thousands(row.n)}",
                percent(row.observed),
                _kappa(row),
                thousands(row.first_only),
                thousands(row.second_only),
            )
            for row in agreement.pairs
        ),
    )


def _kappa(row: PairAgreement) -> str:
    if row.kappa is None:
        return "not defined\nboth always say the same"
    return f"{number(row.kappa, 2)}\n{number(row.low, 2)} to {number(row.high, 2)}"


def combination_table(agreement: Agreement | None) -> Table | None:
    """Refusal and safety together: completions of each pair of verdicts, by condition."""
    if agreement is None or not agreement.combinations:
        return None
    rows, conditions = [], set()
    for both in agreement.combinations:
        for one in both.combinations:
            counts: dict[str, int] = {}
            for place in one.places:
                counts[place.condition] = counts.get(place.condition, 0) + 1
            conditions |= set(counts)
            name = f"{'refused' if one.refusal else 'answered'}, {'safe' if one.safe else 'unsafe'}"
            rows.append((f"{name}\n{both.refusal_judge}, {both.safety_judge}", counts))
    order = conditions_in_order(conditions)
    return Table(
        title="Refusal and safety together",
        caption="Completions of all data sets by pair of verdicts. Answered and safe: a harmless "
        "question answered, a false premise corrected, or harmless nonsense. Refused and unsafe: "
        "a refusal phrase before or after an unsafe answer. The filters above find them.",
        header=("Verdicts", *(condition_name(each) for each in order)),
        rows=tuple((name, *(thousands(counts.get(c, 0)) for c in order)) for name, counts in rows),
    )


def rate_cell(rate: Rate | None) -> str:
    """A rate with its interval and n."""
    return NOT_MEASURED if rate is None else f"{percent(rate.rate)}\n{interval(rate)}, n = {rate.n}"
