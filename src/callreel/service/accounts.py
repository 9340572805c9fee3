"""Accounts, their tokens and API keys: made, changed, and who may come in."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from callreel.base.errors import UsageError
from callreel.base.ids import parse_id
from callreel.calls.model import Account, ApiKey, Dialect
from callreel.calls.spelling import account_sid as sid_of, key_sid
from callreel.service.context import Context
from callreel.service.errors import NotFound, TooManyFailures
from callreel.service.throttle import FailureThrottle
from callreel.store import accounts, keys

log = logging.getLogger(__name__)

LONGEST_NAME = 200

_NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Credentials asked for the first account; what is None is made up."""

    account_sid: str | None = None
    """Its form decides the dialect (contract §1)."""
    auth_token: str | None = field(default=None, repr=False)
    """The token, in clear."""


@dataclass(slots=True)
class _Roster:
    """Every account and key, in memory: who is asked for leaves no trace in the time it takes."""

    accounts: dict[str, Account]
    """By id, oldest first."""
    keys: dict[str, ApiKey]
    """By id, oldest first."""


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
    """Use cases about accounts and keys. ``throttle`` None: failures are not limited.

    All of them are kept in memory, and every change goes through here: only one process writes.
    So a token that was replaced or a key that was deleted is dead before the change is answered.
    """

    def __init__(self, context: Context, *, throttle: FailureThrottle | None = None) -> None:
        self._context = context
        self._throttle = throttle
        self._loading = asyncio.Lock()
        self._loaded: _Roster | None = None

    async def ensure_first(self, bootstrap: Bootstrap) -> Account:
        """The first account, made if there is none.

        Raises ``UsageError`` if the asked credentials are malformed or belong to no account here.
        """
        wanted = bootstrap.account_sid
        dialect = Dialect.SIGNALWIRE if wanted is None else dialect_of(wanted)
        if dialect is None:
            raise UsageError(
                "CALLREEL_BOOTSTRAP_ACCOUNT_SID must be a dashed UUID (answers as SignalWire) "
                "or AC and 32 hex digits (answers as Twilio)"
            )
        wanted_id = None if wanted is None else parse_id(wanted)
        found = next(iter((await self._roster()).accounts.values()), None)
        if found is None:
            return await self._add(wanted_id, dialect, bootstrap.auth_token, name="")
        if wanted_id is not None and found.id != wanted_id:
            raise UsageError(
                "this data folder already has a first account, and its SID is not "
                "CALLREEL_BOOTSTRAP_ACCOUNT_SID; unset it or use another --data folder"
            )
        if bootstrap.auth_token not in (None, found.auth_token):
            if found.token_rotated_at is None:
                raise UsageError(
                    "this data folder's first account has another token than "
                    "CALLREEL_BOOTSTRAP_AUTH_TOKEN, which only a first start sets; unset it or "
                    "use another --data folder"
                )
            log.warning(
                "CALLREEL_BOOTSTRAP_AUTH_TOKEN is ignored: the token of account %s was rotated",
                sid_of(found),
            )
        return found

    async def get(self, account_id: str) -> Account | None:
        """One account, or None."""
        return (await self._roster()).accounts.get(account_id)

    async def named(self, account_sid: str) -> Account:
        """The account with this SID, in any spelling. Raises :class:`NotFound`."""
        found = await self.get(parse_id(account_sid) or "")
        if found is None:
            raise NotFound(f"there is no account {account_sid}")
        return found

    async def every(self) -> Sequence[Account]:
        """All accounts, oldest first."""
        return list((await self._roster()).accounts.values())

    async def authenticate(
        self, username: str, password: str, account_sid: str | None, *, source: str
    ) -> Account | None:
        """The account, if these are its or its key's credentials and the path names it; else None.

        ``account_sid`` None: whichever account the credentials open. ``source`` is the address
        that the request came from. Takes the same steps whether account and key exist or not.
        Raises :class:`TooManyFailures`, whether the credentials are right or not.
        """
        roster = await self._roster()
        # No await from here on: requests that come together are counted one after the other.
        now = self._context.clock.monotonic()
        throttle = self._throttle
        if throttle is not None:
            wait_s = throttle.refused_for_s(source, username, password, now=now)
            if wait_s is not None:
                raise TooManyFailures(wait_s)
        found = _opened(roster, username, password, account_sid)
        if throttle is not None:
            if found is not None:
                throttle.succeeded(source, username, password)
            elif throttle.failed(source, username, password, now=now):
                log.warning("%s fails to sign in again and again: it has to wait", source)
        return found

    async def create(
        self, *, account_sid: str | None = None, dialect: Dialect | None = None, name: str = ""
    ) -> Account:
        """A new account with a new token. Raises ``UsageError``.

        Without a SID a random one; its form, or ``dialect``, decides how it is answered.
        """
        _check_name(name)
        id_ = None
        if account_sid is not None:
            formed = dialect_of(account_sid)
            if formed is None:
                raise UsageError(
                    f"{account_sid} is not an AccountSid: a dashed UUID (answers as SignalWire) "
                    "or AC and 32 hex digits (answers as Twilio)"
                )
            if dialect not in (None, formed):
                raise UsageError(f"{account_sid} has the form of the {formed.value} dialect")
            id_, dialect = parse_id(account_sid), formed
        roster = await self._roster()
        if id_ in roster.accounts or id_ in roster.keys:
            raise UsageError(f"{account_sid} is taken")
        account = await self._add(id_, dialect or Dialect.SIGNALWIRE, None, name=name)
        log.info("account %s created", sid_of(account))
        return account

    async def rotate_token(self, account: Account) -> Account:
        """A new token; the old one is dead at once. It signs too, unless a key is set apart."""
        token = self._context.ids.new_token()
        signing_key = token if account.signs_with_token else account.signing_key
        now = self._context.clock.now()
        return await self._change(
            replace(account, auth_token=token, signing_key=signing_key, token_rotated_at=now),
            "has a new token",
        )

    async def set_retention(self, account: Account, days: int | None) -> Account:
        """Have its recordings deleted so many days after their end; 0: never; None: as the
        server's settings say."""
        what = "as the server's" if days is None else f"{days} days" if days else "for ever"
        return await self._change(replace(account, retention_days=days), f"keeps recordings {what}")

    async def set_signing_key(self, account: Account, *, apart: bool) -> Account:
        """Sign webhooks with a new key of their own, or with the token."""
        key = self._context.ids.new_token() if apart else account.auth_token
        return await self._change(
            replace(account, signing_key=key),
            "has a new signing key" if apart else "signs with its token",
        )

    async def create_key(self, account: Account, *, name: str = "") -> tuple[ApiKey, str]:
        """A new key and its secret, which is kept nowhere. Raises ``UsageError``."""
        _check_name(name)
        context = self._context
        secret = context.ids.new_token()
        key = ApiKey(
            id=context.ids.new_id(),
            account_id=account.id,
            name=name,
            secret_hash=_hash(secret),
            created_at=context.clock.now(),
        )
        roster = await self._roster()
        async with context.database.begin() as connection:
            await keys.add(connection, key)
        roster.keys[key.id] = key
        log.info("key %s of account %s created", key_sid(key), sid_of(account))
        return key, secret

    async def keys_of(self, account: Account) -> Sequence[ApiKey]:
        """An account's keys, oldest first."""
        roster = await self._roster()
        return [key for key in roster.keys.values() if key.account_id == account.id]

    async def delete_key(self, sid: str) -> ApiKey:
        """Take a key back: it is dead at once. Raises :class:`NotFound`."""
        roster = await self._roster()
        key = roster.keys.get(parse_id(sid) or "")
        if key is None:
            raise NotFound(f"there is no key {sid}")
        async with self._context.database.begin() as connection:
            await keys.remove(connection, key.id)
        roster.keys.pop(key.id, None)
        log.info("key %s deleted", key_sid(key))
        return key

    async def remove(self, account: Account) -> None:
        """Delete an account that holds nothing any more, and its keys: dead at once."""
        roster = await self._roster()
        async with self._context.database.begin() as connection:
            await accounts.remove(connection, account.id)
        del roster.accounts[account.id]
        for key in [one for one in roster.keys.values() if one.account_id == account.id]:
            del roster.keys[key.id]
        log.info("account %s deleted", sid_of(account))

    async def _add(
        self, id_: str | None, dialect: Dialect, token: str | None, *, name: str
    ) -> Account:
        context = self._context
        token = token or context.ids.new_token()
        account = Account(
            id=id_ or context.ids.new_id(),
            dialect=dialect,
            auth_token=token,
            signing_key=token,
            created_at=context.clock.now(),
            name=name,
        )
        roster = await self._roster()
        async with context.database.begin() as connection:
            await accounts.add(connection, context.database.seal, account)
        roster.accounts[account.id] = account
        return account

    async def _change(self, changed: Account, what: str) -> Account:
        roster = await self._roster()
        database = self._context.database
        async with database.begin() as connection:
            await accounts.save(connection, database.seal, changed)
        roster.accounts[changed.id] = changed
        log.info("account %s %s", sid_of(changed), what)
        return changed

    async def _roster(self) -> _Roster:
        """All there is, read once."""
        if self._loaded is None:
            async with self._loading:
                if self._loaded is None:
                    database = self._context.database
                    async with database.read() as connection:
                        found = await accounts.every(connection, database.seal)
                        held = await keys.every(connection)
                    self._loaded = _Roster({one.id: one for one in found}, {k.id: k for k in held})
        return self._loaded


def _opened(
    roster: _Roster, username: str, password: str, account_sid: str | None
) -> Account | None:
    """The account that these credentials open, if the path names it."""
    id_ = parse_id(username) or ""
    key = roster.keys.get(id_)
    account = roster.accounts.get(id_ if key is None else key.account_id)
    token_hash = _hash("" if account is None else account.auth_token)
    secret_hash = _NO_HASH if key is None else key.secret_hash
    given = _hash(password)
    is_token = hmac.compare_digest(given, token_hash)
    is_secret = hmac.compare_digest(given, secret_hash)
    good = is_token if key is None else is_secret
    elsewhere = (
        account_sid is not None and account is not None and (parse_id(account_sid) != account.id)
    )
    return account if good and not elsewhere else None


def _hash(secret: str) -> str:
    """Enough for what is random and long; it also makes all the same length to compare."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise UsageError(f"a name is at most {LONGEST_NAME} printable characters")
