"""Coherence flags of every completion of a run."""

from collections.abc import Iterable

from refusalscope.metrics.coherence import coherence_flags
from refusalscope.results.evaluation_records import CoherenceFlags, CompletionFlags
from refusalscope.results.records import Completion


def flag_completions(completions: Iterable[Completion]) -> CoherenceFlags:
    """One row for each completion, flagged or not, in the order given."""
    return CoherenceFlags(
        rows=tuple(
            CompletionFlags(
                index=one.index,
                dataset=one.dataset,
                condition=one.condition,
                flags=coherence_flags(one.completion, ended=one.ended),
            )
            for one in completions
        )
    )
