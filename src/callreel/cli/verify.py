"""``callreel verify``."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from callreel.base.errors import UsageError
from callreel.cli.admin import Admin, ConfigOption, DataOption, JsonOption, administer, print_json

_PROGRESS_S = 2.0


def verify(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Do not read audio: only that it is there, and its size."),
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Look through all that is kept: is every recording what its integrity report says?

    Every WAV is read and hashed anew; rows without a file and files without a row are found. What
    can safely be mended is; the rest is told, and left alone. Exit status 1 if anything is left
    that is not as it should be.
    """
    findings: list[dict[str, Any]] = []
    last_s = time.monotonic()

    def heed(said: dict[str, Any]) -> None:
        nonlocal last_s
        if "error" in said:
            raise UsageError(said["error"])
        if (finding := said.get("finding")) is not None:
            findings.append(finding)
            if not json:
                mended = " (mended)" if finding["mended"] else ""
                detail = f": {finding['detail']}" if finding["detail"] else ""
                print(f"{finding['about']}  {finding['trouble']}{detail}{mended}", flush=True)
        elif "progress" in said and not json and time.monotonic() - last_s >= _PROGRESS_S:
            last_s = time.monotonic()
            counts = said["progress"]
            read_gb = counts["bytes_read"] / 1e9
            print(
                f"{counts['recordings']} of {counts['of']} recordings, {read_gb:.2f} GB read",
                file=sys.stderr,
                flush=True,
            )

    async def work(admin: Admin) -> dict[str, Any]:
        done: dict[str, Any] = {}
        async for said in admin.lines("verify", hashes=str(not quick).lower()):
            heed(said)
            done = said.get("done", done)
        if not done:
            raise UsageError("the server broke off; its log says why")
        return done

    done = administer(config, data, work)
    bad = [one for one in findings if not one["mended"]]
    if json:
        print_json(done | {"findings": findings})
    else:
        read_gb = done["bytes_read"] / 1e9
        print(
            f"{done['recordings']} recordings, {read_gb:.2f} GB read: "
            f"{len(bad)} not as they should be, {len(findings) - len(bad)} mended."
        )
    if bad:
        sys.exit(1)
