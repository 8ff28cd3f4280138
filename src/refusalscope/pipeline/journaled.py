"""Completions that are written into a journal as they come, and read from it where they are."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from refusalscope.generate.completions import Plan, Write
from refusalscope.pipeline.run_folder import Journal
from refusalscope.results.records import Completion


def journaled(
    planned: Plan,
    journal: Journal,
    writing: Callable[[], AbstractContextManager[Write]],
    *,
    progress: Callable[[int], None],
) -> list[Completion]:
    """All that is planned: what the journal has, and the rest, which it is given as it comes.

    Args:
        writing: Opens what writes; not called where nothing is left to write.
    """
    rows = journal.read(planned.slots, are_whole=planned.are_whole)
    progress(len(rows))
    done = [row.slot for row in rows]
    if not planned.without(done):
        return rows
    with writing() as write:
        for some in write(planned, done=done, progress=progress):
            journal.append(some)
            rows += some
    return rows
