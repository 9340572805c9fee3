"""Deleting an account: refused while anything depends on it, and then nothing of it is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from callreel.calls.model import Account
from callreel.service.accounts import AccountService
from callreel.service.context import Context
from callreel.service.errors import AccountInUse
from callreel.store import accounts
from callreel.store.accounts import Holdings

AT_ONCE = 500

DeleteRecording = Callable[[Account, str], Awaitable[None]]
"""Deletes a finished recording of an account, by id: row, media and journal."""


class AccountRemoval:
    """Deletes accounts.

    ``takes_calls_of`` says, by account id, whose calls the settings give to that account; it may
    change.
    """

    def __init__(
        self,
        context: Context,
        service: AccountService,
        delete_recording: DeleteRecording,
        takes_calls_of: Mapping[str, Sequence[str]],
    ) -> None:
        self._context = context
        self._service = service
        self._delete_recording = delete_recording
        self._takes_calls_of = takes_calls_of

    async def holdings(self, account: Account) -> Holdings:
        """What would go with it."""
        async with self._context.database.read() as connection:
            return await accounts.holdings(connection, account.id)

    async def remove(self, account: Account, *, with_recordings: bool) -> Holdings:
        """Delete an account; what went with it.

        Raises :class:`AccountInUse`. Should it fail half way, the account is still there, with
        what is left of it, and deleting it again goes on.
        """
        self._check_needed(account, await self._service.every())
        held = await self.holdings(account)
        _check_empty(held, with_recordings)
        database = self._context.database
        while True:
            async with database.read() as connection:
                some = await accounts.some_recordings(connection, account.id, limit=AT_ONCE)
            if not some:
                break
            for recording_id in some:
                await self._delete_recording(account, recording_id)
        more = True
        while more:
            async with database.begin() as connection:
                more = await accounts.forget_some(connection, account.id, limit=AT_ONCE)
        _check_empty(await self.holdings(account), with_recordings=False)
        await self._service.remove(account)
        return held

    def _check_needed(self, account: Account, every: Sequence[Account]) -> None:
        if len(every) == 1:
            raise AccountInUse(
                "it is the only account; make another first: callreel accounts create"
            )
        sources = self._takes_calls_of.get(account.id)
        if sources:
            raise AccountInUse(
                f"the settings give it the calls of {', '.join(sources)}; give each peer another "
                "account_sid, set accept_loopback = false if this machine is among them, and have "
                "the server read them anew (SIGHUP)"
            )


def _check_empty(held: Holdings, with_recordings: bool) -> None:
    if held.live_calls:
        raise AccountInUse(f"{held.live_calls} of its calls are live; end them first")
    if held.unfinished_recordings:
        raise AccountInUse(
            f"{held.unfinished_recordings} of its recordings are not finished; a running server "
            "finishes them: try again in a moment"
        )
    if (held.calls or held.recordings) and not with_recordings:
        raise AccountInUse(
            f"it has {held.calls} calls and {held.recordings} recordings; to delete these too, "
            "add --with-recordings"
        )
