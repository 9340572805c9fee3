"""The pages for operators name what there is: commands, metrics, parts of the health."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from callreel.cli import app
from callreel.server.metrics import exposition
from tests.server.test_watching import STATUS

DOCS = Path(__file__).parents[2] / "docs"
WATCHING = (DOCS / "watching.md").read_text()
LOST = (DOCS / "what-can-be-lost.md").read_text()


def test_every_metric_is_documented_and_no_other() -> None:
    text = exposition(STATUS).decode()
    told = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[0] != "#"}
    written = set(re.findall(r"`(callreel_[a-z_]+)`", WATCHING))
    assert written == told


@pytest.mark.parametrize("page", [WATCHING, LOST])
def test_the_commands_that_are_named_are_there(page: str) -> None:
    group = get_command(app)
    known = set(getattr(group, "commands", {}))
    named = set(re.findall(r"callreel ([a-z][a-z-]+)", page)) - {"supervisor"}
    named &= known | {"status", "verify", "upgrade", "deliveries"}
    assert named
    assert named <= known
