"""``python -m bench``: every bench in turn, or those named; ``python -m bench NAME --help``."""

from __future__ import annotations

import subprocess
import sys
import time

BENCHES = {
    "calls": "SIPREC calls at once, each recorded: is every packet in the files?",
    "bridged": "calls passed on and recorded: does every packet come out, and in the files?",
    "relay": "a media worker that passes calls on: delay added, CPU a packet, beside a bare loop",
    "voicemail": "callers who all leave a message at once: is each whole, and called back?",
    "rtpengine": "recorded calls: CPU for a second of one, beside rtpengine's",
    "spray": "strangers at every media port of calls that are recorded: is anybody harmed?",
    "hangup": "from the hang-up to the webhook that says completed",
    "memory": "what a live recorded call costs in memory",
    "player": "a media worker that plays prompts: CPU a packet, beside a bare loop that sends",
    "sweep": "capture: CPU a packet, against reading packets to throw them away",
    "render": "rendering: how many times faster than the audio lasts, beside ffmpeg and sox",
    "fidelity": "rendering: what is left of a voice (PESQ), beside what the codec alone leaves",
    "api": "the API: starting and listing recordings, against an endpoint that does nothing",
    "console": "the console: its pages with 100,000 recordings, and an hour's waveform",
    "signalling": "SIP: sessions set up and ended a second, and CPU for each",
}


def main(arguments: list[str]) -> int:
    """Run benches; 1 if one found something wrong. Being slow is never wrong."""
    if "--help" in arguments[:1] or "-h" in arguments[:1]:
        print(_usage())
        return 0
    names: list[str] = []
    while arguments and not arguments[0].startswith("-"):
        names.append(arguments.pop(0))
    unknown = [name for name in names if name not in BENCHES]
    if unknown or (arguments and len(names) != 1):
        print(f"no such bench: {unknown[0]}" if unknown else "options are of one bench: name it")
        print(_usage())
        return 2
    statuses = {name: _run(name, arguments) for name in names or BENCHES}
    if len(statuses) > 1:
        print("\n== in short")
        for name, status in statuses.items():
            print(f"  {name:<12}{'as it should be' if status == 0 else f'FAILED ({status})'}")
    return 1 if any(statuses.values()) else 0


def _run(name: str, options: list[str]) -> int:
    """Each bench has a process of its own, so that none inherits another's memory."""
    print(f"\n== {name}: {BENCHES[name]}", flush=True)
    started = time.monotonic()
    status = subprocess.run([sys.executable, "-m", f"bench.{name}", *options], check=False)
    print(f"  ({time.monotonic() - started:.0f} s)", flush=True)
    return status.returncode


def _usage() -> str:
    lines = ["usage: python -m bench [NAME ...]", "       python -m bench NAME [OPTIONS]", ""]
    lines += [f"  {name:<12}{about}" for name, about in BENCHES.items()]
    return "\n".join(
        [*lines, "", "Exit status 1 if a bench found something wrong; never for slow."]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
