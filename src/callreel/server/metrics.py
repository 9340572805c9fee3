"""What the server is doing, in the words of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import callreel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(status: dict[str, Any]) -> bytes:
    """What :meth:`callreel.server.status.Status.gather` found, in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(status))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        status = self._status
        yield _gauge("info", "Version that runs.", 1, version=callreel.__version__)
        yield _gauge("up_seconds", "Since the control process started.", status["up_seconds"])
        yield _by(
            "health",
            "1: a part is up, be it with a warning; 0: it is not.",
            "part",
            {
                name: float(state == "ok" or state.startswith("warning: "))
                for name, state in status["health"].items()
            },
        )
        yield _gauge("calls", "Calls under way.", status["calls"])
        if status["recordings"] is not None:
            yield _by("recordings", "Recordings by status.", "status", status["recordings"])
            yield _by("deliveries", "Webhooks by state.", "state", status["deliveries"])
        yield from _workers(status["workers"])
        finishing = status["finishing"]
        yield _gauge("finishing", "Recordings that are stopped, being finished.",
                     finishing["waiting"])  # fmt: skip
        yield _gauge("finishing_failing", "Those that failed last time.", finishing["failing"])
        yield _counter("renders", "Recordings rendered.", finishing["renders"])
        yield _counter("render_seconds", "Time that took.", finishing["render_seconds"])
        yield _gauge("deliveries_sending", "Webhooks being tried now.", status["sending"])
        disk = status["disk"]
        yield _gauge("disk_free_bytes", "On the fullest filesystem.", disk["free_bytes"])
        yield _gauge("disk_total_bytes", "Of the fullest filesystem.", disk["total_bytes"])
        steps = {step: float(step == disk["step"]) for step in ("ample", "low", "out")}
        yield _by("disk_step", "Where the disk stands.", "step", steps)
        sync = status["sync"]
        yield _counter("syncs", "Times that journals were synced.", sync["syncs"])
        yield _counter("sync_seconds", "Time that took.", sync["seconds"])
        yield _gauge("sync_longest_seconds", "The longest of late.", sync["longest_seconds"])
        yield _by(
            "at_risk_seconds",
            "What an accident that happened now could take of a recording, by the accident.",
            "accident",
            {
                "crash": status["at_risk"]["crash_seconds"],
                "power_cut": status["at_risk"]["power_cut_seconds"],
            },
        )
        yield _by("used", "How much there is of what has a limit.", "what", status["limits"])
        logged = CounterMetricFamily("callreel_logged", "Lines logged.", labels=["level"])
        for level, count in status["logged"].items():
            logged.add_metric([level], count)
        yield logged


def _workers(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    gauges = {
        "worker_calls": ("calls", "Calls open in a media worker."),
        "worker_captures": ("captures", "Recordings that it keeps."),
        "worker_generation": ("generation", "How often it was started."),
        "sweep_longest_seconds": ("sweep_longest_seconds", "The longest part of a sweep of late."),
        "sweep_behind_seconds": ("behind_longest_seconds", "How late one was written of late."),
    }
    counters = {
        "packets_kept": ("packets", "RTP packets kept."),
        "packets_dropped": ("dropped", "Dropped by the kernel, on streams that are open."),
        "packets_relayed": ("relayed", "Packets passed on."),
        "packets_unsent": ("unsent", "Packets that the kernel would not send."),
        "packets_strange": ("strange", "Neither RTP nor RTCP, not passed on."),
        "packets_unauthentic": ("unauthentic", "SRTP that was not made with the key."),
        "sweeps": ("sweeps", "Parts of sweeps."),
        "sweep_seconds": ("sweep_seconds", "Time they took."),
    }
    for name, (key, help_) in gauges.items():
        gauge = GaugeMetricFamily(f"callreel_{name}", help_, labels=["worker"])
        for index, worker in enumerate(workers):
            gauge.add_metric([str(index)], worker[key])
        yield gauge
    for name, (key, help_) in counters.items():
        counter = CounterMetricFamily(f"callreel_{name}", help_, labels=["worker"])
        for index, worker in enumerate(workers):
            counter.add_metric([str(index)], worker[key])
        yield counter


def _gauge(name: str, help_: str, value: float, **labels: str) -> Metric:
    found = GaugeMetricFamily(f"callreel_{name}", help_, labels=list(labels))
    found.add_metric(list(labels.values()), value)
    return found


def _counter(name: str, help_: str, value: float) -> Metric:
    return CounterMetricFamily(f"callreel_{name}", help_, value=value)


def _by(name: str, help_: str, label: str, values: dict[str, float]) -> Metric:
    found = GaugeMetricFamily(f"callreel_{name}", help_, labels=[label])
    for key, value in values.items():
        found.add_metric([key], value)
    return found
