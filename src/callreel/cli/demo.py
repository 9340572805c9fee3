"""``callreel demo``."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the recording is left.")
    ] = Path("demo-output"),
) -> None:
    """Record a call between two real voices, end to end, in under a minute.

    Starts a server on free ports; a call reaches it by SIPREC; the twilio SDK starts and stops a
    dual recording in mid-call; the signed webhook is caught and checked; the file is fetched and
    drawn. A phone then calls another through it; and a program calls a phone, greets it, records
    its answer and connects it. Exit status 0 only if every step truly happened.
    """
    # Imported here: the supervisor, which is this program too, is to stay small.
    from callreel.demo.scene import play

    begun = time.monotonic()
    redrawn = sys.stdout.isatty()

    def say(text: str) -> None:
        if text.startswith("\r"):
            if redrawn:
                sys.stdout.write(f"\r[{time.monotonic() - begun:5.1f} s] {text[1:]}")
                sys.stdout.flush()
            return
        lead = "\r" if redrawn else ""
        stamp = f"[{time.monotonic() - begun:5.1f} s] " if text and text[0] != " " else ""
        print(f"{lead}{stamp}{text}", flush=True)

    path = asyncio.run(play(output, say))
    print(path.resolve())
