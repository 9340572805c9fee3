"""Why a use case was refused. ``api`` maps each to a vendor's code (contract §11)."""

from __future__ import annotations

from callreel.base.errors import CallreelError


class NotFound(CallreelError):
    """No such call or recording in this account."""


class NotInProgress(CallreelError):
    """The call, or the recording, is not in a state that allows it; nothing was changed."""


class NotCallable(CallreelError):
    """Whom a program wants called cannot be: it is no address, or no trunk takes its number."""


class NotSteered(CallreelError):
    """Nothing else can be done with the call: no document steers it now."""


class Ended(CallreelError):
    """The call is over: there is nothing left to end."""


class Answered(CallreelError):
    """The call was answered: too late to cancel it."""


class Unfinished(CallreelError):
    """A call or recording that is not over cannot be deleted."""


class Unavailable(CallreelError):
    """The machine cannot do it now: no worker, no room, no database. Worth trying again."""


class NoRoom(Unavailable):
    """The disk is nearly full: what is left is for the recordings that run."""


class TooManyFailures(CallreelError):
    """So many wrong credentials came from this source that none of its are looked at for now."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many failed sign-ins from this address")
        self.retry_after_s = retry_after_s
        """When to try again, seconds from now."""


class AccountInUse(CallreelError):
    """The account cannot be deleted as things stand. The text says what to do."""
