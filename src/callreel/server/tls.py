"""TLS for the API: which certificate is served, and how a renewed one is taken up."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from callreel.base.clock import Clock
from callreel.base.errors import UsageError
from callreel.server.addresses import host_name, reachable
from callreel.server.certificate import Files, Loaded, Names, load, self_signed
from callreel.server.settings import Settings

log = logging.getLogger(__name__)

CHECK_S = 60.0
"""How often the files are looked at."""


class Tls:
    """The TLS listener's certificate, which changes as its files do.

    Loading a renewed certificate into a context that is in use would leave the old one beside it
    where their key types differ. So ``context`` has none: it hands every new connection on to the
    context that was loaded last.

    ``to_trust`` is the file that clients have to be given, where it is self-signed by us. Raises
    ``UsageError`` where the certificate cannot be served.
    """

    def __init__(
        self, find: Callable[[], Files], clock: Clock, *, to_trust: Path | None = None
    ) -> None:
        self.to_trust = to_trust
        self._find = find
        self._clock = clock
        files = find()
        self._seen = files, files.stamp()  # before reading: a change in between is seen later
        self._loaded = self._load(files)
        self._complaint = ""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """For the listener."""
        # What is settled before a connection is handed on has to be said here too.
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sni_callback = self._hand_on

    def check(self) -> None:
        """Take up a renewed certificate. One that cannot be served is logged; the old one stays."""
        try:
            files = self._find()
            found = files, files.stamp()
            if found == self._seen:
                return
            self._loaded = self._load(files)
            self._seen = found
            log.info("the TLS certificate %s is in use from now on", files.chain)
            self._complaint = ""
        except UsageError as error:
            if str(error) != self._complaint:
                log.error("the TLS certificate in use stays: %s", error)
            self._complaint = str(error)

    async def watch(self) -> None:
        """Check once a minute, for ever."""
        while True:
            await asyncio.sleep(CHECK_S)
            await asyncio.to_thread(self.check)

    def _load(self, files: Files) -> Loaded:
        loaded = load(files)
        if loaded.not_after < self._clock.now():
            log.warning(
                "the TLS certificate in %s expired on %s: clients will refuse it; renew it",
                files.chain,
                f"{loaded.not_after:%Y-%m-%d}",
            )
        return loaded

    def _hand_on(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        """Called in every handshake, whether or not the client names a host (RFC 6066 §3)."""
        connection.context = self._loaded.context


def tls_of(settings: Settings, folder: Path, clock: Clock) -> Tls:
    """TLS as configured; a self-signed certificate is kept in ``folder``. Raises ``UsageError``."""
    if settings.tls_cert is not None and settings.tls_key is not None:
        given = Files(settings.tls_cert, settings.tls_key)
        return Tls(lambda: given, clock)
    names = names_of(settings)
    return Tls(
        lambda: self_signed(folder, names, now=clock.now()), clock, to_trust=folder / "cert.pem"
    )


def names_of(settings: Settings) -> Names:
    """What a self-signed certificate has to be valid for, by these settings.

    The address by which packets happen to leave this machine is needed only where links carry it.
    """
    assert settings.https_address is not None
    host = settings.https_address[0]
    outward = _known(reachable(host))
    needed = {*settings.tls_names}
    if settings.public_url is not None:
        with suppress(ValueError):
            needed |= _known(urlsplit(settings.public_url).hostname or "")
    if settings.public_url is None or reachable(host) == host:
        needed |= outward
    return Names(frozenset(needed), frozenset(outward | _known(socket.gethostname())))


def _known(host: str) -> set[str]:
    """A host as certificates name it; nothing where they cannot."""
    with suppress(ValueError):
        return {host_name(host)}
    return set()
