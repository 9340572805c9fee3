"""``callreel keys``."""

from __future__ import annotations

from typing import Annotated

import typer

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
    help="API keys: further ways into one account, each of which can be taken back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

AccountSid = Annotated[str, typer.Argument(metavar="ACCOUNT_SID", help="The account they open.")]


@app.callback()
def options() -> None:
    """Options of every keys command."""


@app.command()
def create(
    account_sid: AccountSid,
    name: Annotated[str, typer.Option(help="Free text, for people: who holds it.")] = "",
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key, and show its SID and secret.

    A program signs in with the key's SID as the user and the secret as the password, and asks for
    paths of the account. The secret is shown this once.
    """
    made = administer(
        config, data, lambda admin: admin.post("accounts", account_sid, "keys", name=name)
    )
    if json:
        print_json(made)
        return
    print_pairs(("Key SID", made["sid"]), ("Secret", made["secret"]))
    print("\nThe secret is not shown again. Keep it.")


@app.command("list")
def list_(
    account_sid: AccountSid,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List an account's keys, the oldest first. No secret is shown."""
    found = administer(config, data, lambda admin: admin.get("accounts", account_sid, "keys"))
    if json:
        print_json(found)
        return
    rows = [(one["sid"], one["created_at"], one["name"]) for one in found]
    print_table(("KEY SID", "CREATED", "NAME"), rows)


@app.command()
def delete(
    key_sid: Annotated[str, typer.Argument(metavar="KEY_SID", help="The key.")],
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take a key back. It is dead at once."""
    gone = administer(config, data, lambda admin: admin.delete("keys", key_sid))
    if json:
        print_json(gone)
        return
    print(f"Key {gone['sid']} is deleted.")
