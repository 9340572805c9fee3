"""The page on documents names what the reader reads, and every number that is told."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from callreel.cxml import attributes, document
from callreel.cxml.attributes import MAX_SECONDS
from callreel.cxml.codes import Code
from callreel.cxml.interpreter import MAX_DOCUMENTS, MAX_IDLE_DOCUMENTS
from callreel.cxml.markup import MAX_DEPTH, MAX_DOCUMENT_BYTES
from callreel.cxml.verbs import FOREVER, MAX_TARGETS

PAGE = (Path(__file__).parents[2] / "docs/documents.md").read_text()
READ = sorted(
    set(
        re.findall(
            r"\.(?:text|whole|flag|choice|method|digits|_events|_callback_url|has)\(\s*\"(\w+)\"",
            inspect.getsource(document) + inspect.getsource(attributes),
        )
    )
)


def test_the_reader_is_read() -> None:
    assert len(READ) > 30


@pytest.mark.parametrize("name", READ)
def test_every_attribute_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("code", Code)
def test_every_number_is_on_the_page(code: Code) -> None:
    assert f"| {int(code)} |" in PAGE


def test_the_bounds_are_as_the_page_says() -> None:
    assert f"more than {MAX_DOCUMENT_BYTES // 1024} KiB" in PAGE
    assert f"more than {MAX_DEPTH} deep" in PAGE
    assert f"{MAX_IDLE_DOCUMENTS} documents in a row" in PAGE
    assert f"{MAX_DOCUMENTS} in one call" in PAGE
    assert f"0 to {FOREVER}; 0 is {FOREVER}" in PAGE
    assert (MAX_TARGETS, MAX_SECONDS) == (10, 86400), "the page says: ten, and a day"
