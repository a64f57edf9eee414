"""A command with sub-commands that says which one was meant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from typer.core import TyperGroup


class SubCommands(TyperGroup):
    """Suggests the nearest sub-command; or ``run``, where its argument was given in its place."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the sub-command that the first argument names."""
        name = args[0]
        if self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.commands, n=1)
            if near:
                hint = f"Did you mean {near[0]!r}?"
            elif "run" in self.commands:
                hint = f"Did you mean '{ctx.info_name} run {name}'?"
            else:
                hint = f"Use one of: {', '.join(self.commands)}."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)
