"""A measure and a judge of a package that is not refusalscope."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

from refusalscope.evaluation.rule_judges import RuleJudge
from refusalscope.pipeline.session import Session
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.results.flags import Flag
from refusalscope.results.measures import Measure
from refusalscope.results.numbers import Count
from refusalscope.results.record import Record
from refusalscope.results.run_records import read_run


class WordOptions(Record):
    least: Annotated[Count, Flag("Shorter words do not count.")] = 1


class Words(Record):
    mean: dict[str, float]


def measure(session: Session, options: WordOptions, _item: str) -> Words:
    rows = read_run(session.folder).completions
    if (hold := Path(session.folder / "hold")).exists():
        hold.with_name("held").touch()
        while True:
            pass
    counts = {f"{row.dataset} {row.condition}": [] for row in rows}
    for row in rows:
        words = [word for word in row.text.split() if len(word) >= options.least]
        counts[f"{row.dataset} {row.condition}"].append(len(words))
    return Words(mean={name: fmean(own) for name, own in counts.items()})


def section(records: Sequence[Words]) -> Section:
    cells = tuple((name, f"{mean:.1f}") for name, mean in records[0].mean.items())
    header = ("Answers", "Words")
    return Section(
        tables=(Table(title="How long it talks", caption="", header=header, rows=cells),)
    )


WORDS = Measure(
    name="words",
    help="How many words an answer has.",
    options=WordOptions,
    record=Words,
    measure=measure,
    section=section,
    summary=lambda records: records[0].mean,
    lines=lambda records: [f"{name}: {mean:.1f}" for name, mean in records[0].mean.items()],
)


def says_door() -> RuleJudge:
    return RuleJudge(
        "says_door", version="1", measure="refusal", rule=lambda text: ("door" in text, "door")
    )
