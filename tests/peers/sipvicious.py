"""SIPVicious, the scanner that every public SIP server meets: a program, never imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[2] / ".venv/sdks/sipvicious/bin"
"""What scripts/sdks.sh makes."""


def need_sipvicious() -> Path:
    """Where its programs are."""
    folder = Path(os.environ.get("CALLREEL_TEST_SIPVICIOUS", _FOLDER))
    if not (folder / "sipvicious_svwar").exists():
        pytest.skip("SIPVicious is not set up (scripts/sdks.sh does it)")
    return folder
