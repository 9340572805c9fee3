"""The comparison itself: what differs from the vendors' descriptions is noticed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import ValidationError

from tests.sdk import schemas
from tests.sdk.relay import Exchange
from tests.sdk.sdks import SIGNALWIRE, TWILIO

ERROR = {"code": 20404, "message": "no", "more_info": "http://callreel", "status": 404}
PAGE: dict[str, Any] = {
    "uri": "/x", "first_page_uri": "/x", "next_page_uri": None, "previous_page_uri": None,
    "page": 0, "page_size": 50, "recordings": [],
}  # fmt: skip
TWILIO_PAGE = PAGE | {"start": 0, "end": 0}


def answer(twilio: bool, path: str, status: int, body: dict[str, Any]) -> Exchange:
    account = TWILIO if twilio else SIGNALWIRE
    target = f"/api/laml/api/laml/2010-04-01/Accounts/{account}{path}"
    return Exchange("GET", target, status, "application/json", json.dumps(body).encode())


@pytest.mark.parametrize("twilio", [True, False], ids=["twilio", "signalwire"])
def test_what_differs_is_noticed(twilio: bool) -> None:
    if not schemas.description(twilio=twilio).exists():
        pytest.skip("the vendor's schema is not here")
    page = TWILIO_PAGE if twilio else PAGE
    lists = ["/Recordings.json?PageSize=1", "/Recordings", "/Calls/x/Recordings.json"]
    for path in [*lists, "/Conferences/x/Recordings.json"]:
        schemas.check(answer(twilio, path, 200, page), twilio=twilio)
    schemas.check(answer(twilio, "/Recordings/x.json", 404, ERROR), twilio=twilio)
    for wrong in (
        answer(twilio, "/Recordings.json", 200, page | {"total": 1}),
        answer(twilio, "/Recordings.json", 200, page | {"page": "0"}),
        answer(twilio, "/Recordings.json", 200, page | {"recordings": [{"sid": "x"}]}),
        answer(twilio, "/Calls.json", 200, page),
        answer(twilio, "/Recordings/x.json", 200, page),
        answer(twilio, "/Recordings/x.json", 404, ERROR | {"details": "…"}),
        answer(twilio, "/Recordings/x.json", 404, ERROR | {"code": "20404"}),
    ):
        with pytest.raises(ValidationError):
            schemas.check(wrong, twilio=twilio)
    with pytest.raises(AssertionError):
        schemas.check(
            answer(twilio, "/Recordings/x.json", 404, ERROR | {"status": 400}), twilio=twilio
        )
    with pytest.raises(AssertionError):
        schemas.check(answer(twilio, "/Recordings.json", 201, page), twilio=twilio)
