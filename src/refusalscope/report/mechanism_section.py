"""The section of the page on the mechanism, put together from its records."""

from dataclasses import dataclass

from refusalscope.report.chart import Chart
from refusalscope.report.mechanism_curves import (
    base_chart,
    search_chart,
    suffix_chart,
    trajectory_chart,
)
from refusalscope.report.mechanism_heads import head_charts
from refusalscope.report.mechanism_maps import between_charts, geometry_charts, where_charts
from refusalscope.report.mechanism_tokens import (
    TokenView,
    proposal,
    token_charts,
    token_views,
)
from refusalscope.report.visible_text import visible_plain
from refusalscope.report.wording import percent, rate_in_full
from refusalscope.results.mechanism_folder import MechanismRecords
from refusalscope.results.mechanism_records import Heads, SuffixConditions


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartGroup:
    """Charts that belong together, with what they show in words."""

    title: str
    lead: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismSection:
    """Everything that the section shows."""

    groups: tuple[ChartGroup, ...]
    views: tuple[TokenView, ...]
    notes: tuple[str, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The charts of all groups."""
        return tuple(chart for group in self.groups for chart in group.charts)


def mechanism_section(records: MechanismRecords | None) -> MechanismSection | None:
    """The section; None where a run has no mechanism records."""
    if records is None or records.is_empty:
        return None
    return MechanismSection(
        groups=tuple(group for group in _groups(records) if group.charts),
        views=token_views(records.projections) if records.projections else (),
        notes=_notes(records),
    )


def _groups(records: MechanismRecords) -> tuple[ChartGroup, ...]:
    suffixes, heads, tokens = records.suffixes, records.heads, records.tokens
    return (
        ChartGroup(
            title="An adversarial suffix",
            lead=_suffix_lead(suffixes) if suffixes else "",
            charts=(
                *((suffix_chart(suffixes),) if suffixes else ()),
                *((search_chart(records.search),) if records.search else ()),
            ),
        ),
        ChartGroup(
            title="The heads that write the direction",
            lead=_head_lead(heads) if heads else "",
            charts=head_charts(heads) if heads else (),
        ),
        ChartGroup(
            title="What the refusal metric rests on",
            lead=proposal(tokens) if tokens else "",
            charts=token_charts(tokens) if tokens else (),
        ),
        ChartGroup(
            title="The direction by layer",
            lead="Under the interventions, and in the base model where one was given.",
            charts=(
                *((trajectory_chart(records.trajectories),) if records.trajectories else ()),
                *((base_chart(records.base),) if records.base else ()),
            ),
        ),
        ChartGroup(
            title="Where it acts",
            lead="Parts of the interventions alone, on validation prompts.",
            charts=where_charts(records.where) if records.where else (),
        ),
        ChartGroup(
            title="How directions lie to each other",
            lead="Candidates of this run; the direction is one of them.",
            charts=(
                *(
                    geometry_charts(records.geometry, suffixes.layer)
                    if records.geometry and suffixes
                    else ()
                ),
                *(between_charts(records.between) if records.between else ()),
            ),
        ),
    )


def _suffix_lead(record: SuffixConditions) -> str:
    where = "found by a search" if record.suffix.source == "search" else "that was given"
    return (
        f"Refusal of harmful instructions is {percent(record.harmful.refusal.rate)} without a "
        f"suffix, {percent(record.harmful_random_suffix.refusal.rate)} with "
        f"{record.suffix.n_tokens} random tokens, and "
        f"{rate_in_full(record.harmful_adversarial_suffix.refusal)} with a suffix {where}, none of "
        f"these instructions being among those it was sought on."
        if record.suffix.source == "search"
        else f"Refusal of harmful instructions is {percent(record.harmful.refusal.rate)} without "
        f"a suffix and {rate_in_full(record.harmful_adversarial_suffix.refusal)} with one {where}."
    )


def _head_lead(record: Heads) -> str:
    lead = (
        f"Contributions of all components add up to the projection within "
        f"{record.sum_error:.1g} of its size."
    )
    if record.whole:
        lead += f" Attention of {len(record.whole)} layers is not divided into heads."
    return lead


def _notes(records: MechanismRecords) -> tuple[str, ...]:
    notes = list(records.suffixes.warnings) if records.suffixes else []
    if records.heads and records.heads.attention_refused:
        notes.append(records.heads.attention_refused)
    if records.heads and records.heads.whole:
        module, reason = next(iter(records.heads.whole.items()))
        notes.append(f"not divided into heads: {module}, because {reason}")
    return tuple(visible_plain(note) for note in notes)
