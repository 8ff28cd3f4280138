"""Progress bars with rate and time left, on stderr, only where someone watches."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from refusalscope.cli.terminal import visible


class RateColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """The rate, or nothing while it is unknown."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else "")


class Bars:
    """One bar a stage; silent where stderr is not a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def stage(
        self, name: str, total: int | None, *, unit: str
    ) -> Generator[Callable[[float], None]]:
        """Show a bar while the context is open; yields a function that advances it."""
        columns = (
            TextColumn("{task.description:>9}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=self._console, disable=not self._console.is_terminal
        ) as bars:
            task = bars.add_task(visible(name), total=total, unit=unit)
            yield lambda amount: bars.advance(task, amount)
