"""Why each candidate direction was not chosen, as categories that fit in a map and a count."""

import re
from dataclasses import dataclass

from refusalscope.report.wording import thousands
from refusalscope.results.records import CandidateScores, Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A category of candidates: its mark on the map, its name and what it means."""

    key: str
    mark: str
    name: str
    meaning: str


CHOSEN = Reason(
    key="chosen", mark="★", name="chosen", meaning="the lowest bypass score of those that pass"
)
PASSED = Reason(
    key="passed", mark="●", name="passes", meaning="within every limit, but a higher bypass score"
)
LAYER = Reason(key="layer", mark="L", name="late layer", meaning="its layer is above the limit")
KL = Reason(key="kl", mark="K", name="KL", meaning="removing it disturbs harmless prompts too much")
INDUCE = Reason(key="induce", mark="I", name="induce", meaning="adding it does not cause refusal")
OUTRANKED = Reason(
    key="outranked",
    mark="O",
    name="outranked",
    meaning="its bypass score provably cannot be the best",
)
NUMBER = Reason(
    key="number",
    mark="N",
    name="no direction",
    meaning="it is zero, as at layer 0 where all prompts share these tokens, or a score is not a "
    "finite number",
)
OTHER = Reason(key="other", mark="?", name="other", meaning="another reason, see the table")
REASONS = (CHOSEN, PASSED, OUTRANKED, INDUCE, KL, LAYER, NUMBER, OTHER)

_WORDS = (
    (NUMBER, r"\bnan\b|finite|not a number|\bzero\b"),
    (KL, r"\bkl\b"),
    (INDUCE, r"\binduce"),
    (OUTRANKED, r"\boutranked|\bbypass"),
    (LAYER, r"\blayer"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapCell:
    """One candidate on the map."""

    reason: Reason
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonMap:
    """Positions by layers; None where there was no such candidate. With counts by reason."""

    positions: tuple[int, ...]
    n_layers: int
    cells: tuple[tuple[MapCell | None, ...], ...]
    counts: tuple[tuple[Reason, int], ...]


def reason_map(selection: Selection) -> ReasonMap:
    """Sort every candidate into a category, for the map and the counts under it."""
    chosen = (selection.chosen.position, selection.chosen.layer)
    by_place = {
        (row.position, row.layer): _cell(row, chosen=(row.position, row.layer) == chosen)
        for row in selection.candidates
    }
    positions = tuple(sorted({position for position, _ in by_place}))
    found = [cell.reason for cell in by_place.values()]
    return ReasonMap(
        positions=positions,
        n_layers=selection.n_layers,
        cells=tuple(
            tuple(by_place.get((position, layer)) for layer in range(selection.n_layers))
            for position in positions
        ),
        counts=tuple((reason, found.count(reason)) for reason in REASONS if reason in found),
    )


def reason_of(rejected: str | None) -> Reason:
    """The category of a rejection: that of the first word it is known by."""
    if rejected is None:
        return PASSED
    hits = [
        (match.start(), reason)
        for reason, pattern in _WORDS
        if (match := re.search(pattern, rejected, re.IGNORECASE))
    ]
    return min(hits, key=lambda hit: hit[0])[1] if hits else OTHER


def sweeps_sentence(selection: Selection) -> str:
    """What the search cost, against the full grid of the paper's procedure."""
    if selection.sweeps is None or selection.full_sweeps is None:
        return "How many validation sweeps the search took is not measured."
    share = selection.sweeps / selection.full_sweeps if selection.full_sweeps else 1.0
    run = f"{selection.sweeps:.1f}".removesuffix(".0")
    what = f"{run} of the {thousands(selection.full_sweeps)} validation sweeps of the full grid"
    if selection.all_scores and share < 1:
        return f"{what} would have been enough to find the winner ({100 * share:.0f} %)."
    return f"{what} were run ({100 * share:.0f} %)."


def _cell(row: CandidateScores, *, chosen: bool) -> MapCell:
    reason = CHOSEN if chosen else reason_of(row.rejected)
    return MapCell(reason=reason, note=row.rejected or reason.meaning)
