"""Coherence flags of every completion of a run."""

from collections.abc import Iterable

from refusalscope.metrics.coherence import coherence_flags
from refusalscope.results.evaluation_records import CoherenceFlags, CompletionFlags
from refusalscope.results.records import Completion


def flag_completions(completions: Iterable[Completion]) -> CoherenceFlags:
    """One row for each completion, flagged or not, in the order given.

    One that an imported run withholds has no row; one of which it does not say that it was cut was
    not.
    """
    return CoherenceFlags(
        rows=tuple(
            CompletionFlags(
                index=one.index,
                dataset=one.dataset,
                condition=one.condition,
                flags=coherence_flags(one.completion, ended=one.ended is not False),
            )
            for one in completions
            if one.completion is not None
        )
    )
