"""Vendors' names of voices: which language each speaks, and whether it is a man's. Pure.

Nobody but the vendors has their voices. What can be kept of a name is its language and its pitch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_LANGUAGE = "en-US"

_POLLY = {
    "arb": "-Zeina",
    "ar-AE": "-Hala +Zayd",
    "ca-ES": "-Arlet",
    "cs-CZ": "-Jitka",
    "cmn-CN": "-Zhiyu",
    "cy-GB": "-Gwyneth",
    "da-DK": "-Naja +Mads -Sofie",
    "de-AT": "-Hannah",
    "de-CH": "-Sabrina",
    "de-DE": "-Marlene -Vicki +Hans +Daniel",
    "en-AU": "-Nicole -Olivia +Russell",
    "en-GB": "-Amy -Emma +Brian +Arthur",
    "en-GB-WLS": "+Geraint",
    "en-IE": "-Niamh",
    "en-IN": "-Aditi -Raveena -Kajal",
    "en-NZ": "-Aria",
    "en-SG": "-Jasmine",
    "en-US": "-Joanna -Salli -Kendra -Kimberly -Ivy -Danielle -Ruth "
    "+Joey +Justin +Kevin +Matthew +Gregory +Stephen",
    "en-ZA": "-Ayanda",
    "es-ES": "-Conchita -Lucia +Enrique +Sergio -Alba +Raul",
    "es-MX": "-Mia +Andres",
    "es-US": "-Lupe -Penelope +Miguel +Pedro",
    "fi-FI": "-Suvi",
    "fr-BE": "-Isabelle",
    "fr-CA": "-Chantal -Gabrielle +Liam",
    "fr-FR": "-Celine -Léa -Lea +Mathieu +Remi",
    "is-IS": "-Dora +Karl",
    "it-IT": "-Carla -Bianca +Giorgio +Adriano",
    "ja-JP": "-Mizuki -Kazuha -Tomoko +Takumi",
    "ko-KR": "-Seoyeon -Jihye",
    "nb-NO": "-Liv -Ida",
    "nl-BE": "-Lisa",
    "nl-NL": "-Lotte -Laura +Ruben",
    "pl-PL": "-Ewa -Maja -Ola +Jacek +Jan",
    "pt-BR": "-Vitoria -Camila +Ricardo +Thiago",
    "pt-PT": "-Ines +Cristiano",
    "ro-RO": "-Carmen",
    "ru-RU": "-Tatyana +Maxim",
    "sv-SE": "-Astrid -Elin",
    "tr-TR": "-Filiz -Burcu",
    "yue-CN": "-Hiujin",
}
"""By language; ``+`` is a man's voice, ``-`` a woman's."""

_BY_NAME = {
    entry[1:].casefold(): (language, entry[0] == "+")
    for language, entries in _POLLY.items()
    for entry in entries.split()
}
_PLAIN = {"man": True, "woman": False, "alice": False}
_SUFFIX = re.compile(r"-(neural|generative|longform|long-form|standard)$", re.IGNORECASE)
_GOOGLE = re.compile(
    r"(?:google|gcloud)\.([a-z]{2,3}-[a-z]{2,4})(?:-[a-z0-9]+)*?-([a-z])$", re.IGNORECASE
)
# Google names voices by letters; which are men's differs from language to language. These are
# English's.
_GOOGLE_MEN = frozenset("abdij")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a voice."""

    language: str
    """BCP-47."""
    is_man: bool
    """Pitch."""


def wanted(language: str, voice: str) -> Wanted:
    """What a ``<Say>`` asks for. A voice that nobody knows is a woman's, as the vendors' own.

    A language that is given counts; else the voice's own, else American English.

    >>> wanted("", "Polly.Hans")
    Wanted(language='de-DE', is_man=True)
    """
    name = voice.strip()
    google = _GOOGLE.match(name)
    if name.casefold() in _PLAIN:
        own, is_man = "", _PLAIN[name.casefold()]
    elif google:
        own, is_man = google[1], google[2].casefold() in _GOOGLE_MEN
    else:
        bare = _SUFFIX.sub("", name.rpartition(".")[2]).casefold()
        own, is_man = _BY_NAME.get(bare, ("", False))
    return Wanted(language.strip() or own or DEFAULT_LANGUAGE, is_man)
