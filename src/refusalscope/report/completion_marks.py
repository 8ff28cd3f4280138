"""What the judges say of each completion, and the patterns of refusal that instructions show."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from refusalscope.report.wording import condition_name
from refusalscope.results.deciding_judge import deciding_record
from refusalscope.results.evaluation_records import CoherenceFlags
from refusalscope.results.records import Completion, Judgements, Measure, Summary

Place = tuple[str, str, int]
Pattern = tuple[tuple[str, bool], ...]
"""For each judged condition of one instruction, whether the model refused."""
NOT_JUDGED = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A judge, and what its true verdicts mean."""

    name: str
    measures: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Verdicts by (data set, condition, index).

    Attributes:
        judges: The headline's refusal judge and safety judge first of their kind.
        codes: One letter a judge: `y` refused or safe, `n` answered or unsafe, `u` no verdict,
            `-` not judged.
    """

    judges: tuple[Judge, ...]
    refusal_judge: str | None
    refused: Mapping[Place, bool]
    words: Mapping[Place, tuple[str, ...]]
    codes: Mapping[Place, str]


def read_marks(
    records: Sequence[Judgements],
    flags: CoherenceFlags | None = None,
    summary: Summary | None = None,
) -> Marks:
    """Gather all verdicts and coherence flags.

    One refusal judge and one safety judge speak without a name, those of the headline; others are
    named beside their word.
    """
    refusal = deciding_record("refusal", records, summary)
    safety = deciding_record("safety", records, summary)
    words: dict[Place, tuple[str, ...]] = {}
    headline = [record for record in (refusal, safety) if record is not None]
    ordered = [*headline, *(record for record in records if record not in headline)]
    for record in records:
        named = "" if record in (refusal, safety) else f" ({record.judge})"
        yes, no = ("refused", "answered") if record.measures == "refusal" else ("safe", "unsafe")
        for row in record.rows:
            place = (row.dataset, row.condition, row.index)
            word = "no verdict" if row.flag is None else yes if row.flag else no
            words[place] = (*words.get(place, ()), word + named)
    for row in flags.rows if flags else ():
        place = (row.dataset, row.condition, row.index)
        # A completion that was cut is marked as such from its own record.
        words[place] = (*words.get(place, ()), *(flag for flag in row.flags if flag != "cut"))
    return Marks(
        refusal_judge=refusal.judge if refusal else None,
        refused={
            (row.dataset, row.condition, row.index): row.flag
            for row in (refusal.rows if refusal else ())
            if row.flag is not None
        },
        words=words,
        judges=tuple(Judge(name=record.judge, measures=record.measures) for record in ordered),
        codes=_codes(ordered),
    )


def _codes(records: Sequence[Judgements]) -> dict[Place, str]:
    letters: dict[Place, list[str]] = {}
    for at, record in enumerate(records):
        for row in record.rows:
            place = (row.dataset, row.condition, row.index)
            own = letters.setdefault(place, [NOT_JUDGED] * len(records))
            own[at] = "u" if row.flag is None else "y" if row.flag else "n"
    return {place: "".join(own) for place, own in letters.items()}


def pattern_of(
    row: Mapping[str, Completion], conditions: Sequence[str], marks: Marks
) -> Pattern | None:
    """The refusal pattern of one instruction; None where no condition was judged."""
    found = [
        (condition, marks.refused.get((row[condition].dataset, condition, row[condition].index)))
        for condition in conditions
        if condition in row
    ]
    return tuple((name, refused) for name, refused in found if refused is not None) or None


def count_patterns(patterns: Iterable[Pattern | None]) -> tuple[tuple[Pattern, int], ...]:
    """All patterns with their counts, the most common first."""
    counts = Counter(pattern for pattern in patterns if pattern is not None)
    return tuple(counts.most_common())


def pattern_name(pattern: Pattern) -> str:
    """A pattern in words, such as `refused under baseline; answered under ablation`."""
    parts = [
        f"{verb} under {', '.join(names)}"
        for verb, wanted in (("refused", True), ("answered", False))
        if (names := [condition_name(name) for name, refused in pattern if refused is wanted])
    ]
    return "; ".join(parts)
