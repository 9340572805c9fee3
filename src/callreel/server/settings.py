"""Every setting: from the command line, ``CALLREEL_*``, the TOML file and defaults, in that order.

``docs/settings.md`` lists them; a test fails when one is missing there.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from callreel.base.errors import UsageError
from callreel.server.addresses import host_name
from callreel.server.problems import Problem, SettingsRefused
from callreel.server.sip_settings import (
    PeerSettings,
    RecordPolicy,
    RouteSettings,
    TrunkSettings,
    UserSettings,
    check_names,
)
from callreel.server.voice_settings import AccountSettings, NumberSettings, check_voice

_PLACE = re.compile(r"([a-z_]+(?:\.[0-9]+\.[a-z_]+)?): ")
_TOML_LINE = re.compile(r"\(at line ([0-9]+),")

HTTPS_PORT = 8443
"""Where TLS listens when a certificate is given and no address."""
DNS_PORT = 53


class Settings(BaseSettings):
    """What ``callreel serve`` can be told. A first run needs none of it."""

    model_config = SettingsConfigDict(
        env_prefix="CALLREEL_", extra="forbid", frozen=True, env_ignore_empty=True
    )

    data: Path = Path("callreel-data")
    """Folder for the database, journals, media and the server's key."""
    http: str = "127.0.0.1:8080"
    """Where the API and the console listen: HOST:PORT; port 0 takes a free one."""
    https: str | None = None
    """Where the API and the console listen with TLS, besides: HOST:PORT. Off unless this or
    ``tls_cert`` is set; then the host of ``http`` and port 8443."""
    tls_cert: Path | None = None
    """Certificate of the TLS listener and its issuers', PEM; a self-signed one unless set."""
    tls_key: Path | None = None
    """Its private key, PEM, without a passphrase."""
    tls_names: list[str] = []
    """More host names and addresses for the self-signed certificate."""
    sip: str = "127.0.0.1:5060"
    """Where SIP listens, UDP and TCP: HOST:PORT; port 0 takes a free one."""
    sips: str | None = None
    """Where SIP listens with TLS, besides: HOST:PORT. With ``tls_cert``, or the self-signed one."""
    sip_tls_client_ca: Path | None = None
    """PEM: who connects to ``sips`` has to show a certificate of one of these. Unless set, nobody
    has to show any."""
    sip_tls_ca: Path | None = None
    """PEM: the certificates that SIP servers we connect to are trusted by; the system's unless
    set."""
    dns_servers: list[str] = []
    """Where names of SIP servers are looked up: ADDRESS or ADDRESS:PORT; the system's unless
    set."""
    max_calls: int = Field(default=0, ge=0, le=1_000_000)
    """Calls at once; beyond it new ones get 503. 0: no limit."""
    srtp_over_clear: bool = True
    """Whether keys of SRTP may be exchanged over UDP and TCP. Off: over TLS alone."""
    rtp_ports: str = "10000-32767"
    """UDP ports for media, LOW-HIGH."""
    public_url: str | None = None
    """Absolute URL at which programs reach the API; from ``https`` or ``http`` unless set."""
    public_address: str | None = None
    """IP address that SIP peers should send media and requests to; where SIP listens unless set."""
    database_url: str | None = None
    """``postgresql://…`` or ``sqlite:///…``; SQLite in ``data`` unless set."""
    media_url: str | None = None
    """Where finished audio goes: a folder, ``s3://…``, ``gs://…`` or ``az://…``; in ``data`` unless
    set."""
    media_auth: Literal["required", "public"] = "required"
    """Whether fetching audio needs credentials. The vendors' default is ``public``."""
    auth_failures_burst: int = Field(default=20, ge=0, le=1_000_000)
    """How many wrong credentials an address may send at once; then one every 3 s. 0: no limit."""
    console_idle_minutes: int = Field(default=30, ge=1, le=1440)
    """After how long without doing anything somebody is signed out of the console."""
    trusted_proxies: list[str] = ["127.0.0.1", "::1"]
    """Reverse proxies, addresses or networks, whose ``X-Forwarded-For`` and ``-Proto`` count."""
    workers: int = Field(default=0, ge=0, le=256)
    """Media workers; 0 means one a core."""
    render_workers: int = Field(default=0, ge=0, le=256)
    """Render processes; 0 means one a core."""
    sweep_period_ms: int = Field(default=350, ge=20, le=5000)
    """How often media sockets are emptied; a crash loses at most this much, and a packet or two:
    less than half a second unless set."""
    memory_reserve_mib: int = Field(default=128, ge=0, le=1 << 20)
    """New calls are refused while less memory than this is free; 0: never."""
    media_timeout_seconds: float = Field(default=60.0, ge=0.0, le=86_400.0)
    """After how long without media a party of a call that is passed on is asked whether it is
    there; one that is not ends the call. 0: never."""
    disk_warning_mb: int | None = Field(default=None, ge=0, le=1_000_000_000)
    """Free space below which it is warned that the disk is filling up, MiB. Unless set, a tenth of
    the filesystem, and no more than 10 GiB."""
    disk_reserve_mb: int | None = Field(default=None, ge=0, le=1_000_000_000)
    """Free space below which no new recording is begun: what is left is for those that run. MiB.
    Unless set, 3 % of the filesystem, and no more than 2 GiB."""
    retention_days: int | None = Field(default=None, ge=1, le=36_500)
    """Recordings are deleted so many days after their end, unless their account or the policy that
    they were begun by says otherwise. For ever unless set."""
    max_requests: int = Field(default=256, ge=0, le=100_000)
    """HTTP requests at once; beyond it they get 503. 0: no limit."""
    max_owed_webhooks: int = Field(default=100_000, ge=0, le=100_000_000)
    """Webhooks owed and not delivered; beyond it no recording is begun that would owe more.
    0: no limit."""
    metrics_loopback: bool = True
    """Whether anybody on this machine may read ``/metrics``."""
    metrics_token: str | None = Field(default=None, min_length=16, repr=False)
    """Whoever sends it as a bearer token may read ``/metrics`` from anywhere."""
    accept_loopback: bool = True
    """Whether SIP from this machine needs no peer; its calls are the first account's."""
    loopback_record: RecordPolicy = RecordPolicy.ON_DEMAND
    """What such calls are recorded as without anybody asking."""
    refuse_silently: bool = False
    """Whether SIP from unknown sources gets no answer rather than 403."""
    webhook_private_addresses: bool = True
    """Whether webhooks may go to private and loopback addresses."""
    speech_engine: Literal["auto", "espeak", "piper", "none"] = "auto"
    """What ``<Say>`` speaks with. ``auto``: Piper for languages of which ``piper_voices`` has one,
    else the program espeak-ng."""
    piper_voices: list[Path] = []
    """Models (``.onnx``, each beside its ``.onnx.json``) for Piper."""
    prompts_max_mb: int = Field(default=1000, ge=10, le=1_000_000)
    """Megabytes of speech and fetched audio that are kept to be played again."""
    silence_dbfs: float = Field(default=-50.0, ge=-96.0, le=0.0)
    """Level below which ``trim-silence`` takes a stretch for silence."""
    shutdown_seconds: float = Field(default=30.0, ge=0.0, le=3600.0)
    """How long SIGTERM waits for rendering and webhooks; the next start takes up the rest."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""
    log_format: Literal["text", "json"] = "text"
    """``json``: an object a line, with the ids of calls and recordings in keys of their own."""
    bootstrap_account_sid: str | None = None
    """SID of the first account: a dashed UUID, or AC and 32 hex digits; random unless set."""
    bootstrap_auth_token: str | None = Field(default=None, min_length=8, repr=False)
    """Token of the first account; random unless set."""
    peers: list[PeerSettings] = []
    """Who may send calls here, besides loopback."""
    trunks: list[TrunkSettings] = []
    """Where calls can be sent on to."""
    users: list[UserSettings] = []
    """Phones that register here."""
    routes: list[RouteSettings] = []
    """Which calls go where."""
    accounts: list[AccountSettings] = []
    """What answers the calls of accounts."""
    numbers: list[NumberSettings] = []
    """What answers the calls to numbers of ours."""
    default_trunk: str | None = None
    """The trunk for numbers that programs and documents call and no route takes: its name, or
    ``""`` for none. Unless set, the only trunk there is."""
    dial_uris: bool = True
    """Whether programs and documents may call any SIP URI; off: only what routes take."""
    sip_realm: str = Field(default="callreel", pattern=r"^[A-Za-z0-9 ._@:-]{1,64}$")
    """The realm of our digest challenges. Phones are registered in it."""
    sip_digest: list[Literal["SHA-256", "MD5"]] = Field(
        default=["SHA-256", "MD5"], min_length=1, max_length=2
    )
    """The algorithms of our digest challenges. Some old phones give up when they see one that they
    do not know, whatever else is offered: they need ``["MD5"]``."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Init arguments carry the command line over the file; see :func:`load_settings`."""
        return init_settings, env_settings

    @field_validator("http", "https", "sip", "sips")
    @classmethod
    def _is_host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("tls_names")
    @classmethod
    def _are_host_names(cls, value: list[str]) -> list[str]:
        return [host_name(one) for one in value]

    @field_validator("public_address")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ipaddress.ip_address(value)
            except ValueError:
                raise ValueError(f"{value!r} is not an IP address, such as 192.0.2.7") from None
        return value

    @field_validator("dns_servers")
    @classmethod
    def _are_name_servers(cls, value: list[str]) -> list[str]:
        for one in value:
            split_name_server(one)
        return value

    @field_validator("rtp_ports")
    @classmethod
    def _is_port_range(cls, value: str) -> str:
        split_ports(value)
        return value

    @field_validator("public_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value and value.rstrip("/")

    @model_validator(mode="after")
    def _has_both_tls_files(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, lacking = ("cert", "key") if self.tls_cert else ("key", "cert")
            raise ValueError(
                f"tls_{given} is set and tls_{lacking} is not: give both, --tls-cert and --tls-key"
            )
        return self

    @model_validator(mode="after")
    def _has_clients_to_check(self) -> Self:
        if self.sip_tls_client_ca is not None and self.sips is None:
            raise ValueError("sip_tls_client_ca: nobody connects with TLS unless sips is set")
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _are_proxies(cls, value: list[str]) -> list[str]:
        for one in value:
            try:
                ipaddress.ip_network(one)
            except ValueError:
                raise ValueError(
                    f"{one!r} is not an IP address or network, such as 192.0.2.7 or 192.0.2.0/24"
                ) from None
        return value

    @model_validator(mode="after")
    def _names_name_something(self) -> Self:
        check_names(self.peers, self.trunks, self.users, self.routes)
        trunks = [one.name for one in self.trunks]
        if wrong := [*check_voice(self.accounts, self.numbers, trunks)]:
            raise ValueError("\n".join(wrong))
        if self.default_trunk and all(one.name != self.default_trunk for one in self.trunks):
            raise ValueError(f"default_trunk: there is no trunk {self.default_trunk!r}")
        return self

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the API."""
        return split_address(self.http)

    @property
    def https_address(self) -> tuple[str, int] | None:
        """Host and port of the API with TLS; None for none."""
        if self.https is not None:
            return split_address(self.https)
        return (self.http_address[0], HTTPS_PORT) if self.tls_cert else None

    @property
    def sip_address(self) -> tuple[str, int]:
        """Host and port of SIP."""
        return split_address(self.sip)

    @property
    def sips_address(self) -> tuple[str, int] | None:
        """Host and port of SIP with TLS; None for none."""
        return None if self.sips is None else split_address(self.sips)

    @property
    def name_servers(self) -> list[tuple[str, int]]:
        """Addresses and ports of ``dns_servers``."""
        return [split_name_server(one) for one in self.dns_servers]

    @property
    def port_range(self) -> tuple[int, int]:
        """Lowest and highest UDP port for media."""
        return split_ports(self.rtp_ports)

    @property
    def worker_count(self) -> int:
        """Media workers to run."""
        return self.workers or os.cpu_count() or 1

    @property
    def render_worker_count(self) -> int:
        """Render processes to run."""
        return self.render_workers or os.cpu_count() or 1


def split_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT``. Raises ``ValueError``."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or not host:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def split_name_server(text: str) -> tuple[str, int]:
    """``ADDRESS``, ``ADDRESS:PORT`` or ``[IPV6]:PORT``. Raises ``ValueError``.

    >>> split_name_server("192.0.2.53"), split_name_server("[2001:db8::1]:5353")
    (('192.0.2.53', 53), ('2001:db8::1', 5353))
    """
    try:
        return str(ipaddress.ip_address(text)), DNS_PORT
    except ValueError:
        pass
    try:
        host, port = split_address(text)
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address, such as 192.0.2.53 or 192.0.2.53:5353"
        ) from None


def split_ports(text: str) -> tuple[int, int]:
    """``LOW-HIGH``. Raises ``ValueError``."""
    low, dash, high = text.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and 1024 <= int(low) < int(high) <= 65535):
        raise ValueError(f"{text!r} is not LOW-HIGH with 1024 <= LOW < HIGH <= 65535")
    return int(low), int(high)


def load_settings(config: Path | None, options: dict[str, Any]) -> Settings:
    """Settings from the command line's ``options``, the environment and the TOML file ``config``.

    Raises ``SettingsRefused`` that names each setting that is wrong, and its line in the file.
    """
    text, from_file = "", {}
    if config is not None:
        try:
            text = config.read_text(encoding="utf-8")
            from_file = tomllib.loads(text)
        except OSError as error:
            raise UsageError(f"cannot read {config}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            problem = Problem(f"this is not TOML: {error}", line=_line_of_error(error, text))
            raise SettingsRefused([problem], config) from None
    # The environment stands above the file but below the command line, so what it sets is left
    # out of what the file hands in.
    environment = {name.upper() for name, value in os.environ.items() if value}
    kept = {
        name: value
        for name, value in from_file.items()
        if f"CALLREEL_{name.upper()}" not in environment
    }
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**(kept | given))
    except SettingsError as error:
        raise UsageError(
            f"bad settings: {error}; a list is given as JSON there, such as '[\"192.0.2.7\"]'"
        ) from None
    except ValidationError as error:
        problems = [one for each in error.errors(include_url=False) for one in _problems(each)]
        from_file = {name: value for name, value in kept.items() if name not in given}
        raise SettingsRefused([one.located(text, from_file) for one in problems], config) from None


def _line_of_error(error: tomllib.TOMLDecodeError | UnicodeDecodeError, text: str) -> int:
    if isinstance(error, UnicodeDecodeError):
        return error.object.count(b"\n", 0, error.start) + 1
    said = _TOML_LINE.search(str(error))  # else it says "at end of document"
    return int(said[1]) if said else max(1, len(text.splitlines()))


def _problems(error: ErrorDetails) -> list[Problem]:
    """What pydantic found, or what one of our own validators did: a line for each thing."""
    message = error["msg"].removeprefix("Value error, ")
    if error["loc"]:
        return [Problem(message, error["loc"])]
    problems = []
    for line in message.splitlines():  # what one table says of another
        found = _PLACE.match(line)
        if found is None:
            problems.append(Problem(line))
        else:
            place = tuple(int(one) if one.isdigit() else one for one in found[1].split("."))
            problems.append(Problem(line[found.end() :], place))
    return problems
