"""The rates of a run and of its audit as plain rows: what every export is made from."""

import csv
from dataclasses import dataclass
from io import StringIO
from typing import Literal

from refusalscope.errors import RunFolderError
from refusalscope.metrics.intervals import wilson_interval
from refusalscope.results.audit_records import Audit
from refusalscope.results.records import OutcomeShares, Rate
from refusalscope.results.run_records import RunRecords

Share = Literal["refused", "safe", "complied", "degenerate"]
HARMFUL = "harmful"
_COLUMNS = ("part", "dataset", "condition", "judge", "share_of", "rate", "n", "low", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRate:
    """One share with its n and interval, and what it is of.

    Attributes:
        part: `run`, or the part of the audit: ladder, dose, over-refusal.
        condition: A condition of the run, a rung of the ladder, or a strength of the edit.
        judge: None for shares of the three outcomes, which the run's deciding judge and the signs
            of nonsense make together.
    """

    part: str
    dataset: str
    condition: str
    judge: str | None
    share: Share
    rate: Rate

    @property
    def id(self) -> str:
        """The same for the same figure of every run."""
        parts = (self.part, self.dataset, self.condition, self.judge or "outcomes", self.share)
        return "/".join(parts)

    @property
    def lower_is_better(self) -> bool:
        """Of refusals on harmful instructions, and of safe answers, more is better."""
        if self.share == "refused":
            return self.dataset != HARMFUL
        if self.share == "complied":
            return self.dataset == HARMFUL
        return self.share == "degenerate"


def exported_rates(run: RunRecords, audit: Audit | None) -> tuple[ExportedRate, ...]:
    """Every rate of a finished run's summary, then those of its audit where there is one.

    Raises:
        RunFolderError: the summary has rates of a judge whose judgements are not in the folder.
    """
    summary = run.summary
    rates: list[ExportedRate] = []
    if summary is not None:
        measured = {own.judge: own.measures for own in run.judgements}
        for judge, by_dataset in summary.judges.items():
            if judge not in measured:
                raise RunFolderError(
                    f"{run.folder} has rates of judge {judge} and none of its judgements, so it "
                    "is not known what it judged; judge the run anew, or copy its folder again"
                )
            share: Share = "refused" if measured[judge] == "refusal" else "safe"
            rates += [
                ExportedRate(
                    part="run",
                    dataset=dataset,
                    condition=condition,
                    judge=judge,
                    share=share,
                    rate=rate,
                )
                for dataset, by_condition in by_dataset.items()
                for condition, rate in by_condition.items()
            ]
        for dataset, shares_of in summary.outcomes.items():
            for condition, shares in shares_of.items():
                rates += _of_outcomes("run", dataset, condition, shares)
    return tuple(rates) if audit is None else (*rates, *_of_audit(audit))


def rates_csv(rates: tuple[ExportedRate, ...]) -> str:
    """One line a rate; the judge is empty for shares of the three outcomes."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rates:
        numbers = (repr(row.rate.rate), row.rate.n, repr(row.rate.low), repr(row.rate.high))
        what = (row.part, row.dataset, row.condition, row.judge or "", row.share)
        writer.writerow((*what, *numbers))
    return out.getvalue()


def _of_audit(audit: Audit) -> list[ExportedRate]:
    rates: list[ExportedRate] = []
    for rung in audit.rungs:
        if rung.refused is None:
            continue
        shares = OutcomeShares(
            refused=rung.refused,
            complied=rung.complied or 0.0,
            degenerate=rung.degenerate or 0.0,
            n=rung.n,
        )
        rates += _of_outcomes("ladder", HARMFUL, rung.name, shares)
    for part, condition_of, by_name in (
        ("dose", lambda name: (HARMFUL, f"strength {name}"), audit.dose),
        ("over-refusal", lambda name: (name, "baseline"), audit.over_refusal),
    ):
        for name, rate in (by_name or {}).items():
            if rate is not None:
                dataset, condition = condition_of(name)
                rates.append(
                    ExportedRate(
                        part=part,
                        dataset=dataset,
                        condition=condition,
                        judge=None,
                        share="refused",
                        rate=rate,
                    )
                )
    return rates


def _of_outcomes(
    part: str, dataset: str, condition: str, shares: OutcomeShares
) -> list[ExportedRate]:
    if not shares.n:
        return []
    named: tuple[tuple[Share, float], ...] = (
        ("refused", shares.refused),
        ("complied", shares.complied),
        ("degenerate", shares.degenerate),
    )
    rows = []
    for share, value in named:
        low, high = wilson_interval(round(value * shares.n), shares.n)
        rate = Rate(rate=value, n=shares.n, low=low, high=high)
        rows.append(
            ExportedRate(
                part=part,
                dataset=dataset,
                condition=condition,
                judge=None,
                share=share,
                rate=rate,
            )
        )
    return rows
