"""Progress bars with rate and time left, on stderr, only where someone watches."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from refusalscope.cli.terminal import visible
from refusalscope.pipeline.context import Stage


class RateColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """The rate, or nothing while it is unknown."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else "")


class _Bar(Stage):
    """One bar of rich, with lines above it."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def __call__(self, amount: int | float) -> None:
        self._bars.advance(self._task, amount)

    def expect(self, left: float) -> None:
        done = self._bars.tasks[self._task].completed
        self._bars.update(self._task, total=done + left)

    def say(self, text: str) -> None:
        if self._bars.console.is_terminal:
            self._bars.console.print(Text(visible(text)))


class Bars:
    """One bar a stage; silent where stderr is not a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, name: str, total: int | None, *, unit: str) -> Generator[Stage]:
        """Show a bar while the context is open; yields what advances it."""
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
            yield _Bar(bars, task)
