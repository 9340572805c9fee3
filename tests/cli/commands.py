"""Commands run in this process, as the console script runs them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callreel.cli import main


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> Any:
        """What it printed as JSON."""
        assert self.status == 0, self.err
        return json.loads(self.out)


def callreel(*arguments: str, data: Path | None = None) -> Ran:
    """Run ``callreel …``, on this data folder."""
    out, err = io.StringIO(), io.StringIO()
    before, umask = sys.argv, os.umask(0o077)
    where = () if data is None else ("--data", str(data))
    sys.argv = ["callreel", *arguments, *where]
    status = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = before
        os.umask(umask)
    return Ran(status, out.getvalue(), err.getvalue())
