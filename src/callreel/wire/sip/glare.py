"""Offers that cross: who may change a session now (RFC 3261 §14, RFC 3311 §5). No I/O."""

from __future__ import annotations

from callreel.base.errors import PeerError
from callreel.wire.sip.dialog import DialogId
from callreel.wire.sip.message import Request

METHODS = frozenset({"INVITE", "UPDATE"})
"""The methods that change a session."""


class Glare(PeerError):
    """Both sides want to change the session at once: 491."""

    def __init__(self) -> None:
        super().__init__("another change of the session is pending", status=491)


def retry_interval(*, owns_call_id: bool, fraction: float) -> float:
    """Seconds to wait after a 491 (RFC 3261 §14.1), in steps of 10 ms.

    ``owns_call_id`` says that the Call-ID is ours; ``fraction`` is random, from 0 up to 1.
    """
    if owns_call_id:
        return 2.1 + int(fraction * 191) / 100
    return int(fraction * 201) / 100


class Ledger:
    """Which changes are under way in which dialog, and which side began them."""

    def __init__(self) -> None:
        self._ours: set[DialogId] = set()
        self._theirs: dict[DialogId, set[int]] = {}
        self._dialogs: dict[int, DialogId] = {}

    def __len__(self) -> int:
        """The number of changes under way."""
        return len(self._ours) + len(self._dialogs)

    def is_theirs(self, dialog: DialogId) -> bool:
        """True while a change of the peer's waits for our answer, or for the ACK of it."""
        return dialog in self._theirs

    def begin_ours(self, dialog: DialogId) -> None:
        """We are about to send an INVITE, or an UPDATE with an offer. Raises :class:`Glare` while
        another one of ours is pending.
        """
        if dialog in self._ours:
            raise Glare
        self._ours.add(dialog)

    def end_ours(self, dialog: DialogId) -> None:
        """Ours has its final response, or never will."""
        self._ours.discard(dialog)

    def begin_theirs(self, request: Request, transaction: int) -> None:
        """The peer's request came in. Raises :class:`Glare` if it crosses one of ours."""
        dialog = DialogId.of_request(request)
        if request.method not in METHODS or not dialog.local_tag:
            return
        if request.method == "UPDATE" and not request.body:
            return  # no offer: nothing that could cross
        if dialog in self._ours:
            raise Glare
        self._theirs.setdefault(dialog, set()).add(transaction)
        self._dialogs[transaction] = dialog

    def end_theirs(self, transaction: int) -> None:
        """The peer's request is answered; an INVITE with a 2xx, acknowledged too."""
        dialog = self._dialogs.pop(transaction, None)
        if dialog is None:
            return
        pending = self._theirs[dialog]
        pending.discard(transaction)
        if not pending:
            del self._theirs[dialog]
