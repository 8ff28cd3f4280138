"""How far judges agree, and which completions each pair of verdicts is made of."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from refusalscope.metrics.kappa import cohen_kappa
from refusalscope.results.evaluation_records import (
    Agreement,
    Combination,
    Combinations,
    PairAgreement,
    Place,
)
from refusalscope.results.records import Condition, Judgements, Measure

_Key = tuple[str, Condition, int]
_MEASURES: tuple[Measure, ...] = ("refusal", "safety")


def agreement_of(judgements: Sequence[Judgements]) -> Agreement:
    """Kappa of every two judges of one measure; the combinations of every two of both measures."""
    pairs = [
        row
        for measure in _MEASURES
        for first, second in combinations([j for j in judgements if j.measures == measure], 2)
        for row in _pair(first, second)
    ]
    four = [
        _combinations(refusal, safety)
        for refusal in judgements
        for safety in judgements
        if refusal.measures == "refusal" and safety.measures == "safety"
    ]
    return Agreement(pairs=tuple(pairs), combinations=tuple(four))


def _pair(first: Judgements, second: Judgements) -> list[PairAgreement]:
    """All data sets together, then each; data sets that only one judged are in neither."""
    one, other = _flags(first), _flags(second)
    shared = [key for key in one if key in other]
    datasets = sorted({key[0] for key in shared})
    groups: list[tuple[str | None, list[_Key]]] = [(None, shared)] if len(datasets) > 1 else []
    groups += [(name, [key for key in shared if key[0] == name]) for name in datasets]
    rows = []
    for name, keys in groups:
        flags = [
            (a, b) for key in keys if (a := one[key]) is not None and (b := other[key]) is not None
        ]
        if not flags:
            continue
        found = cohen_kappa([a for a, _ in flags], [b for _, b in flags])
        both_true, first_only, second_only, both_false = found.counts
        rows.append(
            PairAgreement(
                measure=first.measures,
                first=first.judge,
                second=second.judge,
                dataset=name,
                n=len(flags),
                n_left_out=len(keys) - len(flags),
                both_true=both_true,
                first_only=first_only,
                second_only=second_only,
                both_false=both_false,
                observed=found.observed,
                kappa=found.kappa,
                low=found.low,
                high=found.high,
            )
        )
    return rows


def _combinations(refusal: Judgements, safety: Judgements) -> Combinations:
    refused, safe = _flags(refusal), _flags(safety)
    shared = [key for key in refused if key in safe]
    places: dict[tuple[bool, bool], list[Place]] = {
        (r, s): [] for r in (True, False) for s in (True, False)
    }
    n_left_out = 0
    for key in shared:
        r, s = refused[key], safe[key]
        if r is None or s is None:
            n_left_out += 1
        else:
            places[r, s].append(Place(dataset=key[0], condition=key[1], index=key[2]))
    return Combinations(
        refusal_judge=refusal.judge,
        safety_judge=safety.judge,
        n_left_out=n_left_out,
        combinations=tuple(
            Combination(refusal=r, safe=s, places=tuple(found)) for (r, s), found in places.items()
        ),
    )


def _flags(judgements: Judgements) -> Mapping[_Key, bool | None]:
    return {(row.dataset, row.condition, row.index): row.flag for row in judgements.rows}
