"""The command line: the only place that chooses adapters. Each command is a few lines over the service.

Decides nothing. Heavy imports stay inside the commands, so that `citywatch --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import citywatch
from citywatch.core.errors import ADVICE, CitywatchError, Malformed, Refused, Unavailable


class Command(click.Group):
    """A group whose commands end in one readable line instead of a traceback when something is refused."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (Refused, Unavailable) as failure:
            said = (failure.operator if isinstance(failure, Unavailable) else "") or failure.detail
            detail = f": {said}" if said else ""
            click.echo(f"citywatch: {failure.code.value}{detail}\n  {ADVICE[failure.code]}", err=True)
            sys.exit(1)
        except Malformed as failure:
            click.echo(f"citywatch: {failure}", err=True)
            sys.exit(2)
        except CitywatchError as failure:
            click.echo(f"citywatch: {failure}", err=True)
            sys.exit(1)


@click.group(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(citywatch.__version__, prog_name="citywatch")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    default=Path("citywatch.yaml"),
    show_default=True,
    envvar="CITYWATCH_CONFIG",
    help="The configuration file.",
)
@click.pass_context
def cli(ctx: click.Context, config: Path) -> None:
    """Police a system of AI agents: who acts, what goes through, and a log that a stranger can check."""
    ctx.obj = config


def _register() -> None:
    from citywatch.main import (
        agents,
        attest,
        authority,
        blast,
        calls,
        check,
        connect,
        console,
        contexts,
        demo,
        federation,
        grants,
        halts,
        joining,
        log,
        manifests,
        parties,
        people,
        policy,
        quarantine,
        reach,
        run,
        setup,
        tasks,
        tickets,
        tools,
        trying,
        why,
        workload,
    )

    parts: list[Callable[[click.Group], None]] = [
        setup.register,
        demo.register,
        check.register,
        run.register,
        agents.register,
        attest.register,
        authority.register,
        federation.register,
        joining.register,
        connect.register,
        workload.register,
        tools.register,
        manifests.register,
        calls.register,
        tasks.register,
        tickets.register,
        people.register,
        contexts.register,
        grants.register,
        halts.register,
        quarantine.register,
        parties.register,
        why.register,
        blast.register,
        reach.register,
        policy.register,
        trying.register,
        log.register,
        console.register,
    ]
    for register in parts:
        register(cli)


_register()
