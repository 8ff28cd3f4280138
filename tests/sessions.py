"""A measurement of a run in a session of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from refusalscope.pipeline.context import Progress
from refusalscope.pipeline.session import Session, open_session

P = ParamSpec("P")
T = TypeVar("T")


def in_session(
    measure: Callable[Concatenate[Session, P], T], folder: Path, *args: P.args, **kwargs: P.kwargs
) -> T:
    """What `measure` finds of the run in `folder`."""
    with open_session(folder) as session:
        return measure(session, *args, **kwargs)


def in_session_told(
    measure: Callable[Concatenate[Session, P], T],
    folder: Path,
    progress: Progress,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """The same, and `progress` is told how far it is."""
    with open_session(folder, progress=progress) as session:
        return measure(session, *args, **kwargs)
