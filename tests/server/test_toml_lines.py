from __future__ import annotations

import pytest

from callreel.server.toml_lines import line_of

TEXT = """\
http = "127.0.0.1:8080"
sip = "x"

[[peers]]
name = "a"

[[routes]]
prefix = "+"
to = ["trunk:a"]

[[routes]]  # the second
"to" = [
  "trunk:b",
]
[[ trunks ]]
uri = "sip:x"
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("sip",), 2),
        (("peers", 0, "name"), 5),
        (("peers", 0, "addresses"), 4),
        (("routes", 0, "to", 0), 9),
        (("routes", 1, "to", 0), 12),
        (("routes", 1), 11),
        (("routes", 7, "to"), None),
        (("trunks", 0, "uri"), 16),
        (("name",), None),
        ((), None),
    ],
)
def test_the_line_of_a_setting(path: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TEXT, path) == line
