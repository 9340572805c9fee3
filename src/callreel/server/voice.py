"""Calls that documents steer, wired together; and which document answers what is dialled."""

from __future__ import annotations

from callreel.base.errors import UsageError
from callreel.calls.model import Account
from callreel.calls.voice import Documents, Prompts, VoiceMedia
from callreel.capture.protocol import WorkerEvent, media_heard
from callreel.server.peering import account_of
from callreel.server.settings import Settings
from callreel.server.telephony import Telephony
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService
from callreel.service.context import Context
from callreel.service.recordings import RecordingService
from callreel.service.voice import VoiceService
from callreel.service.voice.doors import Door, Doors
from callreel.service.voice.means import Means
from callreel.service.voice.rows import Rows


class Voice:
    """All of it. :meth:`attach` it to signalling once that exists."""

    def __init__(
        self,
        context: Context,
        first: Account,
        *,
        accounts: AccountService,
        calls: CallService,
        recordings: RecordingService,
        media: VoiceMedia,
        prompts: Prompts,
        documents: Documents,
    ) -> None:
        """``first`` is the account of whatever names none."""
        self._first = first
        self._accounts = accounts
        self._calls = calls
        self._means = Means(
            context=context,
            accounts=accounts,
            calls=calls,
            recordings=recordings,
            rows=Rows(context),
            media=media,
            prompts=prompts,
            documents=documents,
        )
        self.service = VoiceService(self._means)
        """The use cases."""

    def attach(self, telephony: Telephony) -> None:
        """Signalling tells what happens from now on, and is told what is wanted."""
        self._means.telephone = telephony.terminals
        telephony.terminals.voice = self.service
        self.service.others = telephony.door
        self._calls.control = self.service

    async def configure(self, settings: Settings) -> None:
        """Go by these from now on. Raises ``UsageError``, and then nothing has changed."""
        self.service.doors = await doors_of(settings, self._first, self._accounts)

    def heard(self, event: WorkerEvent) -> bool:
        """Whether it was about what a call hears or says; it is passed on then."""
        what = media_heard(event)
        if what is None:
            return False
        self.service.heard(what)
        return True


async def doors_of(settings: Settings, first: Account, accounts: AccountService) -> Doors:
    """Which document answers what. Raises ``UsageError``."""
    whole: dict[str, Door] = {}
    for one in settings.accounts:
        id_ = await account_of("accounts", one.account_sid, first, accounts)
        if not one.instructions.is_empty:
            whole[id_] = Door(one.instructions, one.callback)
    numbers: dict[tuple[str, str], Door] = {}
    for number in settings.numbers:
        id_ = await account_of(number.number, number.account_sid, first, accounts)
        try:
            numbers[id_, number.number] = Door(number.instructions, number.callback)
        except OSError as error:
            raise UsageError(f"cannot read {number.document}: {error.strerror}") from None
    return Doors(numbers, whole)
