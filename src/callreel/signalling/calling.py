"""Who is calling, as one side may tell the other (RFC 3325, RFC 3323). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from callreel.wire.sip.message import Request
from callreel.wire.sip.values import URI, Address, printable

ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'
"""From of a caller that is not to be told (RFC 3323 §4.1.1.3)."""
_MAX_NAME = 64
_MAX_NUMBER = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a call that is passed on."""

    number: str
    """User part of its address, unescaped; may be empty."""
    name: str
    """Display name, or empty."""
    private: bool = False
    """Whether it asked not to be told to anybody who is not trusted."""
    privacy: str = ""
    """Its Privacy header field, to be passed on with the identity."""

    @classmethod
    def of(cls, request: Request, *, trusted: bool, number: str | None = None) -> Caller:
        """The caller of an INVITE.

        P-Asserted-Identity counts where the sender is ``trusted`` with it (RFC 3325 §5); else who
        it says it is in From. ``number`` is what a user of ours calls by, whatever it says.
        """
        privacy = request.headers.get("Privacy") or ""
        wants = {one.strip().lower() for one in privacy.split(";")}
        address = request.from_address
        asserted = request.headers.get("P-Asserted-Identity") if trusted else None
        if asserted is not None:
            try:
                address = Address.parse(asserted.split(",")[0].strip())
            except ValueError:
                asserted = None
        anonymous = address.uri.host.endswith("anonymous.invalid")
        return cls(
            number=number or printable(address.uri.user or "")[:_MAX_NUMBER],
            name=_shown(address.name or ""),
            private=anonymous or bool(wants & {"id", "user", "header"}),
            privacy=printable(privacy)[:_MAX_NAME] if trusted else "",
        )

    def from_header(self, domain: str, *, number: str | None, trusted: bool) -> str:
        """From for the other side, of our own ``domain``; ``number`` in place of the caller's."""
        if self.private and not trusted:
            return ANONYMOUS
        user = number or self.number or "anonymous"
        name = f'"{self.name}" ' if self.name else ""
        return f"{name}<{URI(scheme='sip', user=user, host=domain)}>"

    def identity_headers(self, domain: str, *, trusted: bool) -> list[tuple[str, str]]:
        """What a side that is trusted with it is told besides (RFC 3325 §9.1)."""
        if not trusted or not self.number:
            return []
        uri = URI(scheme="sip", user=self.number, host=domain)
        asserted = ("P-Asserted-Identity", f"<{uri}>")
        if not self.private:
            return [asserted]
        return [asserted, ("Privacy", self.privacy or "id")]


def _shown(name: str) -> str:
    plain = printable(name).replace("\\", "").replace('"', "")
    return plain[:_MAX_NAME].strip()
