"""``callreel deliveries``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from callreel.base.errors import UsageError
from callreel.cli.admin import (
    ConfigOption,
    DataOption,
    JsonOption,
    administer,
    print_json,
    print_pairs,
    print_table,
)

app = typer.Typer(
    help="Webhooks: what is owed, what became of each, and sending one again.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Sid = Annotated[str, typer.Argument(metavar="ID", help="The delivery, as **list** shows it.")]
AccountOption = Annotated[
    str | None, typer.Option("--account", metavar="SID", help="Only of this account.")
]
EventOption = Annotated[
    str | None, typer.Option("--event", help="Only of this event: completed, in-progress …")
]
RecordingOption = Annotated[
    str | None, typer.Option("--recording", metavar="SID", help="Only about this recording.")
]
CallOption = Annotated[str | None, typer.Option("--call", metavar="SID", help="Only of this call.")]

_SHOWN = (
    *("sid", "event", "state", "method", "url", "account_sid", "call_sid", "recording_sid"),
    *("created_at", "next_at", "after"),
)


@app.callback()
def options() -> None:
    """Options of every deliveries command."""


@app.command("list")
def list_(
    state: Annotated[
        str | None, typer.Option(help="Only these: pending, delivered or failed.")
    ] = None,
    account: AccountOption = None,
    event: EventOption = None,
    recording: RecordingOption = None,
    call: CallOption = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 50,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List webhooks, the newest first.

    URLs are shown without their password and query, which may be secret.
    """
    query = _query(
        state=state, account=account, event=event, recording=recording, call=call, limit=str(limit)
    )
    found = administer(config, data, lambda admin: admin.get("deliveries", **query))
    if json:
        print_json(found)
        return
    heads = ("ID", "CREATED", "EVENT", "STATE", "TRIES", "NEXT TRY", "URL")
    print_table(heads, [_row(one) for one in found])


@app.command()
def show(
    sid: Sid, data: DataOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Show one webhook: what it says, and every try with its answer."""
    found = administer(config, data, lambda admin: admin.get("deliveries", sid))
    if json:
        print_json(found)
        return
    print_pairs(*((name, found[name]) for name in _SHOWN))
    print()
    print_pairs(*sorted(found["fields"].items()))
    print()
    heads = ("TRY", "AT", "OUTCOME", "STATUS", "MS", "ANSWER OR ERROR")
    print_table(heads, [_try_row(number, one) for number, one in enumerate(found["tries"], 1)])


@app.command()
def replay(
    sid: Annotated[str | None, typer.Argument(metavar="[ID]", help="The delivery.")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All that were given up, of those chosen.")
    ] = False,
    account: AccountOption = None,
    event: EventOption = None,
    recording: RecordingOption = None,
    call: CallOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Send a webhook again, or all that were given up.

    It carries the id it had, so that a receiver that took it before can tell. A running server
    sends it at once; without one it is sent at the next start.
    """
    if (sid is None) == (not failed):
        raise UsageError("give either the ID of a delivery or --failed")
    query = _query(account=account, event=event, recording=recording, call=call)
    if sid is not None:
        if query:
            raise UsageError(f"--{next(iter(query))} goes with --failed")
        one = administer(config, data, lambda admin: admin.post("deliveries", sid, "replay"))
        print_json(one) if json else print(f"Delivery {one['sid']} is sent again.")
        return
    done = administer(config, data, lambda admin: admin.post_to("deliveries", "replay", **query))
    print_json(done) if json else print(f"{done['replayed']} deliveries are sent again.")


def _query(**given: str | None) -> dict[str, str]:
    return {name: value for name, value in given.items() if value is not None}


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    next_at = one["next_at"] or ""
    tries = str(one["attempts"])
    return (one["sid"], one["created_at"], one["event"], one["state"], tries, next_at, one["url"])


def _try_row(number: int, one: dict[str, Any]) -> tuple[str, ...]:
    status = "" if one["status"] is None else str(one["status"])
    said = one["error"] or one["answer"]
    line = "".join(char if char.isprintable() else " " for char in said)[:60]
    return (str(number), one["at"], one["outcome"], status, str(one["elapsed_ms"]), line)
