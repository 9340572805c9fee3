"""The vendors' numbers for what can be wrong with a document."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Twilio's error dictionary; SignalWire uses the same numbers where it has one."""

    BAD_URL = 11100
    """An address is no absolute http or https URL, and does not become one."""
    NOT_RETRIEVED = 11200
    """A program does not answer, or not with 2xx; a file cannot be had."""
    TOO_LARGE = 11750
    """The document has more than :data:`callreel.cxml.markup.MAX_DOCUMENT_BYTES`."""
    NOT_XML = 12100
    """The document cannot be read."""
    BAD_ROOT = 12102
    """The root element is not ``Response``."""
    BAD_SCHEMA = 12200
    """An element, an attribute or a value that does not belong where it is."""
    TOO_MANY_DOCUMENTS = 14106
    """Documents that lead from one to the next for ever. (At Twilio for messages: for calls there
    is no number.)"""
