"""Several runs as one report shows them: named, in the paper's order, without their completions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refusalscope.errors import InputError
from refusalscope.report.headline_changes import HeadlineChanges, headline_changes
from refusalscope.report.paper_rows import PaperRecords, read_paper_records
from refusalscope.results.mechanism_folder import MechanismRecords, read_mechanism
from refusalscope.results.published import published_table
from refusalscope.results.records import Rate, Summary
from refusalscope.results.run_records import read_judgements


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOfSeveral:
    """A run among several.

    Attributes:
        label: The model as the paper names it, else its own name; with the folder's name where two
            runs are of one model.
        paper_name: None where it is not one of the paper's models.
        changes: What each condition does to the headline's rates.
    """

    label: str
    paper_name: str | None
    paper: PaperRecords
    summary: Summary | None
    changes: HeadlineChanges
    mechanism: MechanismRecords

    def rate(self, measure: str, dataset: str, condition: str) -> Rate | None:
        """A headline rate; None where it was not measured."""
        if self.summary is None:
            return None
        table = self.summary.refusal if measure == "refusal" else self.summary.safety
        rates = table.get(dataset)
        return rates.get(condition) if isinstance(rates, dict) else None


def read_several(folders: Sequence[Path]) -> tuple[OneOfSeveral, ...]:
    """Read runs, and put them in the paper's order; others follow in the order given.

    Raises:
        InputError: no run, or one given twice.
        RunFolderError: a folder is not a run, or one of its files is not what its name says.
    """
    if not folders:
        raise InputError("no run was given; name at least one folder of a run")
    places = Counter(folder.resolve() for folder in folders)
    if twice := [str(folder) for folder, n in places.items() if n > 1]:
        raise InputError(f"{twice[0]} was given twice; name every run once")
    papers = _named_apart([read_paper_records(folder) for folder in folders])
    order = _order()
    runs = [
        OneOfSeveral(
            label=label,
            paper_name=paper.model if paper.model in order else None,
            paper=paper,
            summary=paper.summary,
            changes=_changes(folder, paper.summary),
            mechanism=read_mechanism(folder),
        )
        for folder, paper, label in zip(folders, papers, _labels(papers), strict=True)
    ]
    return tuple(sorted(runs, key=lambda run: order.get(run.paper.model, len(order))))


def _changes(folder: Path, summary: Summary | None) -> HeadlineChanges:
    """From the summary alone where it holds them, else from every verdict of the run."""
    is_known = summary is None or bool(summary.changes)
    return headline_changes(summary, () if is_known else read_judgements(folder))


def _named_apart(papers: Sequence[PaperRecords]) -> list[PaperRecords]:
    """The records, those from folders of one name with a number after it."""
    names = [paper.run for paper in papers]
    return [
        paper
        if names.count(paper.run) == 1
        else replace(paper, run=f"{paper.run}, number {names[: at + 1].count(paper.run)}")
        for at, paper in enumerate(papers)
    ]


def _labels(papers: Sequence[PaperRecords]) -> list[str]:
    """Names that differ: the model's, with the folder's where two runs are of one model."""
    models = Counter(paper.model for paper in papers)
    return [p.model if models[p.model] == 1 else f"{p.model} ({p.run})" for p in papers]


def _order() -> dict[str, int]:
    return {row.model: at for at, row in enumerate(published_table(1).rows)}
