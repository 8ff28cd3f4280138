"""A group of commands whose first word may be left out where it is the usual one."""

from typing import Any

from typer.core import TyperGroup


class ReportGroup(TyperGroup):
    """`report RUN...` means `report runs RUN...`; a run called like a command is written ./NAME."""

    default_command = "runs"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own click
        """Put the usual command in front of anything that is no command and no call for help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)
