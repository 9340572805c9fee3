"""What a server says once it is up."""

from __future__ import annotations

import ipaddress
import shlex
from pathlib import Path

from callreel.calls.model import Account
from callreel.calls.spelling import account_sid, api_path
from callreel.server.settings import Settings


def banner(
    account: Account,
    http_url: str,
    sip_uri: str,
    settings: Settings,
    *,
    show_token: bool,
    command: str = "callreel",
    https_url: str | None = None,
    sips_uri: str | None = None,
    trust: Path | None = None,
    warning: str | None = None,
) -> str:
    """Addresses and credentials. A token that was given from outside is known there: not shown.

    ``command`` is how a shell here finds the command line. ``trust`` is the self-signed
    certificate of ``https_url``, where that has one.
    """
    sid = account_sid(account)
    given = settings.bootstrap_auth_token == account.auth_token
    if given:
        shown = "(as given by CALLREEL_BOOTSTRAP_AUTH_TOKEN)"
    else:
        made = "when it was rotated" if account.token_rotated_at else "at the first start"
        remedy = f"lost? {command} accounts rotate-token {sid}"
        shown = account.auth_token if show_token else f"(shown {made}; {remedy})"
    lines = [
        "",
        "callreel is up.",
        "",
        f"  AccountSid  {sid}",
        f"  Auth token  {shown}",
        f"  API         {http_url}{api_path(account)}",
        *([f"  API (TLS)   {https_url}{api_path(account)}"] if https_url else []),
        f"  Console     {http_url}/console/",
        f"  SIP         {sip_uri}  (UDP and TCP)",
        *([f"  SIP (TLS)   {sips_uri}"] if sips_uri else []),
        f"  Data        {settings.data.absolute()}",
        "",
    ]
    if trust is not None:
        lines += [f"  The certificate is self-signed. Clients trust it by {trust}", ""]
    if warning is not None:
        lines += [f"  Warning: {warning}", ""]
    if show_token and not given:
        lines += ["  The token is not shown again. Keep it.", ""]
    if settings.accept_loopback:
        lines += [f"  Try it: {command} phone siprec {sip_uri} --for 30", ""]
    return "\n".join(lines)


def own_command(python: Path, *, at: Path, found: str | None) -> str:
    """How a shell at ``at`` runs the ``callreel`` that is installed with this ``python``.

    By its name where one was ``found`` on the PATH, else by its path: from ``at``, if it is below.
    """
    if found is not None:
        return "callreel"
    script = python.with_name("callreel")
    runs, rest = (script, "") if script.exists() else (python, " -m callreel")
    return shlex.quote(str(runs.relative_to(at) if runs.is_relative_to(at) else runs)) + rest


def clear_text_warning(http_host: str, https_url: str | None) -> str | None:
    """What to say where ``http_host``, the IP address of the plain API, is open to a network."""
    if ipaddress.ip_address(http_host).is_loopback:
        return None
    remedy = (
        "bind it to 127.0.0.1 with --http"
        if https_url
        else "use TLS (--https), or bind it to 127.0.0.1 behind a proxy that does"
    )
    return (
        f"the API listens on {http_host} without TLS: credentials cross the network in clear; "
        + remedy
    )
