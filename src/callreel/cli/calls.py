"""``callreel calls``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from callreel.calls.model import CallStatus
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
    help="Calls: which there were, and what happened to each.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.callback()
def options() -> None:
    """Options of every calls command."""


@app.command("list")
def list_(
    account: Annotated[
        str | None, typer.Option(metavar="ACCOUNT_SID", help="Of this account alone.")
    ] = None,
    status: Annotated[CallStatus | None, typer.Option(help="That stand so.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List calls, the newest first, of all accounts unless one is named."""
    asked = {"account": account, "status": status and status.value, "limit": str(limit)}
    query = {name: value for name, value in asked.items() if value is not None}
    found = administer(config, data, lambda admin: admin.get("calls", **query))
    if json:
        print_json(found)
        return
    heads = ("CALL SID", "BEGUN (UTC)", "STATUS", "SECONDS", "DIRECTION", "FROM", "TO")
    rows = [
        (
            one["sid"],
            _second(one["created_at"]),
            one["status"],
            str(one["duration_s"]),
            one["direction"],
            one["from"],
            one["to"],
        )
        for one in found
    ]
    print_table(heads, [[_plain(cell) for cell in row] for row in rows])


@app.command()
def show(
    sid: Annotated[str, typer.Argument(metavar="CALL_SID", help="The call.")],
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Print the story of a call: SIP, documents, verbs, recordings and webhooks, with times (UTC).

    It says why a document was not found, which verb could not be done, and whether webhooks were
    taken.
    """
    found = administer(config, data, lambda admin: admin.get("calls", sid))
    if json:
        print_json(found)
        return
    print_pairs(
        ("Call", found["sid"]),
        ("Account", found["account_sid"]),
        ("Status", found["status"]),
        ("Direction", found["direction"]),
        ("From", _plain(found["from"])),
        ("To", _plain(found["to"])),
        ("Begun", _second(found["created_at"])),
        ("Seconds", str(found["duration_s"])),
    )
    print()
    for line in found["story"]:
        print(_told(line))


def _told(line: dict[str, Any]) -> str:
    time = line["at"][11:23]
    return f"{time}  {line['kind']:<9}  {_plain(line['text'])}{_numbered(line['details'])}"


def _numbered(details: dict[str, Any]) -> str:
    """The number of what a document has wrong, and the place in it, as far as there are any."""
    if "code" not in details:
        return ""
    place = [f"{name} {details[name]}" for name in ("line", "column") if name in details]
    return f" ({', '.join([str(details['code']), *place])})"


def _second(moment: str) -> str:
    return f"{moment[:10]} {moment[11:19]}"


def _plain(text: str) -> str:
    """What peers say may hold what a terminal obeys."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
