"""TLS: which certificate is served, how a renewed one is taken up, and whom we trust."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
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

    ``to_trust`` is the file that clients have to be given, where it is self-signed by us; of
    ``client_ca`` they have to show a certificate. Raises ``UsageError`` where either cannot be
    used.
    """

    def __init__(
        self,
        find: Callable[[], Files],
        clock: Clock,
        *,
        to_trust: Path | None = None,
        client_ca: Path | None = None,
        protocols: Sequence[str] = ("http/1.1",),
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
        if protocols:
            self.context.set_alpn_protocols(list(protocols))
        if client_ca is not None:
            trust(self.context, client_ca)
            self.context.verify_mode = ssl.CERT_REQUIRED
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
    """TLS of the API; a self-signed certificate is kept in ``folder``. Raises ``UsageError``."""
    find, to_trust = _certificate(settings, folder, clock)
    return Tls(find, clock, to_trust=to_trust)


def sip_tls_of(settings: Settings, folder: Path, clock: Clock) -> Tls:
    """TLS of SIP: the same certificate; mutual if ``sip_tls_client_ca`` is set. Raises
    ``UsageError``.
    """
    find, to_trust = _certificate(settings, folder, clock)
    return Tls(find, clock, to_trust=to_trust, client_ca=settings.sip_tls_client_ca, protocols=())


def outgoing_sip_tls(settings: Settings) -> ssl.SSLContext:
    """For connections that we open: whom we trust, and what we show where we are asked (RFC 5922).

    Raises ``UsageError``.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.sip_tls_ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        trust(context, settings.sip_tls_ca)
    if settings.tls_cert is not None and settings.tls_key is not None:
        load(Files(settings.tls_cert, settings.tls_key))  # says what is wrong with them, if it is
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


def trust(context: ssl.SSLContext, authorities: Path) -> None:
    """Trust these certificates, PEM. Raises ``UsageError``."""
    try:
        context.load_verify_locations(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{authorities} holds no certificates to trust: {error}") from None


def _certificate(
    settings: Settings, folder: Path, clock: Clock
) -> tuple[Callable[[], Files], Path | None]:
    """How the certificate is found, and what clients have to be given to trust it."""
    if settings.tls_cert is not None and settings.tls_key is not None:
        given = Files(settings.tls_cert, settings.tls_key)
        return lambda: given, None
    names = names_of(settings)
    return lambda: self_signed(folder, names, now=clock.now()), folder / "cert.pem"


def names_of(settings: Settings) -> Names:
    """What a self-signed certificate has to be valid for, by these settings.

    The address by which packets happen to leave this machine is needed only where links carry it.
    """
    bound = [one for one in (settings.https_address, settings.sips_address) if one is not None]
    needed, besides = {*settings.tls_names}, _known(socket.gethostname())
    if settings.public_url is not None:
        with suppress(ValueError):
            needed |= _known(urlsplit(settings.public_url).hostname or "")
    if settings.public_address is not None:
        needed |= _known(settings.public_address)
    for host, _ in bound:
        outward = _known(reachable(host))
        besides |= outward
        if settings.public_url is None or reachable(host) == host:
            needed |= outward
    return Names(frozenset(needed), frozenset(besides))


def _known(host: str) -> set[str]:
    """A host as certificates name it; nothing where they cannot."""
    with suppress(ValueError):
        return {host_name(host)}
    return set()
