"""A group of commands whose modules are imported when a command is asked for by its name.

Its help is a table of names and of what they do, so that it needs none of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Where a command is: a module with `register`, or with a group `app`.

    Attributes:
        module: Its name.
        help: The first paragraph of the command's own help.
    """

    module: str
    help: str

    def made(self, name: str) -> Any:  # noqa: ANN401 - typer's own click
        """The command of that name, from its module."""
        module = import_module(self.module)
        if not hasattr(module, "register"):
            group = get_group(module.app)
            group.name = name
            return group
        own = typer.Typer(add_completion=False)
        module.register(own)
        return get_group(own).commands[name]


class _Commands(Mapping[str, Any]):
    """Commands by name, each made when it is first taken."""

    def __init__(self, late: Mapping[str, Late]) -> None:
        self._late, self._made = late, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        if name not in self._made:
            self._made[name] = self._late[name].made(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._late

    def __iter__(self) -> Iterator[str]:
        return iter(self._late)

    def __len__(self) -> int:
        return len(self._late)


class LateGroup(TyperGroup):
    """A group that has the commands of `late`, which a subclass gives."""

    late: ClassVar[Mapping[str, Late]]
    _commands: _Commands | None = None
    _tells_help = False

    @property
    def commands(self) -> Any:  # noqa: ANN401
        """All of them; none is made by looking at their names."""
        if self._commands is None:
            self._commands = _Commands(self.late)
        return self._commands

    @commands.setter
    def commands(self, registered: Any) -> None:  # noqa: ANN401
        assert not registered, "commands come from the table alone"

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        """In the order of the table."""
        del ctx
        return [*self.late]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """The command; for the page of help one that only says what it does."""
        del ctx
        if cmd_name not in self.late:
            return None
        if self._tells_help:
            return TyperCommand(cmd_name, help=self.late[cmd_name].help)
        return self.commands[cmd_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the page of help from the table."""
        self._tells_help = True
        super().format_help(ctx, formatter)
        self._tells_help = False
