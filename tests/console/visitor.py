"""The console as a browser without scripts uses it."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

import httpx

from callreel.demo.own_server import OwnServer

_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


def form_token(page: str) -> str:
    """What the forms of a page carry."""
    found = _TOKEN.search(page)
    assert found is not None, page
    return found[1]


class Visitor:
    """Keeps cookies and follows redirects, at an address of their own if one is given."""

    def __init__(self, server: OwnServer, *, address: str = "") -> None:
        self.http = httpx.Client(
            base_url=server.http_url + "/console",
            headers={"X-Forwarded-For": address} if address else {},
            follow_redirects=True,
            trust_env=False,
            timeout=20,
            # No connection outlives its answer: nothing is left open where nobody closes us.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def sign_in(self, username: str, password: str, **more: str) -> httpx.Response:
        """Type credentials in."""
        token = form_token(self.get("/sign-in").text)
        fields = {"username": username, "password": password, "form_token": token, **more}
        return self.http.post("/sign-in", data=fields)

    def post(self, path: str, page: str = "/display", **fields: object) -> httpx.Response:
        """Send a form of a page."""
        token = form_token(self.get(page).text)
        return self.http.post(path, data={"form_token": token, **fields})

    @property
    def is_in(self) -> bool:
        """Whether they are signed in."""
        return self.get("/display").url.path == "/console/display"
