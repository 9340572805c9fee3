"""The phone's page names every option there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from callreel.cli.phone import app

PAGE = (Path(__file__).parents[2] / "docs/phone.md").read_text()
GROUP: Any = typer.main.get_command(app)


def options_of(command: str) -> set[str]:
    params = GROUP.commands[command].params
    return {one for param in params for one in param.opts if one.startswith("--")} - {"--help"}


@pytest.mark.parametrize("command", ["call", "answer"])
def test_every_option_is_described(command: str) -> None:
    assert options_of(command)
    assert not {option for option in options_of(command) if f"`{option}" not in PAGE}


def test_nothing_else_is_described() -> None:
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= options_of("call") | options_of("answer")
