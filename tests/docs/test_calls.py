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
    numbered = enumerate(explain(settings).where_calls_go, 1)
    said = "".join(f"  {number}. {line}\n" for number, line in numbered)
    assert f"```\nWhere calls go: the first that fits\n{said}```" in PAGE
