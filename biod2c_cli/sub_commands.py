"""A command with sub-commands that says which one was meant."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from biod2c_core.errors import did_you_mean


class SubCommands(TyperGroup):
    """Suggests the nearest sub-command; or ``run``, where its argument was given in its place."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the sub-command that the first argument names."""
        name = args[0]
        if self.get_command(ctx, name) is None:
            hint = f"Use one of: {', '.join(self.commands)}."
            if "run" in self.commands:
                hint = f"Did you mean '{ctx.info_name} run {name}'?"
            ctx.fail(f"No such command {name!r}. {did_you_mean(name, self.commands, hint)}")
        return super().resolve_command(ctx, args)
