"""What is doubtful about settings, and what they mean."""

from __future__ import annotations

import tomllib

from callreel.server.explanation import explain
from callreel.server.problems import Severity
from callreel.server.review import review
from callreel.server.settings import Settings

PBX = '[[peers]]\nname = "pbx"\naddresses = ["192.0.2.10"]\n'
CARRIER = (
    '[[trunks]]\nname = "carrier"\nuri = "sip:carrier.example"\naddresses = ["198.51.100.0/24"]\n'
)
ANNA = '[[users]]\nname = "anna"\npassword = "12345678"\nnumber = "+15550111"\n'
OUT = '[[routes]]\nprefix = "+"\nfrom = ["pbx", "users", "loopback"]\nto = ["trunk:carrier"]\n'
IN = '[[routes]]\nuser = "+15550111"\nto = ["user:anna"]\n'
SOUND = PBX + CARRIER + ANNA + OUT + IN


def settings(text: str) -> Settings:
    return Settings(**tomllib.loads(text))


def said(text: str) -> list[tuple[str, str]]:
    """Severity, setting and message of all there is to say."""
    found = review(settings(text))
    assert all(one.severity is not Severity.ERROR for one in found)
    return [(f"{one.severity.value} {one.setting}", one.message) for one in found]


def only(text: str, where: str, words: str) -> None:
    ((found, message),) = said(text)
    assert found == where
    assert words in message


def test_nothing_is_said_of_what_is_sound() -> None:
    assert said("") == []
    assert said(SOUND) == []


def test_two_peers_with_the_same_network() -> None:
    other = '[[peers]]\nname = "sbc"\naddresses = ["198.51.100.9", "198.51.100.0/24"]\n'
    other += '[[routes]]\nprefix = "8"\nfrom = ["sbc"]\nto = ["trunk:carrier"]\n'
    only(SOUND + other, "warning trunks.0.addresses", "198.51.100.0/24 is an address of sbc too")
    only(SOUND.replace("192.0.2.10", "0.0.0.0/0"), "warning peers.0.addresses", "whoever can reach")


def test_routes_that_can_never_be_chosen() -> None:
    again = '[[routes]]\nprefix = "+"\nto = ["trunk:carrier"]\nfrom = ["pbx", "user:anna"]\n'
    only(SOUND + again, "warning routes.2", "never be chosen")
    # One that is for others as well, or for a longer number, can.
    for more in (again.replace('"pbx"', '"carrier"'), again.replace('"+"', '"+1"')):
        assert said(SOUND + more) == []
    # Two may shadow a third together.
    parts = SOUND.replace('"pbx", "users", "loopback"', '"pbx"')
    parts += again.replace('"pbx", "user:anna"', '"users"')
    parts += again.replace('"pbx", "user:anna"', '"users", "pbx"')
    only(parts, "warning routes.3", "never be chosen")
    only(
        SOUND + IN.replace("+15550111", "+1 (555) 0111"),
        "warning routes.2.user",
        "'+15550111' does",
    )


def test_routes_for_callers_that_cannot_come() -> None:
    silent = CARRIER.replace('addresses = ["198.51.100.0/24"]\n', "")
    text = PBX + silent + ANNA + OUT + IN
    text += '[[routes]]\nprefix = "9"\nfrom = ["carrier"]\nto = ["user:anna"]\n'
    only(text, "warning routes.2", "from where none can come")
    only(
        "accept_loopback = false\n"
        + text[: text.index('[[routes]]\nprefix = "9"')].replace(
            '"pbx", "users", "loopback"', '"loopback"'
        )
        + OUT,
        "warning routes.0",
        "none can come",
    )


def test_trunks_of_no_use() -> None:
    silent = '[[trunks]]\nname = "spare"\nuri = "sip:spare.example"\n'
    only(SOUND + silent, "warning trunks.1", "of no use")
    listed = silent + 'addresses = ["203.0.113.1"]\n'
    assert ("note trunks.1", "no route goes to it: it only sends calls here") in said(
        SOUND + listed
    )
    assert said('default_trunk = "spare"\n' + SOUND + silent) == []
    for_programs = '[[routes]]\nprefix = "7"\nto = ["trunk:spare"]\nfrom = ["api"]\n'
    assert said(SOUND + silent + for_programs) == []
    by_number = '[[routes]]\nprefix = "*"\nto = ["trunk:{number}"]\n'
    assert said(SOUND + silent + by_number) == []
    deaf = SOUND.replace(
        'addresses = ["198.51.100.0/24"]', 'register = true\nusername = "u"\npassword = "p"'
    )
    only(deaf, "warning trunks.0", "registered with, but has no addresses")


def test_calls_that_go_back_to_where_they_come_from() -> None:
    only(
        SOUND.replace('from = ["pbx", "users", "loopback"]\n', ""),
        "warning routes.0.to",
        "calls from carrier go back to it",
    )


def test_users_that_cannot_call_or_be_called() -> None:
    inward = SOUND.replace('"pbx", "users", "loopback"', '"pbx", "loopback"')
    inward = inward.replace('to = ["user:anna"]', 'to = ["user:anna"]\nfrom = ["carrier"]')
    only(inward, "note users.0", "no route is for its calls")
    everything = SOUND.replace('prefix = "+"\nfrom = ["pbx", "users", "loopback"]', 'prefix = "+"')
    found = said(everything.replace(IN, ""))
    assert ("warning users.0.number" in dict(found)) is True
    assert "user = '+15550111'" in dict(found)["warning users.0.number"]
    only(SOUND.replace('"12345678"', '"+15550111"'), "warning users.0.password", "the number")


def test_targets_that_are_doubtful() -> None:
    twice = SOUND.replace('["trunk:carrier"]', '["trunk:carrier", "trunk:carrier"]')
    only(twice, "warning routes.0.to", "more than once")
    nobody = PBX + CARRIER + OUT.replace(', "users"', "")
    nobody += '[[routes]]\nprefix = "1"\nto = ["user:{number}"]\n'
    only(nobody, "warning routes.1.to", "there are no users")


def test_in_words() -> None:
    assert explain(Settings()).where_calls_go == (
        "nowhere: only recording sessions (SIPREC) are taken",
    )
    assert explain(Settings()).what_programs_may_call == ("SIP URIs: as they stand",)
    assert explain(settings("dial_uris = false")).what_programs_may_call == ("nothing",)
    text = SOUND.replace('name = "pbx"', 'name = "pbx"\nrecord = "dual"')
    text += '[[routes]]\nprefix = ""\nto = ["trunk:carrier", "sip:{number}@192.0.2.9"]\n'
    text += 'strip = 1\nprepend = "00"\nring_seconds = 9\nrecord = "mono"\nfrom = ["user:anna"]\n'
    told = explain(settings("max_calls = 7\n" + text))
    assert told.who_may_call == (
        "pbx (peer), from 192.0.2.10",
        "carrier (trunk), from 198.51.100.0/24",
        "anna (user), by password, as +15550111",
        "this machine (loopback), from 127.0.0.0/8 and ::1",
        "anybody else is challenged for a user's password",
        "at most 7 calls at once; more get 503",
    )
    assert told.where_calls_go == (
        "'+15550111': to user anna; rings 30 s",
        "+… from pbx, any user and this machine: to trunk carrier; rings 30 s",
        "any number from user anna, less its first 1, with 00 before it: to trunk carrier, then "
        "sip:{number}@192.0.2.9; rings 9 s; recorded, mono",
        "a user's name or number: to that user's phones",
        "anything else is refused with 404; recording sessions (SIPREC) are always taken",
    )
    assert told.what_programs_may_call == (
        "what a route for everybody fits: as above",
        "a user's name or number: to that user's phones",
        "numbers that no route fits: to trunk carrier",
        "SIP URIs: as they stand",
    )
    text = SOUND + '[[routes]]\nprefix = "1"\nto = ["trunk:carrier"]\nfrom = ["api"]\n'
    ours = explain(settings(text + '[[routes]]\nprefix = "2"\nto = ["trunk:carrier"]\n'))
    assert not any("1…" in line for line in ours.where_calls_go), "none that comes in goes there"
    assert ours.what_programs_may_call[:2] == (
        "1… from programs: to trunk carrier; rings 30 s",
        "what a route for everybody fits: as above",
    )
    assert told.what_is_recorded == (
        "every call from peer pbx, dual",
        "every call by the route for 'any number', mono",
        "any other call when a program asks for it (API)",
    )
    nobody = explain(Settings(accept_loopback=False, refuse_silently=True))
    assert nobody.who_may_call == ("nobody: everybody gets no answer",)
