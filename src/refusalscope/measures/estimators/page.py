"""The comparison of estimators on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.estimators.record import Choice, Estimators, Rival
from refusalscope.report.change_words import difference_in_words
from refusalscope.report.estimator_table import ESTIMATOR_NAMES
from refusalscope.report.judge_tables import rate_cell
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import number, position_name
from refusalscope.results.estimator_records import PLAIN
from refusalscope.results.records import CandidateScores, Rate

_CLOSE = 0.95
"""A cosine from which two estimates are called alike."""


def section(records: Sequence[Estimators]) -> Section | None:
    """One table."""
    (record,) = records
    shown = [rate for one in record.choices for rate in (one.harmful, one.harmless) if rate]
    return Section(place="more", tables=(_table(record),), n_intervals=2 + len(shown))


def summary(records: Sequence[Estimators]) -> Mapping[str, object]:
    """Of each estimator the place, the cosine with difference in means, and both effects."""
    return {
        one.name: {
            "position": None if one.chosen is None else one.chosen.position,
            "layer": None if one.chosen is None else one.chosen.layer,
            "passes": one.chosen is not None and not one.failed_limits,
            "cosine_plain": one.cosine_plain,
            "harmful_ablated": _share(one.harmful),
            "harmless_added": _share(one.harmless),
        }
        for one in records[0].choices
    }


def lines(records: Sequence[Estimators]) -> Iterator[str]:
    """A line for each estimator, and whether they agree."""
    (record,) = records
    yield (
        f"first token refuses, untouched: harmful {record.baseline_harmful.rate:.2f}, harmless "
        f"{record.baseline_harmless.rate:.2f}"
    )
    for one in record.choices:
        if one.chosen is None:
            yield f"{_name(one.name)}: no choice: {one.lacking}"
            continue
        yield (
            f"{_name(one.name)}: position {one.chosen.position}, layer {one.chosen.layer}"
            + (f", misses {' and '.join(one.failed_limits)}" if one.failed_limits else "")
            + (f" (the candidates of {_name(one.same_as)})" if one.same_as else "")
            + f"; cosine with difference in means there {_number(one.cosine_plain)}; harmful "
            f"{_number(_share(one.harmful))} ablated, harmless {_number(_share(one.harmless))} "
            f"added"
        )
    yield agreement(record)


def agreement(record: Estimators) -> str:
    """Whether all estimators choose the place of difference in means, or which do not."""
    plain = next(one for one in record.choices if one.name == PLAIN)
    if plain.chosen is None:
        return "Nothing of difference in means can be chosen, so there is nothing to agree with."
    others = [one for one in record.choices if one.name != PLAIN]
    words = [text for one in others if (text := _difference(one, plain.chosen))]
    if not words:
        return (
            f"All agree: each chooses position {position_name(plain.chosen.position)}, layer "
            f"{plain.chosen.layer}, with a cosine of at least {_CLOSE} with difference in means, "
            f"and no difference of effect is shown."
        )
    return f"Not all agree with difference in means: {'; '.join(words)}."


def _difference(one: Choice, plain: CandidateScores) -> str:
    name = _name(one.name)
    if one.chosen is None:
        return f"{name} has no choice"
    words = []
    if (one.chosen.position, one.chosen.layer) != (plain.position, plain.layer):
        words.append(
            f"chooses position {position_name(one.chosen.position)}, layer {one.chosen.layer}"
        )
    if one.cosine_plain is not None and one.cosine_plain < _CLOSE:
        words.append(f"is turned away from it there (cosine {number(one.cosine_plain, 2)})")
    if one.failed_limits:
        words.append(f"misses {' and '.join(one.failed_limits)}")
    for what, change in (
        ("harmful instructions, ablated", one.harmful_change),
        ("harmless instructions, added", one.harmless_change),
    ):
        if change is not None and change.verdict in ("lower", "higher"):
            words.append(
                f"makes {change.verdict} first-token refusal of {what} "
                f"({difference_in_words(change)})"
            )
    return f"{name} {', '.join(words)}" if words else ""


def _table(record: Estimators) -> Table:
    return Table(
        title="The choice by other estimators",
        caption=(
            f"{agreement(record)} Each estimator's candidates, made of the same prompts, are "
            f"chosen from by the run's rule{_among(record)}; COSMIC's rule chooses of difference "
            f"in means by activations alone, without refusal tokens. Bypass, induce and KL on the "
            f"run's validation prompts; the cosine with difference in means at the same place "
            f"(plain) and with the run's direction (r); on the right, the test instructions whose "
            f"first token refuses (log-odds above {number(record.threshold, 2)}), with 95 % Wilson "
            f"intervals; untouched {_untouched(record.baseline_harmful)} of the harmful ones and "
            f"{_untouched(record.baseline_harmless)} of the harmless ones."
        ),
        header=(
            *("Estimator", "Place", "Bypass", "Induce", "KL"),
            *("Cosine: plain", "Cosine: r"),
            *("Harmful, ablated", "Harmless, added"),
        ),
        rows=tuple(_row(one) for one in record.choices),
    )


def _row(one: Choice) -> tuple[str, ...]:
    name = _name(one.name)
    if one.chosen is None:
        return (f"{name}\n{one.lacking}", *("none",) * 8)
    note = f"\nthe candidates of {_name(one.same_as)}" if one.same_as else ""
    missed = f"\nmisses {' and '.join(one.failed_limits)}" if one.failed_limits else ""
    return (
        f"{name}{note}",
        f"position {position_name(one.chosen.position)}, layer {one.chosen.layer}{missed}",
        *(number(value, 2) for value in (one.chosen.bypass, one.chosen.induce)),
        number(one.chosen.kl, 3),
        *(number(value, 3) for value in (one.cosine_plain, one.cosine_run)),
        *(rate_cell(rate) for rate in (one.harmful, one.harmless)),
    )


def _among(record: Estimators) -> str:
    if record.n_leads is None:
        return ""
    return (
        f", of the other estimators among the {record.n_leads} that lead by first-order estimates "
        f"and the one at the run's own place"
    )


def _name(name: Rival) -> str:
    return "COSMIC's rule" if name == "cosmic" else ESTIMATOR_NAMES[name]


def _untouched(rate: Rate) -> str:
    return f"{round(rate.rate * rate.n)} of {rate.n}"


def _share(rate: Rate | None) -> float | None:
    return None if rate is None else rate.rate


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"
