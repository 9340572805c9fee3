"""``callreel phone call`` and ``callreel phone answer``: the softphone on the command line."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import re
import signal
import ssl
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callreel.base.errors import PeerError, UsageError
from callreel.wire.sip.flow import Transport
from callreel.wire.sip.values import URI, printable

if TYPE_CHECKING:  # at run time imported where used: `callreel serve` needs none of it
    from callreel.phone.call import CallEvent, PhoneCall, Talk
    from callreel.phone.softphone import Phone

DEFAULT_LISTEN = "127.0.0.1:5070"
MOST_SECONDS = 86_400.0

_USER = re.compile(r"[A-Za-z0-9_.!~*'()+-]{1,128}")

Play = Annotated[
    str, typer.Option(metavar="FILE|tone:HZ|silence", help="What is said; a file once, a tone on.")
]
Record = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write what is heard: WAV, 8 kHz, mono.")
]
For = Annotated[
    float | None,
    typer.Option("--for", metavar="SECONDS", help="Hang up so long after the answer."),
]
Codec = Annotated[
    str, typer.Option(metavar="NAMES", help="PCMU, PCMA or both, the preferred first.")
]
User = Annotated[
    str | None, typer.Option(metavar="NAME", help="Our name, and that for digest authentication.")
]
Password = Annotated[
    str | None,
    typer.Option(
        envvar="CALLREEL_PHONE_PASSWORD",
        help="The password for it; on the command line others can read it.",
    ),
]
Digits = Annotated[
    str | None,
    typer.Option(metavar="1w2", help="Dial after the answer; w waits half a second, W one."),
]
HoldAt = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Put the peer on hold so long after the answer."),
]
ResumeAt = Annotated[float | None, typer.Option(metavar="SECONDS", help="And take it off again.")]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="PEM: whom to trust over TLS; else the system's authorities."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print each call's summary as a line of JSON, no more.")
]


@dataclass(frozen=True, slots=True)
class Script:
    """What is done on a call once it is answered."""

    seconds: float | None
    """Hang up after that; None: never."""
    digits: str | None
    """What is dialled first."""
    hold_at: float | None
    """When to hold, seconds from the answer."""
    resume_at: float | None
    """When to resume."""


def call(
    uri: Annotated[str, typer.Argument(help="Whom to call, such as sip:100@127.0.0.1:5060.")],
    play: Play = "tone:440",
    record: Record = None,
    for_: For = None,
    codec: Codec = "PCMU,PCMA",
    transport: Annotated[
        str | None, typer.Option(help="udp, tcp or tls; else what the URI says.")
    ] = None,
    ca: Ca = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="URI", help="The caller's address.")
    ] = None,
    user: User = None,
    password: Password = None,
    ring_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Give up if not answered by then.")
    ] = 60.0,
    early_media: Annotated[
        bool, typer.Option("--early-media", help="Hear and record before the answer, too.")
    ] = False,
    digits: Digits = None,
    hold_at: HoldAt = None,
    resume_at: ResumeAt = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go where a redirection (3xx) says, twice at most.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Call somebody, and say how it went.

    Ctrl-C hangs up, or gives up while it rings. Exit status 0 if the call was answered and then
    hung up by one of the two, 1 if it was refused, not answered or went wrong, 2 for a bad option.
    """
    target = _uri(uri)
    if from_ is not None:
        _uri(from_)
    elif user is not None:
        from_ = _aor(user, target)
    login = _login(user, password)
    talk = _talk(play, record, codec, early_media=early_media)
    script = _script(for_, digits, hold_at, resume_at)
    chosen = None if transport is None else _transport(transport)
    tls = _trusting(ca)
    _check_seconds("--ring-timeout", ring_timeout)

    async def run() -> bool:
        phone = _phone(talk, as_json, login, host=_host_towards(target), tls=tls)
        stop = _stop_event()
        await phone.start()
        try:
            return await _call(phone, uri, from_, chosen, ring_timeout, follow, script, stop)
        finally:
            await phone.close()

    _finish(run())


def answer(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="For UDP and TCP; port 0 takes any.")
    ] = DEFAULT_LISTEN,
    play: Play = "tone:880",
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what is heard: WAV, 8 kHz, mono; from the second call on, -2, -3 … "
            "is put before the suffix.",
        ),
    ] = None,
    for_: For = None,
    codec: Codec = "PCMU,PCMA",
    after: Annotated[float, typer.Option(metavar="SECONDS", help="Ring so long first.")] = 0.0,
    early: Annotated[
        bool, typer.Option("--early", help="Ring with 183 and early media in place of 180.")
    ] = False,
    status: Annotated[
        int | None, typer.Option(metavar="486|480|603…", help="Refuse instead.")
    ] = None,
    redirect: Annotated[
        str | None, typer.Option(metavar="URI", help="Send callers elsewhere (302) instead.")
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Register there, such as sip:pbx.example.com."),
    ] = None,
    ca: Ca = None,
    user: User = None,
    password: Password = None,
    digits: Digits = None,
    hold_at: HoldAt = None,
    resume_at: ResumeAt = None,
    calls: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after so many calls.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop after one call.")] = False,
    as_json: Json = False,
) -> None:
    """Answer calls, several at once, and say how each went.

    Ctrl-C hangs up and stops. Exit status 0 if every call went as asked, 1 if one did not, 2 for a
    bad option.
    """
    host, port = _listen(listen)
    talk = _talk(play, record, codec, early_media=early)
    script = _script(for_, digits, hold_at, resume_at)
    _check_seconds("--after", after)
    if status is not None and not 400 <= status < 700:
        raise UsageError(f"--status {status}: a status that refuses is from 400 to 699")
    if redirect is not None:
        _uri(redirect)
    registrar = None if register is None else _uri(register)
    login = _login(user or (registrar and registrar.user) or None, password)
    if status is not None and redirect is not None:
        raise UsageError("--status and --redirect exclude each other")
    tls = _trusting(ca)
    how = _Answering(talk, script, after, early, status, redirect, 1 if once else calls)

    async def run() -> bool:
        say = _say_to(as_json)
        phone = _phone(talk, as_json, login, host=host, port=port, takes_calls=True, tls=tls)
        stop = _stop_event()
        await phone.start()
        try:
            for one in phone.addresses:
                say(f"listening on {phone.uri(one)} ({one})")
            if registrar is not None:
                aor = _aor(login.name, registrar)
                await phone.register(_without_user(registrar), aor)
                say(f"registered as {aor}")
            return await _answer(phone, how, stop)
        finally:
            await phone.close()

    _finish(run())


# One call


async def _call(
    phone: Phone,
    uri: str,
    from_uri: str | None,
    transport: Transport | None,
    ring_timeout: float,
    follow: bool,
    script: Script,
    stop: asyncio.Event,
) -> bool:
    from callreel.phone.call import CallFailed

    dialling = asyncio.create_task(
        phone.call(
            uri,
            from_uri=from_uri,
            transport=transport,
            ring_timeout_s=ring_timeout,
            follow=follow,
        )
    )
    await _first(dialling, stop.wait())
    if not dialling.done():
        dialling.cancel()
    try:
        call = await dialling
    except (CallFailed, asyncio.CancelledError):
        return False  # why, the summary has said
    return await _conduct(phone, call, script, stop)


async def _conduct(phone: Phone, call: PhoneCall, script: Script, stop: asyncio.Event) -> bool:
    """What is done on an answered call, to its end. True if all went as asked."""
    acting = asyncio.create_task(_act(phone, call, script))
    try:
        async with asyncio.timeout(script.seconds):
            await _first(call.ended.wait(), stop.wait())
    except TimeoutError:
        pass
    acting.cancel()
    went_well = True
    try:
        await acting
    except asyncio.CancelledError:
        pass
    except PeerError as error:
        typer.echo(f"callreel: call {call.number}: {error}", err=True)
        went_well = False
    try:
        await phone.hang_up(call)
    except PeerError as error:
        typer.echo(f"callreel: call {call.number}: {error}", err=True)
        went_well = False
    return went_well and phone.summary(call).in_order


async def _act(phone: Phone, call: PhoneCall, script: Script) -> None:
    if script.digits is not None:
        phone.send_digits(call, script.digits)
    waited = 0.0
    for at, act in ((script.hold_at, phone.hold), (script.resume_at, phone.resume)):
        if at is not None:
            await asyncio.sleep(max(0.0, at - waited))
            waited = max(at, waited)
            await act(call)


# Many calls


@dataclass(frozen=True, slots=True)
class _Answering:
    talk: Talk
    script: Script
    after: float
    early: bool
    status: int | None
    redirect: str | None
    calls: int | None


async def _answer(phone: Phone, how: _Answering, stop: asyncio.Event) -> bool:
    handling: list[asyncio.Task[bool]] = []
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set() and (how.calls is None or len(handling) < how.calls):
        arriving = asyncio.create_task(phone.next_call())
        await asyncio.wait({arriving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not arriving.done():
            arriving.cancel()
            break
        number = len(handling) + 1
        handling.append(asyncio.create_task(_handle(phone, arriving.result(), number, how, stop)))
    went_well = [await task for task in handling]
    stopping.cancel()
    return all(went_well)


async def _handle(
    phone: Phone, call: PhoneCall, number: int, how: _Answering, stop: asyncio.Event
) -> bool:
    from dataclasses import replace

    try:
        if how.redirect is not None:
            phone.redirect(call, how.redirect)
            return True
        talk = replace(how.talk, record=_numbered(how.talk.record, number))
        if how.after or how.early or how.status is None:
            phone.ring(call, talk, early=how.early)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(how.after):
                await _first(call.ended.wait(), stop.wait())
        if how.status is not None:
            phone.refuse(call, how.status)
            return True
        if stop.is_set():
            phone.refuse(call, 480)
            return False
        phone.answer(call, talk)
    except PeerError:
        return False  # why, the summary has said
    return await _conduct(phone, call, how.script, stop)


def _numbered(record: Path | None, number: int) -> Path | None:
    if record is None or number == 1:
        return record
    return record.with_name(f"{record.stem}-{number}{record.suffix}")


# Options


def _talk(play: str, record: Path | None, codec: str, *, early_media: bool) -> Talk:
    from callreel.phone.call import Talk
    from callreel.phone.sources import CODECS, parse_source

    codecs = tuple(name.strip().upper() for name in codec.split(","))
    if any(name not in CODECS for name in codecs) or len(set(codecs)) != len(codecs):
        raise UsageError(f"codec {codec!r} is not one of {', '.join(CODECS)}, or both by a comma")
    return Talk(parse_source(play), record, codecs, early_media)


def _script(
    seconds: float | None, digits: str | None, hold_at: float | None, resume_at: float | None
) -> Script:
    from callreel.phone.digits import parse_digits

    for name, value in (("--for", seconds), ("--hold-at", hold_at), ("--resume-at", resume_at)):
        if value is not None:
            _check_seconds(name, value)
    if resume_at is not None and (hold_at is None or resume_at < hold_at):
        raise UsageError("--resume-at comes after --hold-at")
    return Script(seconds, None if digits is None else parse_digits(digits), hold_at, resume_at)


def _check_seconds(name: str, value: float) -> None:
    if not 0 <= value <= MOST_SECONDS:
        raise UsageError(f"{name} {value:g}: seconds are from 0 to {MOST_SECONDS:g}")


def _transport(text: str) -> Transport:
    try:
        chosen = Transport(text.upper())
    except ValueError:
        raise UsageError(f"transport {text!r} is not udp, tcp or tls") from None
    return chosen


def _trusting(ca: Path | None) -> ssl.SSLContext:
    """For TLS connections that we open."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--ca {ca}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _uri(text: str) -> URI:
    try:
        uri = URI.parse(text)
    except ValueError as error:
        raise UsageError(f"{text!r}: {error}") from None
    if uri.scheme != "sip":
        raise UsageError(f"{text!r} is no sip: URI")
    return uri


@dataclass(frozen=True, slots=True)
class _Login:
    name: str
    password: str | None


def _login(user: str | None, password: str | None) -> _Login:
    if password is not None and user is None:
        raise UsageError("--password needs a --user")
    if user is not None and not _USER.fullmatch(user):
        raise UsageError(f"--user {user!r}: a name is of letters, digits and - _ . + ~ *")
    return _Login(user or "phone", password)


def _aor(user: str, at: URI) -> str:
    """Our address of record at a host."""
    port = "" if at.port is None else f":{at.port}"
    return f"sip:{user}@{at.host}{port}"


def _without_user(uri: URI) -> str:
    """The URI of a registrar names no user (RFC 3261 §10.2)."""
    return f"sip:{str(uri).removeprefix('sip:').rpartition('@')[2]}"


def _listen(text: str) -> tuple[str, int]:
    try:
        uri = URI.parse(f"sip:{text}")
        host = str(ipaddress.ip_address(uri.host.strip("[]")))
    except ValueError:
        raise UsageError(f"--listen {text!r} is not HOST:PORT with a numeric host") from None
    return host, 5060 if uri.port is None else uri.port


def _host_towards(target: URI) -> str:
    """Where to listen so that the peer can answer, and nobody else need know."""
    from callreel.signalling.transport import routed_host

    try:
        address = ipaddress.ip_address(target.host.strip("[]"))
    except ValueError:
        return "0.0.0.0"
    return routed_host(str(address), target.port or 5060)


# Telling


def _phone(
    talk: Talk,
    as_json: bool,
    login: _Login,
    *,
    host: str,
    tls: ssl.SSLContext,
    port: int = 0,
    takes_calls: bool = False,
) -> Phone:
    from callreel.phone.call import EventKind
    from callreel.phone.softphone import Phone
    from callreel.server.system import RandomIds, SystemClock
    from callreel.wire.sip.digest_client import Credentials

    clock = SystemClock()
    began = clock.monotonic()
    say = _say_to(as_json)
    phone: Phone

    def on_event(call: PhoneCall, event: CallEvent) -> None:
        status = f" {event.status}" if event.status else ""
        text = f" {event.text}" if event.text else ""
        say(f"{event.at - began:7.2f}  call {call.number}  {event.kind}{status}{text}")
        if event.kind is EventKind.ENDED:
            summary = phone.summary(call)
            if as_json:
                print(json.dumps(summary.to_dict()), flush=True)
            for line in summary.lines():
                say(f"         {line}")

    phone = Phone(
        talk,
        clock=clock,
        ids=RandomIds(),
        host=host,
        port=port,
        user=login.name,
        credentials=None if login.password is None else Credentials(login.name, login.password),
        takes_calls=takes_calls,
        tls_context=tls,
        on_event=on_event,
        host_token=_host_token(),
    )
    return phone


def _say_to(as_json: bool) -> Any:
    def say(text: str) -> None:
        # What a program is to read goes to standard output alone.
        # Peers choose some of the words; a terminal obeys control characters.
        print(printable(text), file=sys.stderr if as_json else sys.stdout, flush=True)

    return say


def _host_token() -> str:
    """The same for all programs of this machine since it was started, so that they share a clock;
    says nothing else about it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return ""
    return hashlib.sha256(b"callreel phone " + boot.strip()).hexdigest()[:16]


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _first(*waits: asyncio.Task[Any] | Coroutine[Any, Any, Any]) -> None:
    """Wait for one of them; what was only waited for is let go, a task goes on."""
    own = [asyncio.create_task(one) for one in waits if asyncio.iscoroutine(one)]
    given = [one for one in waits if isinstance(one, asyncio.Task)]
    try:
        await asyncio.wait({*own, *given}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in own:
            task.cancel()


def _finish(run: Coroutine[Any, Any, bool]) -> None:
    try:
        in_order = asyncio.run(run)
    except PeerError as error:
        typer.echo(f"callreel: {error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(0 if in_order else 1)
