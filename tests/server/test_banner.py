"""What a server says once it is up."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from callreel.calls.model import Account, Dialect
from callreel.server.banner import banner, own_command
from callreel.server.settings import Settings

ACCOUNT = Account("ab" * 16, Dialect.TWILIO, "a-token", "a-token", datetime.now(UTC))


def said(*, show_token: bool) -> str:
    urls = ("http://127.0.0.1:8080", "sip:127.0.0.1:5060")
    return banner(ACCOUNT, *urls, Settings(), show_token=show_token, command="bin/callreel")


def test_a_token_that_was_lost_can_be_had_anew() -> None:
    (line,) = [line for line in said(show_token=False).splitlines() if "Auth token" in line]
    assert line.endswith(
        f"(shown at the first start; lost? bin/callreel accounts rotate-token AC{ACCOUNT.id})"
    )
    assert "a-token" not in line
    assert "rotate-token" not in said(show_token=True)


def test_what_it_says_to_try_can_be_pasted(tmp_path: Path) -> None:
    assert "Try it: bin/callreel phone siprec sip:127.0.0.1:5060 " in said(show_token=True)
    python = tmp_path / "a folder/bin/python"
    python.parent.mkdir(parents=True)
    assert own_command(python, at=tmp_path, found="/usr/bin/callreel") == "callreel"
    module = own_command(python, at=tmp_path, found=None)
    assert module == "'a folder/bin/python' -m callreel"
    python.with_name("callreel").touch()
    assert own_command(python, at=tmp_path, found=None) == "'a folder/bin/callreel'"
    elsewhere = own_command(python, at=python.parents[1] / "lib", found=None)
    assert elsewhere == f"'{python.parent}/callreel'"
