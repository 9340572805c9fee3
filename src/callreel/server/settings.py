"""Every setting: from the command line, ``CALLREEL_*``, the TOML file and defaults, in that order.

``docs/settings.md`` lists them; a test fails when one is missing there.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from callreel.base.errors import UsageError
from callreel.calls.model import RecordingChannels, RecordingRequest
from callreel.server.addresses import host_name

HTTPS_PORT = 8443
"""Where TLS listens when a certificate is given and no address."""


class RecordPolicy(Enum):
    """What a peer's calls are recorded as without anybody asking."""

    ON_DEMAND = "on-demand"
    MONO = "mono"
    DUAL = "dual"

    @property
    def request(self) -> RecordingRequest | None:
        """The recording that each call begins with; None for none."""
        if self is RecordPolicy.ON_DEMAND:
            return None
        return RecordingRequest(channels=RecordingChannels(self.value))


class PeerSettings(BaseModel):
    """A session border controller or PBX that may send calls here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    """Shown in logs and with its calls."""
    addresses: list[str] = Field(min_length=1)
    """Where its SIP comes from: addresses or networks, ``192.0.2.7`` or ``192.0.2.0/24``."""
    account_sid: str | None = None
    """Whose its calls are; the first account unless set."""
    record: RecordPolicy = RecordPolicy.ON_DEMAND
    """``on-demand``: nothing is kept until the API asks. ``mono``, ``dual``: every call is."""
    our_side: str | None = None
    """An AoR or domain of ours in the metadata: its party is ``outbound``, the other ``inbound``.
    Unless set, the first stream is ``inbound``."""

    @field_validator("addresses")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        for one in value:
            try:
                ipaddress.ip_network(one, strict=False)
            except ValueError:
                raise ValueError(
                    f"{one!r} is not an IP address or network, such as 192.0.2.7 or 192.0.2.0/24"
                ) from None
        return value


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
    trusted_proxies: list[str] = ["127.0.0.1", "::1"]
    """Reverse proxies, addresses or networks, whose ``X-Forwarded-For`` and ``-Proto`` count."""
    workers: int = Field(default=0, ge=0, le=256)
    """Media workers; 0 means one a core."""
    render_workers: int = Field(default=0, ge=0, le=256)
    """Render processes; 0 means one a core."""
    sweep_period_ms: int = Field(default=500, ge=20, le=5000)
    """How often media sockets are emptied; a crash of a worker loses at most this much."""
    accept_loopback: bool = True
    """Whether SIP from this machine needs no peer; its calls are the first account's."""
    loopback_record: RecordPolicy = RecordPolicy.ON_DEMAND
    """What such calls are recorded as without anybody asking."""
    refuse_silently: bool = False
    """Whether SIP from unknown sources gets no answer rather than 403."""
    webhook_private_addresses: bool = True
    """Whether webhooks may go to private and loopback addresses."""
    silence_dbfs: float = Field(default=-50.0, ge=-96.0, le=0.0)
    """Level below which ``trim-silence`` takes a stretch for silence."""
    shutdown_seconds: float = Field(default=30.0, ge=0.0, le=3600.0)
    """How long SIGTERM waits for rendering and webhooks; the next start takes up the rest."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""
    bootstrap_account_sid: str | None = None
    """SID of the first account: a dashed UUID, or AC and 32 hex digits; random unless set."""
    bootstrap_auth_token: str | None = Field(default=None, min_length=8, repr=False)
    """Token of the first account; random unless set."""
    peers: list[PeerSettings] = []
    """Who may send calls here, besides loopback."""

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

    @field_validator("http", "https", "sip")
    @classmethod
    def _is_host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("tls_names")
    @classmethod
    def _are_host_names(cls, value: list[str]) -> list[str]:
        return [host_name(one) for one in value]

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


def split_ports(text: str) -> tuple[int, int]:
    """``LOW-HIGH``. Raises ``ValueError``."""
    low, dash, high = text.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and 1024 <= int(low) < int(high) <= 65535):
        raise ValueError(f"{text!r} is not LOW-HIGH with 1024 <= LOW < HIGH <= 65535")
    return int(low), int(high)


def load_settings(config: Path | None, options: dict[str, Any]) -> Settings:
    """Settings from the command line's ``options``, the environment and the TOML file ``config``.

    Raises ``UsageError`` that names the setting, and the file where one is wrong there.
    """
    from_file: dict[str, Any] = {}
    if config is not None:
        try:
            from_file = tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"cannot read {config}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{config} is not TOML: {error}") from None
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
        lines = [
            f"{'.'.join(str(part) for part in one['loc']) or 'settings'}: "
            f"{one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_url=False, include_input=False)
        ]
        where = f" (from the command line, CALLREEL_* or {config})" if config else ""
        raise UsageError("bad settings" + where + ":\n  " + "\n  ".join(lines)) from None
