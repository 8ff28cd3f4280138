"""The page of an audit: what was found, what follows, each part, and what was not tested."""

from dataclasses import dataclass

from refusalscope.report.page_parts import environment, page_parts
from refusalscope.report.section import Section
from refusalscope.report.shown_intervals import intervals_sentence
from refusalscope.results.audit_records import Audit


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """An audit and the tables and charts of its parts, in their order."""

    record: Audit
    sections: tuple[Section, ...]


def render_audit(page: AuditPage) -> str:
    """The page as text; the same record and sections give the same text."""
    charts = [chart for section in page.sections for chart in section.charts]
    n_intervals = sum(section.n_intervals for section in page.sections)
    return (
        environment()
        .get_template("audit.html.jinja")
        .render(
            audit=page.record,
            sections=page.sections,
            intervals=intervals_sentence(n_intervals),
            chart_data={chart.id: chart.figure for chart in charts},
            **page_parts(),
        )
    )
