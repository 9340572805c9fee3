"""Metrics, limits and log lines, each by itself."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from callreel.api.metrics import Metrics, _may_read
from callreel.base.log_lines import formatter
from callreel.capture.gauge import Gauge, Longest
from callreel.cli.status import rows
from callreel.server.http import Bounded
from callreel.server.metrics import exposition

WORKER = {
    **dict.fromkeys(("pid", "generation", "calls", "captures", "relayed", "unsent"), 2),
    **dict.fromkeys(("strange", "unauthentic", "packets", "dropped", "sweeps"), 3),
    **dict.fromkeys(("sweep_seconds", "sweep_longest_seconds", "behind_longest_seconds"), 0.25),
}
STATUS = {
    "up_seconds": 12.5,
    "health": {"database": "ok", "disk": "warning: low", "sip": "down: gone"},
    "calls": 7,
    "workers": [WORKER, WORKER],
    "recordings": {"in-progress": 4, "completed": 9},
    "deliveries": {"pending": 1, "failed": 0},
    "finishing": {"waiting": 1, "failing": 0, "renders": 9, "render_seconds": 1.5},
    "sending": 1,
    "disk": {"step": "low", "free_bytes": 5_000_000, "total_bytes": 9_000_000, "place": "/x"},
    "sync": {"syncs": 3, "seconds": 0.5, "longest_seconds": 0.25, "failing": ""},
    "at_risk": {"crash_seconds": 0.5, "power_cut_seconds": 1.75},
    "limits": {"http_requests": 1, "sip_connections": 2},
    "logged": {"warning": 5, "error": 6},
}


def test_the_figures_are_what_prometheus_reads() -> None:
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(exposition(STATUS).decode())
        for sample in family.samples
    }
    assert found["callreel_calls",] == 7
    assert found["callreel_recordings", "in-progress"] == 4
    assert found["callreel_health", "disk"] == 1
    assert found["callreel_health", "sip"] == 0
    assert found["callreel_packets_kept_total", "1"] == 3
    assert found["callreel_at_risk_seconds", "power_cut"] == 1.75
    assert found["callreel_disk_step", "low"] == 1
    assert found["callreel_logged_total", "error"] == 6
    without = exposition(STATUS | {"recordings": None, "deliveries": None, "workers": []})
    assert b"callreel_calls 7.0" in without


def test_the_status_is_shown_whatever_is_missing() -> None:
    said = dict(rows(STATUS))
    assert said["recordings"] == "4 in-progress, 9 completed"
    assert said["a power cut would take"] == "1.75 s at most"
    assert said["  sip"] == "down: gone"
    said = dict(rows(STATUS | {"recordings": None, "deliveries": None, "workers": []}))
    assert "does not answer" in said["recordings"]


async def _nothing() -> tuple[bytes, str]:
    return b"", ""


@pytest.mark.parametrize(
    ("client", "header", "loopback", "token", "may"),
    [
        ("127.0.0.1", None, True, None, True),
        ("::1", None, True, None, True),
        ("127.0.0.1", None, False, None, False),
        ("192.0.2.7", None, True, None, False),
        ("192.0.2.7", "Bearer the-right-token-1", True, "the-right-token-1", True),
        ("192.0.2.7", "Bearer the-wrong-token-1", True, "the-right-token-1", False),
        ("127.0.0.1", "Bearer the-wrong-token-1", True, "the-right-token-1", False),
        ("192.0.2.7", "Basic the-right-token-1", True, "the-right-token-1", False),
        ("not an address", None, True, None, False),
        (None, None, True, None, False),
    ],
)
def test_who_may_read_them(
    client: str | None, header: str | None, loopback: bool, token: str | None, may: bool
) -> None:
    headers = [] if header is None else [(b"authorization", header.encode())]
    scope = {"type": "http", "headers": headers, "client": client and (client, 1)}
    assert _may_read(Request(scope), Metrics(_nothing, loopback, token)) is may


async def test_so_many_requests_at_once_and_no_more() -> None:
    inside, done = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_: Request) -> Response:
        inside.release()
        await done.wait()
        return PlainTextResponse("done")

    app = Bounded(Starlette(routes=[Route("/", slow)]), 2)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://callreel"
    ) as http:
        under_way = [asyncio.create_task(http.get("/")) for _ in range(2)]
        for _ in range(2):
            await inside.acquire()
        refused = await http.get("/")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (app.under_way, app.refused) == (2, 1)
        done.set()
        assert [one.status_code for one in await asyncio.gather(*under_way)] == [200, 200]
        assert (await http.get("/")).status_code == 200
    assert app.under_way == 0


def test_a_line_for_programs_names_what_it_is_about() -> None:
    call, recording = "a" * 32, "b" * 32
    record = logging.LogRecord(
        "callreel.x", logging.WARNING, "", 0, "recording %s of call %s\nends", (recording, call),
        None,
    )  # fmt: skip
    line = formatter("json").format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert (said["call"], said["recording"]) == (call, recording)
    assert (said["level"], said["logger"]) == ("warning", "callreel.x")
    assert said["at"].endswith("Z")
    assert "WARNING callreel.x: recording" in formatter("text").format(record)


def test_the_longest_of_late_is_forgotten_after_a_while() -> None:
    second = 1_000_000_000
    longest = Longest()
    longest.saw(5, 100 * second)
    longest.saw(3, 120 * second)
    assert longest.since(125 * second) == 5
    assert longest.since(135 * second) == 5
    assert longest.since(190 * second) == 0
    gauge = Gauge()
    gauge.swept(due_ns=10 * second, begun_ns=11 * second, ended_ns=13 * second)
    told = gauge.told(13 * second, packets=1, dropped=2, journals=3)
    assert (told["sweep_longest_seconds"], told["behind_longest_seconds"]) == (2, 3)
