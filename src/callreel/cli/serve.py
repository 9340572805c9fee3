"""``callreel serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callreel.server.serve import run_server


def serve(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the database, journals, recordings and the server's key. "
            "Default: callreel-data. Also CALLREEL_DATA."
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the API listens. Default: 127.0.0.1:8080. Also CALLREEL_HTTP.",
        ),
    ] = None,
    https: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the API listens with TLS, besides. Default: off, or port 8443 where a "
            "certificate is given. Also CALLREEL_HTTPS.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Certificate chain for TLS, PEM. Without it --https makes a self-signed one. "
            "Also CALLREEL_TLS_CERT.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Private key of --tls-cert, PEM. Also CALLREEL_TLS_KEY."),
    ] = None,
    sip: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where SIP listens, UDP and TCP. Default: 127.0.0.1:5060. Also CALLREEL_SIP.",
        ),
    ] = None,
    rtp_ports: Annotated[
        str | None,
        typer.Option(
            metavar="LOW-HIGH",
            help="UDP ports for media. Default: 10000-32767. Also CALLREEL_RTP_PORTS.",
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="URL at which programs reach the API; webhooks link to it. Also "
            "CALLREEL_PUBLIC_URL.",
        ),
    ] = None,
    public_address: Annotated[
        str | None,
        typer.Option(
            metavar="IP",
            help="Address that SIP peers should send media to. Also CALLREEL_PUBLIC_ADDRESS.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Media workers. Default: one a core. Also CALLREEL_WORKERS."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="CALLREEL_CONFIG",
            help="TOML file with any setting: peers, policies, limits (docs/settings.md).",
        ),
    ] = None,
) -> None:
    """Run the recorder.

    A first run needs no option: it makes its data folder, database, key and one account, and
    prints the account's SID and token once. SIP from this machine is accepted; other peers are
    configured in the TOML file. What is given here wins over CALLREEL_* variables, and those over
    the file.

    SIGTERM or Ctrl-C ends calls and recordings properly first; a second one ends at once.
    """
    options = {
        "data": data,
        "http": http,
        "https": https,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "sip": sip,
        "rtp_ports": rtp_ports,
        "public_url": public_url,
        "public_address": public_address,
        "workers": workers,
    }
    given = {name: value for name, value in options.items() if value is not None}
    raise typer.Exit(run_server(config, given))
