"""What a server says once it is up."""

from __future__ import annotations

from callreel.calls.model import Account
from callreel.calls.spelling import account_sid, api_path
from callreel.server.settings import Settings


def banner(
    account: Account, http_url: str, sip_uri: str, settings: Settings, *, show_token: bool
) -> str:
    """Addresses and credentials. A token that was given from outside is known there: not shown."""
    sid = account_sid(account)
    given = settings.bootstrap_auth_token is not None
    if given:
        shown = "(as given by CALLREEL_BOOTSTRAP_AUTH_TOKEN)"
    else:
        shown = account.auth_token if show_token else "(shown at the first start)"
    lines = [
        "",
        "callreel is up.",
        "",
        f"  AccountSid  {sid}",
        f"  Auth token  {shown}",
        f"  API         {http_url}{api_path(account)}",
        f"  Console     {http_url}/console/",
        f"  SIPREC      {sip_uri}  (UDP and TCP)",
        f"  Data        {settings.data.absolute()}",
        "",
    ]
    if show_token and not given:
        lines += ["  The token is not shown again. Keep it.", ""]
    if settings.accept_loopback:
        lines += [f"  Try it: callreel phone siprec {sip_uri} --for 30", ""]
    return "\n".join(lines)
