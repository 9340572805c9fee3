"""The example of the page about calls: sound, and what check-config says of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from callreel.server.explanation import explain
from callreel.server.review import review
from callreel.server.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs/calls.md").read_text()


def test_the_example_means_what_the_page_says() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = Settings(**tomllib.loads(example))
    assert review(settings) == []
    told = explain(settings)
    for head, lines in (
        ("Where calls go that come in", told.where_calls_go),
        ("What programs may call", told.what_programs_may_call),
    ):
        said = "".join(f"  {number}. {line}\n" for number, line in enumerate(lines, 1))
        assert f"\n{head}: the first that fits\n{said}" in PAGE
