"""Signing in to stay signed in, for people: the console's sessions."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from callreel.base.ids import parse_id
from callreel.calls.model import Account
from callreel.service.accounts import AccountService
from callreel.service.context import Context
from callreel.service.sessions import Session, SessionTable


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whoever asks, and for which account."""

    account: Account
    """Whose data they see."""
    session: Session
    """Theirs."""

    def is_own_form(self, token: str) -> bool:
        """Whether a form comes from a page of this session."""
        return hmac.compare_digest(token.encode(), self.session.form_token.encode())


class SignInService:
    """Sessions of people, in memory: whoever is signed in has to do so again after a restart.

    A session ends with what it was begun with: when the token is replaced, the key or the account
    deleted.
    """

    def __init__(self, context: Context, accounts: AccountService, *, idle_s: float) -> None:
        self._context = context
        self._accounts = accounts
        self._table = SessionTable(idle_s=idle_s)

    async def sign_in(self, username: str, password: str, *, source: str) -> str | None:
        """A new session's secret, or None if these credentials open no account.

        Raises ``TooManyFailures``, as every other way in does.
        """
        account = await self._accounts.authenticate(username, password, None, source=source)
        if account is None:
            return None
        ids, now = self._context.ids, self._context.clock.monotonic()
        secret = ids.new_token()
        credential = await self._credential(account, username)
        session = Session(account.id, username, credential, ids.new_token(), now, now)
        self._table.add(secret, session)
        return secret

    async def find(self, secret: str, *, idle: bool = False) -> SignedIn | None:
        """Who this is. ``idle``: it is their page that asks, not they."""
        now = self._context.clock.monotonic()
        look = self._table.peek if idle else self._table.find
        session = look(secret, now=now)
        if session is None:
            return None
        account = await self._accounts.get(session.account_id)
        if (
            account is None
            or await self._credential(account, session.username) != session.credential
        ):
            self._table.remove(secret)
            return None
        return SignedIn(account, session)

    async def _credential(self, account: Account, username: str) -> str:
        """What tells the token or key that opens the account now from any other."""
        id_ = parse_id(username)
        if id_ == account.id:
            return f"token of {account.token_rotated_at or account.created_at}"
        keys = [one.id for one in await self._accounts.keys_of(account) if one.id == id_]
        return f"key {keys[0]}" if keys else "gone"

    def sign_out(self, secret: str) -> None:
        """The secret is worth nothing any more."""
        self._table.remove(secret)
