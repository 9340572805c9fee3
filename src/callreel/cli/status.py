"""``callreel status``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callreel.base.errors import UsageError
from callreel.cli.admin import ConfigOption, DataOption, JsonOption, administer, print_json

if TYPE_CHECKING:
    from rich.table import Table

PERIOD_S = 1.0


def status(
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a running server is doing, live: calls, recordings, disk, and what is at risk.

    Exit status 1 if a part of it is not up.
    """

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = administer(config, data, lambda admin: admin.get("status"))
        return found

    found = ask()
    if json:
        print_json(found)
    elif once or not sys.stdout.isatty():
        from rich.console import Console

        Console().print(table(found))
    else:
        _watch(found, ask)
        return
    if any(not _is_up(state) for state in found["health"].values()):
        sys.exit(1)


def _watch(found: dict[str, Any], ask: Any) -> None:
    from rich.live import Live

    with Live(table(found), refresh_per_second=4) as live:
        while True:
            time.sleep(PERIOD_S)
            try:
                live.update(table(ask()))
            except UsageError as error:  # being started anew, perhaps
                live.update(str(error))


def table(found: dict[str, Any]) -> Table:
    """All of it as two columns."""
    from rich.table import Table

    shown = Table(show_header=False, box=None, pad_edge=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column()
    for name, text in rows(found):
        shown.add_row(name, text)
    return shown


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and texts."""
    workers, disk, sync, risk = (found[key] for key in ("workers", "disk", "sync", "at_risk"))
    unwell = {name: state for name, state in found["health"].items() if state != "ok"}
    lines = [
        ("health", "all is well" if not unwell else ""),
        *((f"  {name}", state) for name, state in unwell.items()),
        ("up", f"{found['up_seconds']:.0f} s"),
        ("calls", str(found["calls"])),
        ("recordings", _counts(found["recordings"])),
        ("finishing", f"{found['finishing']['waiting']} waiting, "
                      f"{found['finishing']['failing']} failing"),
        ("webhooks", f"{_counts(found['deliveries'])}; {found['sending']} being sent"),
        ("packets", f"{sum(one['packets'] for one in workers):.0f} kept, "
                    f"{sum(one['dropped'] for one in workers):.0f} dropped by the kernel, "
                    f"{sum(one['relayed'] for one in workers)} passed on"),
        ("media workers", ", ".join(
            f"{one['calls']} calls (started {one['generation']} times)" for one in workers)),
        ("disk", f"{disk['step']}: {disk['free_bytes'] / 1e9:.2f} of "
                 f"{disk['total_bytes'] / 1e9:.1f} GB are free in {disk['place']}"),
        ("sync", f"{sync['longest_seconds'] * 1000:.0f} ms at most of late"
                 + (f"; failing: {sync['failing']}" if sync["failing"] else "")),
        ("a crash would take", f"{risk['crash_seconds']:.2f} s of a recording at most"),
        ("a power cut would take", f"{risk['power_cut_seconds']:.2f} s at most"),
        ("limits", ", ".join(f"{name} {value:g}" for name, value in found["limits"].items())),
        ("logged", ", ".join(f"{count} of {level}" for level, count in found["logged"].items())),
    ]  # fmt: skip
    return lines


def _counts(some: dict[str, int] | None) -> str:
    if some is None:
        return "the database does not answer"
    return ", ".join(f"{count} {name}" for name, count in some.items() if count) or "none"


def _is_up(state: str) -> bool:
    return state == "ok" or state.startswith("warning: ")
