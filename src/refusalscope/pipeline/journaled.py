"""Completions that are written into a journal as they come, and read from it where they are."""

from collections.abc import Callable

from refusalscope.generate.completions import Plan, complete
from refusalscope.models.chat_model import ChatModel
from refusalscope.pipeline.run_folder import Journal
from refusalscope.results.records import Completion


def journaled(
    chat: ChatModel, planned: Plan, journal: Journal, *, progress: Callable[[int], None]
) -> list[Completion]:
    """All that is planned: what the journal has, and the rest, which it is given as it comes."""
    rows = journal.read(planned.slots, are_whole=planned.are_whole)
    progress(len(rows))
    for some in complete(chat, planned, done=[row.slot for row in rows], progress=progress):
        journal.append(some)
        rows += some
    return rows
