"""``callreel phone``: a small user agent for a first try and for tests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callreel.base.errors import PeerError, UsageError
from callreel.cli import softphone
from callreel.wire.sip.flow import Transport

if TYPE_CHECKING:  # at run time imported where used: `callreel serve` needs none of it
    from callreel.phone.recording_client import Party
    from callreel.phone.sources import AudioSource

app = typer.Typer(
    help="Make calls from the command line.", no_args_is_help=True, rich_markup_mode="markdown"
)


@app.callback()
def options() -> None:
    """Options of every phone command."""


app.command("call")(softphone.call)
app.command("answer")(softphone.answer)


@app.command()
def siprec(
    uri: Annotated[str, typer.Argument(help="The recorder, such as sip:127.0.0.1:5060.")],
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|tone:HZ|silence",
            help="What a party says; give it twice, the caller's first. "
            "Default: tone:440 and tone:880.",
        ),
    ] = None,
    codec: Annotated[str, typer.Option(help="PCMU or PCMA.")] = "PCMU",
    transport: Annotated[str, typer.Option(help="udp or tcp.")] = "udp",
    metadata: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Send this recording metadata (RFC 7865) instead."),
    ] = None,
    for_: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", help="Hang up after this long; else at Ctrl-C."),
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="URI", help="The caller.")
    ] = "sip:+15550100@pbx.example.com",
    to: Annotated[
        str, typer.Option("--to", metavar="URI", help="The callee.")
    ] = "sip:+15550199@pbx.example.com",
) -> None:
    """Send a recorder a call by SIPREC, as a session border controller would.

    Exit status 0 if the session was set up and ended in order, 1 if the recorder refused it or
    ended it first, 2 for a bad option.
    """
    from callreel.phone.recording_client import Party
    from callreel.phone.sources import parse_source

    try:
        chosen = Transport(transport.upper())
    except ValueError:
        raise UsageError(f"transport {transport!r} is not udp or tcp") from None
    if chosen is Transport.TLS:
        raise UsageError("the phone speaks udp and tcp")
    sources = [parse_source(text) for text in track or ["tone:440", "tone:880"]]
    try:
        about = None if metadata is None else metadata.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {metadata}: {error.strerror}") from None
    parties = (Party(from_), Party(to))
    try:
        in_order = asyncio.run(_call(uri, sources, codec, chosen, about, for_, parties))
    except PeerError as error:
        typer.echo(f"callreel: the recorder did not take the call: {error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(0 if in_order else 1)


async def _call(
    uri: str,
    sources: list[AudioSource],
    codec: str,
    transport: Transport,
    metadata: bytes | None,
    seconds: float | None,
    parties: tuple[Party, Party],
) -> bool:
    from callreel.phone.recording_client import RecordingClient
    from callreel.server.system import RandomIds, SystemClock

    phone = RecordingClient(clock=SystemClock(), ids=RandomIds())
    await phone.start()
    try:
        call = await phone.call(
            uri,
            sources,
            caller=parties[0],
            callee=parties[1],
            codec=codec,
            transport=transport,
            metadata=metadata,
        )
        print(f"session up: {len(sources)} tracks of {codec.upper()} to {uri}", flush=True)
        ended_by_peer = False
        try:
            await asyncio.wait_for(call.ended.wait(), seconds)
            ended_by_peer = True
        except TimeoutError:
            await phone.hang_up(call)
        except asyncio.CancelledError:
            await phone.hang_up(call)
        who = "the recorder" if ended_by_peer else "us"
        print(f"session ended by {who}: {call.packets_sent} packets sent")
        return not ended_by_peer
    finally:
        await phone.close()
