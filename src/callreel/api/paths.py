"""One spelling for the many ways in which clients write a path (contract §2); pure."""

from __future__ import annotations

from dataclasses import dataclass

_LAML = "/api/laml"


@dataclass(frozen=True, slots=True)
class ApiPath:
    """A path as the routes know it, and how the client wrote it."""

    path: str
    """Begins with ``/2010-04-01`` for the vendors' API; without ``.json``."""
    prefix: str
    """``/api/laml`` or empty: replies link to the prefix that the request came by."""


def normalise(path: str) -> ApiPath:
    """Drop repeated ``/api/laml`` and a final ``.json``.

    A client whose base ends in ``/api/laml`` asks for it twice; ``Twilio.CURRENT.json`` loses only
    its last suffix.

    >>> normalise("/api/laml/api/laml/2010-04-01/Accounts/x/Calls.json")
    ApiPath(path='/2010-04-01/Accounts/x/Calls', prefix='/api/laml')
    """
    prefix = ""
    while path.startswith(_LAML + "/"):
        path = path[len(_LAML) :]
        prefix = _LAML
    if path.startswith("/2010-04-01/"):
        path = path.removesuffix(".json")
    return ApiPath(path, prefix)
