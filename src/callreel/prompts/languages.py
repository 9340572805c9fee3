"""From the vendors' language tags (BCP-47) to those of an engine. Pure."""

from __future__ import annotations

from collections.abc import Collection

_ALIASES = {
    "arb": "ar",
    "cmn-tw": "cmn",
    "en": "en-us",
    "en-ca": "en-us",
    "en-ph": "en-us",
    "en-gb-wls": "en-gb",
    "es-es": "es",
    "fr": "fr-fr",
    "fr-ch": "fr-ch",
    "fr-ca": "fr-fr",
    "in": "id",
    "iw": "he",
    "no": "nb",
    "no-no": "nb",
    "pt-pt": "pt",
    "zh": "cmn",
    "zh-cn": "cmn",
    "zh-hans": "cmn",
    "zh-hant": "cmn",
    "zh-hk": "yue",
    "zh-sg": "cmn",
    "zh-tw": "cmn",
}
_BY_DEFAULT = {"en": "en-gb", "es": "es-419", "fr": "fr-fr"}
"""What the other countries of a language get: Australia, India; Latin America; Canada."""


def nearest(tag: str, available: Collection[str]) -> str | None:
    """The tag among ``available`` (lower case) that comes nearest to one of BCP-47, or None.

    >>> nearest("es-MX", {"es", "es-419"}), nearest("de-AT", {"de"}), nearest("xx", {"de"})
    ('es-419', 'de', None)
    """
    wanted = tag.strip().replace("_", "-").casefold()
    parts = wanted.split("-")
    candidates = [wanted, _ALIASES.get(wanted, "")]
    if len(parts) > 1:
        candidates.append(_BY_DEFAULT.get(parts[0], ""))
    # Shorter and shorter: zh-hans-cn, zh-hans, zh.
    for length in range(len(parts) - 1, 0, -1):
        shorter = "-".join(parts[:length])
        candidates += [shorter, _ALIASES.get(shorter, "")]
    found = next((one for one in candidates if one and one in available), None)
    if found is not None:
        return found
    return min((one for one in available if one.split("-")[0] == parts[0]), default=None)


def listed(available: Collection[str]) -> str:
    """Languages for a message to a person."""
    return ", ".join(sorted(available)) or "none"
