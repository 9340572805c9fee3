"""A server that has accidents, on ports that stay the same when it is started anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import time
from pathlib import Path

import httpx
from bench.processes import snapshot

from callreel.base.errors import MachineError
from callreel.demo.own_server import OwnServer
from chaos.accident import ENDS_THE_SERVER, Accident, Happened
from chaos.trouble import Trouble, befall, mount_small, unmount

_PATIENCE_S = 60.0
_START_S = 240.0
_TRIES = 3


class House:
    """A server, its API, and what has happened to it."""

    def __init__(self, folder: Path, *, sip_target: str, ports: tuple[int, int]) -> None:
        """``sip_target`` is the ``host:port`` that calls are passed on to."""
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "callreel.toml"
        config.write_text(f'[[routes]]\nprefix = ""\nto = ["sip:{{number}}@{sip_target}"]\n')
        self._options = (
            *("--config", str(config)),
            *("--rtp-ports", f"{ports[0]}-{ports[1]}", "--workers", "2"),
        )
        self.server = OwnServer(
            folder,
            "AC" + secrets.token_hex(16),
            secrets.token_urlsafe(24),
            start_s=_START_S,
            environment={
                "CALLREEL_SHUTDOWN_SECONDS": "5",
                "CALLREEL_RENDER_WORKERS": "1",
                "CALLREEL_DISK_WARNING_MB": "2",
                "CALLREEL_DISK_RESERVE_MB": "1",
            },
        )
        self.journals = folder / "data" / "journals"
        """Where they are; a filesystem of their own where there may be one."""
        self.troubles: list[Trouble] = []
        """In order."""
        self._may_fill = mount_small(self.journals)
        self.account = f"/2010-04-01/Accounts/{self.server.account_sid}"
        self.happened: list[Happened] = []
        """In order."""
        self.ended_ns: list[int] = []
        """Instants at which the whole server died: what was live then is over."""
        self.starting_s: list[float] = []
        """How long it took to come back from that."""
        self._http: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Start it, or start it anew. Raises ``MachineError``."""
        begun = time.monotonic()
        if self.starting_s:
            await asyncio.to_thread(self.server.start)
        else:
            await self._settle()
        self.starting_s.append(time.monotonic() - begun)
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=self.server.http_url,
                auth=(self.server.account_sid, self.server.auth_token),
                trust_env=False,
                timeout=15,
                limits=httpx.Limits(max_keepalive_connections=0),
            )

    async def _settle(self) -> None:
        """Start it for the first time, on ports that nobody takes before it does."""
        for left in reversed(range(_TRIES)):
            http, sip = free_port(), free_port()
            own = ("--http", f"127.0.0.1:{http}", "--sip", f"127.0.0.1:{sip}")
            self.server.options = (*self._options, *own)
            try:
                await asyncio.to_thread(self.server.start)
                return
            except MachineError:
                if not left or "Address already in use" not in self.server.log:
                    raise

    async def close(self) -> None:
        """Stop it in order."""
        if self._http is not None:
            await self._http.aclose()
        await asyncio.to_thread(self.server.stop)
        if self._may_fill:
            unmount(self.journals)

    async def go_through(self, kind: Trouble, random_: random.Random) -> None:
        """Have some trouble that nobody dies of."""
        process = self.server.process
        if process is None or (kind is Trouble.DISK_FULL and not self._may_fill):
            return
        role = "worker" if kind is Trouble.WORKER_UNWRITABLE else "control"
        pids = [pid for pid, one in snapshot(process.pid).by_pid.items() if one.role == role]
        if not pids:
            return
        self.troubles.append(kind)
        await befall(
            kind,
            journals=self.journals,
            database=self.server.data / "callreel.db",
            pid=random_.choice(pids),
            random_=random_,
        )

    async def suffer(self, kind: Accident, random_: random.Random) -> Happened | None:
        """Have an accident happen; None if there is nobody whom it could happen to."""
        process = self.server.process
        if process is None:
            return None
        roles: dict[str, list[int]] = {}
        for pid, usage in snapshot(process.pid).by_pid.items():
            roles.setdefault(usage.role, []).append(pid)
        control, workers = roles.get("control", []), roles.get("worker", [])
        renderers = roles.get("render", [])
        match kind:
            case Accident.CONTROL:
                victims = control
            case Accident.WORKER:
                victims = random_.sample(workers, min(1, len(workers)))
            case Accident.RENDERER:
                victims = random_.sample(renderers, min(1, len(renderers)))
            case Accident.CONTROL_AND_WORKER:
                victims = control + random_.sample(workers, min(1, len(workers)))
            case Accident.WORKERS:
                victims = workers
            case Accident.ALL_BUT_SUPERVISOR:
                victims = control + workers + renderers
            case Accident.SUPERVISOR:
                victims = [process.pid]
            case Accident.EVERYTHING:
                victims = [process.pid, *control, *workers, *renderers]
        random_.shuffle(victims)
        at_ns = time.time_ns()
        killed = 0
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        if not killed:
            return None
        one = Happened(kind, at_ns, killed)
        self.happened.append(one)
        if kind in ENDS_THE_SERVER:
            self.ended_ns.append(at_ns)
            await asyncio.to_thread(process.wait)
            self.server.process = None
            await self.start()
        return one

    async def recover(self, *, wholly: bool = False) -> None:
        """Wait until it is all there again; ``wholly``: and what was held back is written. Raises
        ``MachineError`` if it never is."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                assert self._http is not None
                answer = await self._http.get("/healthz")
                if answer.status_code == 200 and (not wholly or answer.json()["journals"] == "ok"):
                    return
            await asyncio.sleep(0.1)
        raise MachineError("the server does not come back")

    # The API as a program that does not give up uses it

    async def ask(
        self, method: str, path: str, *, patience_s: float = _PATIENCE_S, **fields: str
    ) -> httpx.Response | None:
        """An answer that is not 5xx; None if there was none for so long."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                if self._http is not None:
                    answer = await self._http.request(
                        method, f"{self.account}{path}", data=fields or None
                    )
                    if answer.status_code < 500:
                        return answer
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
        return None

    async def every(self, what: str) -> list[dict[str, object]]:
        """All of a list, page by page. Raises ``MachineError`` if the server does not answer."""
        found: list[dict[str, object]] = []
        path: str | None = f"/{what}.json?PageSize=1000"
        while path is not None:
            answer = await self.ask("GET", path)
            if answer is None or answer.status_code != 200:
                raise MachineError(f"the server does not list its {what}")
            body = answer.json()
            found += body[what.lower()]
            following = body["next_page_uri"]
            path = following and following.removeprefix(self.account)
        return found

    @property
    def admin(self) -> str:
        """The Unix socket on which the command line reaches it."""
        found = json.loads((self.server.data / "server.json").read_text())
        return str(found["admin_socket"])


def free_port() -> int:
    """Free for UDP and TCP a moment ago, outside the range that the kernel takes ports from."""
    low, high = 4096, 9999
    for _ in range(1000):
        port = low + secrets.randbelow(high - low)
        try:
            with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
    raise MachineError("no port is free")
