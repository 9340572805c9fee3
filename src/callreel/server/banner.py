"""What a server says once it is up."""

from __future__ import annotations

from callreel.calls.model import Account
from callreel.calls.spelling import account_sid, api_path
from callreel.server.settings import Settings


def banner(
    account: Account, token: str | None, http_url: str, sip_uri: str, settings: Settings
) -> str:
    """Addresses and credentials; ``token`` only when it is new, since it is shown once."""
    sid = account_sid(account)
    shown = token or "(shown at the first start)"
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
    if token is not None:
        lines += ["  The token is not shown again. Keep it.", ""]
    if settings.accept_loopback:
        lines += [f"  Try it: callreel phone siprec {sip_uri} --for 30", ""]
    return "\n".join(lines)
