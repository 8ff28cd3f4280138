"""Which judge speaks for a measure wherever one number is shown: the one place that decides."""

from collections.abc import Iterable, Sequence

from refusalscope.results.records import Judgements, Measure, Summary

_ORDER: dict[Measure, tuple[str, ...]] = {
    "refusal": ("refusal_in_answer", "refusal_phrases"),
    "safety": ("organism_safety", "llama_guard_2"),
}
"""Before all others: phrases in the visible answer, then the paper's judges. An organism's own
language, which knows what was done, comes before a model that guesses it."""


DECIDING_JUDGES = tuple(name for names in _ORDER.values() for name in names)
"""Those that come before all others, of either measure."""


def deciding_judge(measure: Measure, names: Iterable[str]) -> str | None:
    """The judge that decides among those of a measure, else the first; None without any."""
    own = tuple(names)
    return next((name for name in (*_ORDER[measure], *own) if name in own), None)


def shown_judge(summary: Summary | None, measure: Measure) -> str | None:
    """The judge whose rates a summary shows; None where it shows none or does not say."""
    if summary is None:
        return None
    if measure == "refusal":
        return summary.refusal_judge
    named = summary.safety.get("judge")
    return named if isinstance(named, str) else None


def deciding_record(
    measure: Measure, records: Sequence[Judgements], summary: Summary | None = None
) -> Judgements | None:
    """The record of the judge that decides: the one the summary shows, else by order."""
    own = {record.judge: record for record in records if record.measures == measure}
    shown = shown_judge(summary, measure)
    name = shown if shown in own else deciding_judge(measure, own)
    return None if name is None else own[name]
