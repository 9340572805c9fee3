"""``callreel recordings``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from callreel.base.errors import UsageError
from callreel.cli.admin import Admin, ConfigOption, DataOption, JsonOption, administer, print_json

app = typer.Typer(
    help="Recordings: delete what is old.", no_args_is_help=True, rich_markup_mode="markdown"
)


@app.callback()
def options() -> None:
    """Options of every recordings command."""


@app.command()
def purge(
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="30d",
            help="Whatever ended so long ago: 12h, 30d, 2w. Unless given, what its retention says.",
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="SID", help="Only of this account; with --older-than.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Delete old recordings for good: row, audio, report and journal.

    A running server does so by itself every quarter of an hour for those that have a retention:
    `retention_days` in the settings, `callreel accounts retention`.
    """
    query = {"older_than": older_than, "account": account}
    asked = {name: value for name, value in query.items() if value is not None}

    async def work(admin: Admin) -> Any:
        would = await admin.post_to("recordings", "purge", **asked, dry_run="true")
        if dry_run or not would["recordings"]:
            return would
        if not yes:
            _confirm(would)
        return await admin.post_to("recordings", "purge", **asked)

    gone = administer(config, data, work)
    if json:
        print_json(gone)
    else:
        verb = "would be deleted" if dry_run else "deleted"
        print(f"{gone['recordings']} recordings {verb}, {gone['size_bytes'] / 1e6:.1f} MB.")
        if older_than is None and not gone["any_retention"]:
            print("Nothing has a retention: what is recorded is kept for ever; see --older-than.")
        if gone["left"]:
            print(f"{gone['left']} could not be deleted; the server's log says why.")
    if gone["left"]:
        sys.exit(1)


def _confirm(would: dict[str, Any]) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here: add --yes to delete them for good")
    what = f"{would['recordings']} recordings, {would['size_bytes'] / 1e6:.1f} MB"
    typer.confirm(f"Delete {what} for good?", abort=True, err=True)
