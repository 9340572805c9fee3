"""Accounts: the first one, and who may come in."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass

from callreel.base.errors import UsageError
from callreel.base.ids import parse_id
from callreel.calls.model import Account, Dialect
from callreel.service.context import Context
from callreel.store import accounts

_NOBODY = "0" * 32


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Credentials asked for the first account; what is None is made up."""

    account_sid: str | None = None
    """Its form decides the dialect (contract §1)."""
    auth_token: str | None = None
    """The token, in clear."""


def dialect_of(account_sid: str) -> Dialect | None:
    """The dialect that a SID's form stands for, or None if it is not an AccountSid."""
    if parse_id(account_sid) is None:
        return None
    if "-" in account_sid:
        return Dialect.SIGNALWIRE
    return Dialect.TWILIO if account_sid.startswith("AC") else None


def basic_credentials(header: str | None) -> tuple[str, str] | None:
    """User and password of an ``Authorization`` header, or None if it is not HTTP Basic."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = (
            base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        )
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


class AccountService:
    """Use cases about accounts."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, Account] = {}

    async def ensure_first(self, bootstrap: Bootstrap) -> Account:
        """The first account, made if there is none.

        Raises ``UsageError`` if the asked credentials are malformed or belong to no account here.
        """
        context = self._context
        wanted = bootstrap.account_sid
        dialect = Dialect.SIGNALWIRE if wanted is None else dialect_of(wanted)
        if dialect is None:
            raise UsageError(
                "CALLREEL_BOOTSTRAP_ACCOUNT_SID must be a dashed UUID (answers as SignalWire) "
                "or AC and 32 hex digits (answers as Twilio)"
            )
        wanted_id = None if wanted is None else parse_id(wanted)
        async with context.database.begin() as connection:
            seal = context.database.seal
            found = await accounts.first(connection, seal)
            if found is not None:
                if wanted_id is not None and found.id != wanted_id:
                    raise UsageError(
                        "this data folder already has a first account, and its SID is not "
                        "CALLREEL_BOOTSTRAP_ACCOUNT_SID; unset it or use another --data folder"
                    )
                if bootstrap.auth_token not in (None, found.auth_token):
                    raise UsageError(
                        "this data folder's first account has another token than "
                        "CALLREEL_BOOTSTRAP_AUTH_TOKEN, which only a first start sets; unset it or "
                        "use another --data folder"
                    )
                return found
            token = bootstrap.auth_token or context.ids.new_token()
            account = Account(
                id=wanted_id or context.ids.new_id(),
                dialect=dialect,
                auth_token=token,
                signing_key=token,
                created_at=context.clock.now(),
            )
            await accounts.add(connection, seal, account)
        return account

    async def get(self, account_id: str) -> Account | None:
        """One account, or None."""
        known = self._known.get(account_id)
        if known is not None:
            return known
        database = self._context.database
        async with database.read() as connection:
            found = await accounts.get(connection, database.seal, account_id)
        if found is not None:
            self._known[account_id] = found
        return found

    async def authenticate(self, username: str, password: str, account_sid: str) -> Account | None:
        """The account, if these are its credentials and the path names it; else None.

        Takes the same steps whether the account exists or not.
        """
        id_ = parse_id(username)
        found = await self.get(id_ or _NOBODY)
        token = found.auth_token if found is not None else _NOBODY
        good = hmac.compare_digest(password.encode(), token.encode())
        if found is None or not good or parse_id(account_sid) != found.id:
            return None
        return found
