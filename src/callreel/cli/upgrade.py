"""``callreel upgrade``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callreel.base.errors import UsageError
from callreel.cli.admin import ConfigOption, DataOption

if TYPE_CHECKING:
    from callreel.server.datadir import DataDir

PATIENCE_S = 60.0
"""How long a new control process may take to come up."""


def upgrade(
    data: DataOption = None,
    config: ConfigOption = None,
    wait: Annotated[
        float, typer.Option(help="How many seconds the new process may take to come up.")
    ] = PATIENCE_S,
) -> None:
    """Have a running server go on with the version that is installed now, calls and all.

    Its control process is replaced: SIP and the API are away for the seconds that the new one takes
    to start; media workers go on recording and passing calls on. They are of the former version
    until the server is started anew.
    """
    from callreel.server.datadir import DataDir
    from callreel.server.settings import load_settings
    from callreel.server.supervisor import REPLACE_SIGNAL

    folder = DataDir(load_settings(config, {"data": data}).data.absolute())
    before = _up(folder)
    try:
        os.kill(before["supervisor_pid"], REPLACE_SIGNAL)
    except OSError as error:
        raise UsageError(f"the server cannot be told: {error.strerror}") from None
    deadline_s = time.monotonic() + wait
    while time.monotonic() < deadline_s:
        now = folder.read_state()
        if now is not None and now.get("pid") != before["pid"]:
            print(f"Replaced: process {before['pid']} by {now['pid']}.")
            return
        time.sleep(0.05)
    raise UsageError("the new control process is not up yet; the server's log says why")


def _up(folder: DataDir) -> dict[str, Any]:
    state = folder.read_state() if Path(folder.root).exists() else None
    if state is None or not isinstance(state.get("supervisor_pid"), int):
        raise UsageError(f"no server is up on {folder.root}")
    return state
