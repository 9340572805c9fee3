"""The REST API as a program without an SDK uses it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from callreel.demo.own_server import OwnServer

Json = dict[str, Any]


class Api:
    """One account's view of a server."""

    def __init__(self, server: OwnServer) -> None:
        self.account = f"/2010-04-01/Accounts/{server.account_sid}"
        self.http = httpx.Client(
            base_url=server.http_url,
            auth=(server.account_sid, server.auth_token),
            trust_env=False,
            timeout=20,
            # No connection outlives its answer: nothing is left open where nobody closes us.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def get(self, path: str, **query: str) -> Json:
        answer = self.http.get(f"{self.account}{path}", params=query)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def post(self, path: str, **fields: str) -> httpx.Response:
        return self.http.post(f"{self.account}{path}", data=fields)

    def live_calls(self) -> list[Json]:
        found: list[Json] = self.get("/Calls.json", Status="in-progress")["calls"]
        return found

    def wait_live(self, count: int = 1, seconds: float = 10) -> list[Json]:
        deadline = time.monotonic() + seconds
        while (live := self.live_calls()) is not None and len(live) != count:
            assert time.monotonic() < deadline, f"{len(live)} calls are live, not {count}"
            time.sleep(0.05)
        return live

    def start(self, call_sid: str, **fields: str) -> Json:
        answer = self.post(f"/Calls/{call_sid}/Recordings.json", **fields)
        assert answer.status_code in (200, 201), answer.text
        started: Json = answer.json()
        return started

    def stop(self, recording: Json) -> Json:
        path = f"/Calls/{recording['call_sid']}/Recordings/{recording['sid']}.json"
        answer = self.post(path, Status="stopped")
        assert answer.status_code == 200, answer.text
        stopped: Json = answer.json()
        return stopped

    def finished(self, sid: str, seconds: float = 20) -> Json:
        """The recording once it is completed or absent."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.get(f"/Recordings/{sid}.json")
            if found["status"] in ("completed", "absent"):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def download(self, sid: str, folder: Path, suffix: str = ".wav") -> Path:
        answer = self.http.get(f"{self.account}/Recordings/{sid}{suffix}")
        assert answer.status_code == 200, answer.text
        path = folder / f"{sid}{suffix}"
        path.write_bytes(answer.content)
        return path

    def integrity(self, sid: str) -> Json:
        return self.get(f"/Recordings/{sid}/Integrity.json")
