"""A document's XML as elements, each with its place. The XML is a stranger's: any document type
declaration or entity is refused, nothing external is looked up, size and depth are bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.parsers import expat

from callreel.base.errors import CallreelError
from callreel.cxml.codes import Code

MAX_DOCUMENT_BYTES = 64 * 1024
"""The vendors' limit."""
MAX_DEPTH = 16
"""Elements inside elements."""


class DocumentError(CallreelError):
    """There is no going by this document. The text is for people."""

    def __init__(
        self, code: Code, message: str, *, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        """The vendors' number for it."""
        self.line = line
        """In the document, from 1."""
        self.column = column
        """In the line, from 1."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element, its place, and what is in it."""

    name: str
    """As written; prefixes are not resolved."""
    attributes: Mapping[str, str]
    """As written."""
    content: tuple[str | Element, ...]
    """Text and elements, in order."""
    line: int
    """Of its start, from 1."""
    column: int
    """In the line, from 1."""

    @property
    def children(self) -> tuple[Element, ...]:
        """The elements directly in it."""
        return tuple(item for item in self.content if isinstance(item, Element))

    @property
    def text(self) -> str:
        """The text directly in it, without blanks around it."""
        return "".join(item for item in self.content if isinstance(item, str)).strip()


def parse(document: bytes | str) -> Element:
    """The root element of a document. Raises :class:`DocumentError`."""
    body = document.encode("utf-8", "replace") if isinstance(document, str) else document
    if len(body) > MAX_DOCUMENT_BYTES:
        raise DocumentError(
            Code.TOO_LARGE,
            f"the document has {len(body)} bytes; at most {MAX_DOCUMENT_BYTES} are read",
        )
    if not body.strip():
        raise DocumentError(Code.NOT_XML, "the document is empty: even <Response/> is missing")
    return _Builder("utf-8" if isinstance(document, str) else None).build(body)


class _Open:
    """An element whose end has not come yet."""

    def __init__(self, name: str, attributes: dict[str, str], line: int, column: int) -> None:
        self.name = name
        self.attributes = attributes
        self.content: list[str | Element] = []
        self.line = line
        self.column = column

    def close(self) -> Element:
        return Element(self.name, self.attributes, tuple(self.content), self.line, self.column)


class _Builder:
    """Expat, with everything that reaches outside the document refused."""

    def __init__(self, encoding: str | None) -> None:
        self._open: list[_Open] = []
        self._root: Element | None = None
        parser = expat.ParserCreate(encoding)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        parser.UnparsedEntityDeclHandler = self._refuse
        self._parser = parser

    def build(self, body: bytes) -> Element:
        try:
            self._parser.Parse(body, True)
        except expat.ExpatError as error:
            raise DocumentError(
                Code.NOT_XML,
                f"the document is no XML: {expat.ErrorString(error.code)}",
                line=error.lineno,
                column=error.offset + 1,
            ) from None
        except (ValueError, LookupError):  # an encoding that nobody knows
            raise DocumentError(
                Code.NOT_XML, "the document is in an encoding that is not known here"
            ) from None
        if self._root is None:
            raise DocumentError(Code.NOT_XML, "the document has no element")
        return self._root

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        line, column = self._place()
        if len(self._open) >= MAX_DEPTH:
            raise DocumentError(
                Code.NOT_XML, "elements are nested too deep", line=line, column=column
            )
        self._open.append(_Open(name, attributes, line, column))

    def _end(self, _name: str) -> None:
        element = self._open.pop().close()
        if self._open:
            self._open[-1].content.append(element)
        else:
            self._root = element

    def _data(self, data: str) -> None:
        self._open[-1].content.append(data)

    def _refuse(self, *_: object) -> int:
        line, column = self._place()
        raise DocumentError(
            Code.NOT_XML,
            "the document holds a document type declaration or an entity; these are not read",
            line=line,
            column=column,
        )

    def _place(self) -> tuple[int, int]:
        return self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
