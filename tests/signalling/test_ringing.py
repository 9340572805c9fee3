from __future__ import annotations

import asyncio

import pytest

from callreel.base.errors import PeerError
from callreel.calls.model import CallStatus
from callreel.signalling.ringing import NOBODY_ANSWERED, best_refusal, ending


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ([404, 486, 503], 486),
        ([603, 486], 603),
        ([503, 480], 480),
        ([503, 404], 404),
        ([503], 503),
        ([408], 480),
        ([302], 480),
        ([401, 500], 500),
        ([407], 500),
        ([491], 500),
        ([488, 415], 415),
        ([200], 500),
    ],
)
def test_of_all_refusals_the_caller_is_told_what_says_most(statuses: list[int], told: int) -> None:
    assert best_refusal([PeerError(str(one), status=one) for one in statuses]).status == told


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PeerError("", status=486), CallStatus.BUSY, 486),
        (PeerError("", status=600), CallStatus.BUSY, 600),
        (PeerError("", status=480), CallStatus.NO_ANSWER, 480),
        (PeerError("", status=408), CallStatus.NO_ANSWER, 408),
        (PeerError("", status=487), CallStatus.CANCELED, 487),
        (PeerError("", status=404), CallStatus.FAILED, 404),
        (asyncio.CancelledError(), CallStatus.CANCELED, 487),
        (asyncio.CancelledError(NOBODY_ANSWERED), CallStatus.NO_ANSWER, 487),
        (ZeroDivisionError(), CallStatus.FAILED, 500),
    ],
)
def test_how_a_call_ended_that_was_not_answered(
    error: BaseException, status: CallStatus, code: int
) -> None:
    assert ending(error) == (status, code)
