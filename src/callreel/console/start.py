"""The first visit: how calls get here, how programs do, and a call to try it with."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from callreel.calls.model import Dialect
from callreel.calls.spelling import Kind, account_sid, api_path
from callreel.console.services import ConsoleServices, Stage
from callreel.console.visit import ROOT, Visit
from callreel.store.calls import CallFilter


class StartPages:
    """The page, and the test call."""

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services

    async def root(self, visit: Visit) -> Response:
        """Where one is led: to what is going on, once there has been a call."""
        page = await self._services.calls.page(visit.account, CallFilter(), size=1, position=None)
        return visit.go("/live" if page.items else "/start", visit.signed_in.session.notice)

    async def show(self, visit: Visit) -> Response:
        """The page."""
        addresses = self._services.addresses
        path = api_path(visit.account)
        return visit.page(
            "start.html",
            addresses=addresses,
            sip_host=addresses.sip_uri.removeprefix("sip:"),
            api_url=addresses.api_url,
            api_host=urlsplit(addresses.api_url).netloc,
            username=visit.signed_in.session.username,
            account_sid=account_sid(visit.account),
            is_twilio=visit.account.dialect is Dialect.TWILIO,
            curl=f"curl -u {visit.signed_in.session.username} {addresses.api_url}{path}/Calls.json",
            record=f"curl -u {visit.signed_in.session.username} -d RecordingChannels=dual "
            f"{addresses.api_url}{path}/Calls/CALL_SID/Recordings.json",
            obstacle=self._services.trial_calls.obstacle(visit.account),
            **self._test(visit),
        )

    async def test_call(self, visit: Visit) -> Response:
        """Begin one."""
        obstacle = self._services.trial_calls.obstacle(visit.account)
        if obstacle is None:
            self._services.trial_calls.start(visit.account)
        return self._progress(visit) if visit.is_partial else visit.go("/start/test-call")

    async def progress(self, visit: Visit) -> Response:
        """How far it has got; on to its recording once that is there."""
        return self._progress(visit)

    def _progress(self, visit: Visit) -> Response:
        told = self._test(visit)
        test = self._services.trial_calls.newest(visit.account)
        if test is not None and test.stage is Stage.DONE and test.recording_id is not None:
            sid = visit.sid(Kind.RECORDING, test.recording_id)
            return visit.go(f"/recordings/{sid}", "This is your test call: press play.")
        if visit.is_partial:
            return visit.page("test_call.html", obstacle=None, **told)
        answer = visit.page("test_call_page.html", obstacle=None, **told)
        if test is not None and test.stage is not Stage.FAILED:
            answer.headers["Refresh"] = f"2; url={ROOT}/start/test-call"
        return answer

    def _test(self, visit: Visit) -> dict[str, Any]:
        test = self._services.trial_calls.newest(visit.account)
        under_way = test is not None and test.stage not in (Stage.DONE, Stage.FAILED)
        return {"test": test, "under_way": under_way}
