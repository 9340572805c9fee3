"""``callreel accounts``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from callreel.base.errors import UsageError
from callreel.calls.model import Dialect
from callreel.cli.admin import (
    Admin,
    ConfigOption,
    DataOption,
    JsonOption,
    administer,
    print_json,
    print_pairs,
    print_table,
)

app = typer.Typer(
    help="Accounts: create, list and delete them, replace tokens.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Sid = Annotated[str, typer.Argument(metavar="SID", help="The AccountSid.")]


@app.callback()
def options() -> None:
    """Options of every accounts command."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Free text, for people.")] = "",
    dialect: Annotated[
        Dialect | None,
        typer.Option(help="Whose types its programs expect. Default: signalwire, or by the SID."),
    ] = None,
    sid: Annotated[
        str | None,
        typer.Option(
            metavar="SID",
            help="Keep the SID that programs already use: a dashed UUID, or AC and 32 hex digits.",
        ),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make an account, and show its SID and token.

    The token is shown this once. Calls come to an account by a peer's `account_sid` in the
    settings; unless set, they are the first account's.
    """
    body = {"name": name, "dialect": dialect and dialect.value, "sid": sid}
    made = administer(config, data, lambda admin: admin.post("accounts", **body))
    if json:
        print_json(made)
        return
    print_pairs(
        ("AccountSid", made["sid"]),
        ("Auth token", made["auth_token"]),
        ("API", made["api_url"]),
    )
    print("\nThe token is not shown again. Keep it.")


@app.command("list")
def list_(data: DataOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List all accounts, the oldest first. No secret is shown."""
    found = administer(config, data, lambda admin: admin.get("accounts"))
    if json:
        print_json(found)
        return
    print_table(
        ("ACCOUNT SID", "DIALECT", "CREATED", "SIGNS WITH", "NAME"),
        [
            (one["sid"], one["dialect"], one["created_at"], one["signs_with"], one["name"])
            for one in found
        ],
    )


@app.command("rotate-token")
def rotate_token(
    sid: Sid, data: DataOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Replace an account's token, and show the new one this once.

    The old token is dead at once. Webhooks are signed with the new one from then on, unless the
    account has a signing key of its own: to give it one first, see **signing-key**.
    """
    changed = administer(config, data, lambda admin: admin.post("accounts", sid, "token"))
    if json:
        print_json(changed)
        return
    print_pairs(("AccountSid", changed["sid"]), ("Auth token", changed["auth_token"]))
    print("\nThe old token is dead. The new one is not shown again. Keep it.")
    if changed["signs_with"] == "token":
        print("Webhooks are signed with the new token from now on: tell their receivers.")
    else:
        print("Webhooks are signed with the account's signing key, as before.")


@app.command("signing-key")
def signing_key(
    sid: Sid,
    new: Annotated[
        bool, typer.Option("--new", help="Sign webhooks with a new key, apart from the token.")
    ] = False,
    same_as_token: Annotated[
        bool, typer.Option("--same-as-token", help="Sign webhooks with the token, as at first.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Choose what an account's webhooks are signed with.

    A new key is shown this once. It signs every webhook from then on, also those that were owed
    before.
    """
    if new == same_as_token:
        raise UsageError("give either --new or --same-as-token")
    changed = administer(
        config, data, lambda admin: admin.post("accounts", sid, "signing-key", apart=new)
    )
    if json:
        print_json(changed)
        return
    print_pairs(("AccountSid", changed["sid"]), ("Signing key", changed.get("signing_key")))
    print(
        "\nThe key is not shown again. Keep it."
        if new
        else "\nWebhooks are signed with the account's token from now on."
    )


@app.command()
def retention(
    sid: Sid,
    days: Annotated[
        int | None, typer.Option(help="Delete recordings so many days after their end.", min=1)
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Never delete them.")] = False,
    default: Annotated[
        bool, typer.Option("--default", help="As the server's retention_days says.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Choose how long an account's recordings are kept.

    What is older goes within a quarter of an hour: row, audio, report and journal. A recording that
    was begun by the policy of a peer, trunk, user or route with a retention goes by that.
    """
    if [days is not None, forever, default].count(True) != 1:
        raise UsageError("give one of --days, --forever and --default")
    wanted = None if default else 0 if forever else days
    changed = administer(
        config, data, lambda admin: admin.post("accounts", sid, "retention", days=wanted)
    )
    if json:
        print_json(changed)
        return
    how_long = "as the server's settings say" if default else "for ever"
    print(f"Recordings of {sid} are kept {how_long if days is None else f'for {days} days'}.")


@app.command()
def delete(
    sid: Sid,
    with_recordings: Annotated[
        bool,
        typer.Option(
            "--with-recordings", help="Delete its calls, recordings and audio too, for good."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Delete an account, its keys and what is left of its webhooks.

    Refused while calls of it are live, while it has calls or recordings unless you say
    `--with-recordings`, while the settings give it calls, and if it is the only one.
    """

    async def work(admin: Admin) -> Any:
        if not yes:
            found = await admin.get("accounts", sid)
            _confirm(found, with_recordings=with_recordings)
        return await admin.delete("accounts", sid, with_recordings=str(with_recordings).lower())

    gone = administer(config, data, work)
    if json:
        print_json(gone)
        return
    counts = f"{gone['calls']} calls and {gone['recordings']} recordings"
    print(f"Account {gone['sid']} is deleted" + (f", with {counts}." if with_recordings else "."))


def _confirm(found: dict[str, Any], *, with_recordings: bool) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here: add --yes to delete it for good")
    what = f"account {found['sid']}" + (f" ({found['name']})" if found["name"] else "")
    if with_recordings:
        what += f" with {found['calls']} calls and {found['recordings']} recordings"
    typer.confirm(f"Delete {what} for good?", abort=True, err=True)
