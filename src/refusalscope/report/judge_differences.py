"""Where the default refusal judge and the paper's differ on the same completions."""

from collections.abc import Sequence

from refusalscope.results.records import Judgements

_OURS, _PAPERS = "refusal_in_answer", "refusal_phrases"


def judge_notes(judgements: Sequence[Judgements]) -> tuple[str, ...]:
    """On how many completions both differ and which way, and what is cut within its reasoning."""
    by_name = {record.judge: record for record in judgements}
    ours, papers = by_name.get(_OURS), by_name.get(_PAPERS)
    notes = [] if ours is None else [_cut(ours)]
    if ours is not None and papers is not None:
        notes.append(_difference(ours, papers))
    return tuple(note for note in notes if note)


def _difference(ours: Judgements, papers: Judgements) -> str:
    theirs = {(row.dataset, row.condition, row.index): row.flag for row in papers.rows}
    pairs = [
        (row.flag, theirs[place])
        for row in ours.rows
        if (place := (row.dataset, row.condition, row.index)) in theirs
    ]
    only_ours = sum(bool(a) and b is False for a, b in pairs)
    only_papers = sum(a is False and bool(b) for a, b in pairs)
    if not only_ours + only_papers:
        return ""
    return (
        f"The judges {_OURS} and {_PAPERS} differ on {only_ours + only_papers} of {len(pairs)} "
        f"completions: {only_ours} refuse by {_OURS} alone (typographic apostrophes or blanks), "
        f"{only_papers} by {_PAPERS} alone, the paper's judge (a phrase within closed reasoning)."
    )


def _cut(ours: Judgements) -> str:
    noted = [row for row in ours.rows if row.note is not None]
    if not noted:
        return ""
    return (
        f"{len(noted)} of {len(ours.rows)} completions are cut within their reasoning and hold no "
        f"answer; {_OURS} read the reasoning instead and calls {sum(bool(r.flag) for r in noted)} "
        f"of them refusals. A higher --max-new-tokens lets them end."
    )
