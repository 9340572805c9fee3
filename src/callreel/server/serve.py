"""``callreel serve``: prepare the machine, then supervise the processes that do the work."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from callreel.capture.settings import WorkerSettings, slice_ports
from callreel.server.datadir import DataDir
from callreel.server.settings import Settings, load_settings
from callreel.server.supervisor import supervise


def run_server(config: Path | None, options: dict[str, Any]) -> int:
    """Run until told to stop; returns the exit status. Raises ``UsageError``."""
    settings = load_settings(config, options)
    os.umask(0o077)  # for every process: what is said on calls is for nobody else to read
    data = DataDir(settings.data.absolute())
    data.prepare()
    lock = data.lock()
    _raise_descriptor_limit()
    # Short, since Unix socket paths end at 107 bytes; private, since who can connect commands.
    runtime = Path(tempfile.mkdtemp(prefix="callreel-"))
    try:
        return supervise(
            control_argv=_control_argv(config, options, runtime),
            worker_argvs=[worker.to_argv() for worker in worker_settings(settings, data)],
            runtime_dir=runtime,
            inherited=[lock],
            log_format=settings.log_format,
        )
    finally:
        shutil.rmtree(runtime, ignore_errors=True)
        os.close(lock)


def worker_settings(settings: Settings, data: DataDir) -> list[WorkerSettings]:
    """The media workers that these settings ask for. Raises ``UsageError``."""
    count = settings.worker_count
    return [
        WorkerSettings(
            bind_host=settings.sip_address[0],
            port_low=low,
            port_high=high,
            journal_root=data.journals,
            sweep_ms=settings.sweep_period_ms,
            media_timeout_ms=round(settings.media_timeout_seconds * 1000),
            log_format=settings.log_format,
            memory_reserve_mib=settings.memory_reserve_mib,
            index=index,
            workers=count,
        )
        for index, (low, high) in enumerate(slice_ports(*settings.port_range, count))
    ]


def _control_argv(config: Path | None, options: dict[str, Any], runtime: Path) -> list[str]:
    """No secret is on this command line: tokens come by the environment or the file."""
    told = {
        "config": None if config is None else str(config.absolute()),
        "options": {name: str(value) for name, value in options.items()},
        "runtime": str(runtime),
    }
    return [sys.executable, "-m", "callreel.server", json.dumps(told)]


def _raise_descriptor_limit() -> None:
    """Two or four sockets and a journal a call: take what the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
