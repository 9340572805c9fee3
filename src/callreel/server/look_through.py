"""Once after a start, at leisure: files without a row and rows without a file."""

from __future__ import annotations

import asyncio
import logging

from callreel.service.verification import Finding, Verification

log = logging.getLogger(__name__)

_LOOK_AFTER_S = 10.0
_LOOK_PAUSE_S = 0.1


async def look_through(verification: Verification) -> None:
    """Look for them, and say what was found.

    Not before the first rush of a start is over, and at its leisure.
    """
    await asyncio.sleep(_LOOK_AFTER_S)
    try:
        async for one in verification.run(hashes=False, pause_s=_LOOK_PAUSE_S):
            if isinstance(one, Finding):
                level = logging.INFO if one.mended else logging.WARNING
                mended = ": deleted" if one.mended else "; see callreel verify"
                log.log(level, "%s: %s%s", one.about, one.trouble.value, mended)
    except Exception as error:
        log.error("what is kept cannot be looked through now: %s", error)
