"""The command line: one module a command group."""

from __future__ import annotations

import sys

import typer

import callreel
from callreel.base.errors import CallreelError
from callreel.cli import accounts, calls, check_config, demo, doctor, keys, phone, serve

app = typer.Typer(
    name="callreel",
    help="A call recorder you run yourself: SIPREC in, the vendors' recording API out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("serve")(serve.serve)
app.command("check-config")(check_config.check_config)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.add_typer(accounts.app, name="accounts")
app.add_typer(calls.app, name="calls")
app.add_typer(keys.app, name="keys")
app.add_typer(phone.app, name="phone")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(callreel.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_version, is_eager=True
    ),
) -> None:
    """Options of every command."""


def main() -> None:
    """Run a command; an error that callreel foresees is one line, not a traceback."""
    try:
        app()
    except CallreelError as error:
        typer.echo(f"callreel: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
