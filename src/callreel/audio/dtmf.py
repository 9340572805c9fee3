"""Keys as tones in the band (ITU-T Q.23)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from callreel.audio.tone import tone

Samples = NDArray[np.int16]

KEYS = "123A456B789C*0#D"
"""As they stand on a telephone, row by row."""
LOW_HZ = (697, 770, 852, 941)
"""Of the rows."""
HIGH_HZ = (1209, 1336, 1477, 1633)
"""Of the columns."""
LEVEL_DBFS = -13.0
"""Of each of the two."""


def dtmf(key: str, samples: int, *, rate_hz: int = 8000) -> Samples:
    """The two tones of a key; int16[samples]. Raises ``ValueError`` if it is none."""
    row, column = divmod(KEYS.index(key), 4)
    low, high = (
        tone(hz, samples, rate_hz=rate_hz, level_dbfs=LEVEL_DBFS)
        for hz in (LOW_HZ[row], HIGH_HZ[column])
    )
    return low + high
