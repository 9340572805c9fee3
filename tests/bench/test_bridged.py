"""The bench of bridged calls, in short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bench import bridged


def test_ten_calls_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bridged.main(["--calls", "10", "--seconds", "3", "--keep", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "recordings completed          10 of 10" in said
    assert "reports clean                 10 of 10" in said
    for packets_in, packets_out, missing in re.findall(
        r"(\d+) packets in, (\d+) out, (\d+) missing", said
    ):
        # Both parties of the bench wait for its end, which takes more or less long.
        assert 10 * 3 * 50 <= int(packets_in) == int(packets_out) < 10 * 6 * 50
        assert missing == "0"
    assert "Traceback" not in (tmp_path / "server.log").read_text()
