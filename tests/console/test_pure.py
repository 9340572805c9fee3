"""Words, times, filters and sessions: values in, values out."""

from __future__ import annotations

from datetime import UTC, date, datetime
from urllib.parse import parse_qsl

import pytest

from callreel.calls.model import Call, CallDirection, CallStatus, Participant, Track
from callreel.console import filters, words
from callreel.console.attention import matters
from callreel.console.forms import Form
from callreel.console.services import Disk, MachineState, Worker
from callreel.console.visit import own_path
from callreel.console.zones import Zone, known_zones
from callreel.service.sessions import LONGEST_S, Session, SessionTable
from callreel.store.pages import Position

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ms", "said"), [(None, ""), (0, "0:00"), (59_600, "1:00"), (3_847_000, "1:04:07")]
)
def test_lengths(ms: int | None, said: str) -> None:
    assert words.length(ms) == said


@pytest.mark.parametrize(
    ("count", "said"), [(None, ""), (999, "999 bytes"), (1500, "1.5 kB"), (999_900_000, "1.0 GB")]
)
def test_sizes(count: int | None, said: str) -> None:
    assert words.size(count) == said


def call(**changes: object) -> Call:
    return Call(
        **{  # type: ignore[arg-type]
            "id": "1" * 32,
            "account_id": "2" * 32,
            "status": CallStatus.COMPLETED,
            "direction": CallDirection.INBOUND,
            "from_": "+15550100",
            "to": "sip:bea@example.com",
            "created_at": NOW,
            "updated_at": NOW,
            "participants": (
                Participant("sip:bea@example.com", "Bea", Track.INBOUND),
                Participant("sip:+15550100@pbx", "Ann", Track.OUTBOUND),
            ),
            **changes,
        }
    )


def test_parties_are_named_as_their_metadata_names_them() -> None:
    parties = words.Parties.of(call())
    assert (parties.caller.label, parties.callee.label) == ("Ann", "Bea")
    assert parties.heard_in(call(), Track.INBOUND).label == "Bea"
    assert words.Parties.of(None).caller.label == "unknown"


def report(**changes: object) -> dict[str, object]:
    return {
        "streams": [
            {"packets": {"received": 100, "lost": 0}},
        ],
        "pauses": [],
        "problems": [],
        **changes,
    }


def test_a_clean_report_is_said_in_a_sentence() -> None:
    assert words.verdict(report()) == "Everything arrived: 100 packets, and none was lost."


def test_loss_pauses_and_silence_are_said() -> None:
    lossy = [{"packets": {"received": 90, "lost": 10}}]
    gaps = [{"kind": "gap", "at_ms": at, "length_ms": 100} for at in (20, 900)]
    said = words.verdict(
        report(streams=lossy, pauses=[{"length_ms": 5000}], gap_count=2, markers=gaps)
    )
    assert "10 packets of 100 (10.0 %) were lost" in said
    assert "200 ms of sound is missing in 2 places." in said
    assert "paused once, for 5.0 s" in said
    nothing = [{"packets": {"received": 0, "lost": 0}}]
    assert words.verdict(report(streams=nothing)).startswith("No audio reached callreel")


def test_times_are_the_zones_and_say_which() -> None:
    assert Zone.named("Europe/Berlin").day_and_time(NOW) == "1 Jul 2026, 14:00:00 CEST"
    assert Zone.named("America/Sao_Paulo").day_and_time(NOW) == "1 Jul 2026, 09:00:00 UTC-03:00"
    assert Zone.named("Asia/Kolkata").offset(NOW) == "UTC+05:30"
    for name in (None, "", "../../etc/passwd", "x" * 100, "Mars/Base"):
        assert Zone.named(name).name == "UTC"
    assert "Europe/Berlin" in known_zones()


def test_days_begin_where_the_viewer_is() -> None:
    start = Zone.named("America/New_York").start_of(date(2026, 7, 1))
    assert start == datetime(2026, 7, 1, 4, 0, tzinfo=UTC)


def test_a_filter_survives_its_link() -> None:
    form = Form([("q", " 555 "), ("from", "2026-07-01"), ("gaps", "yes"), ("min", "2.5")])
    chosen = filters.read(form, Zone.named("UTC"))
    position = Position(NOW, "a" * 32, backward=True)
    again = filters.read(Form(parse_qsl(chosen.link(position))), Zone.named("UTC"))
    assert again.filter == chosen.filter
    assert again.position == position
    assert (again.filter.party, again.filter.has_gaps, again.filter.shortest_ms) == (
        "555", True, 2500
    )  # fmt: skip


@pytest.mark.parametrize(
    "typed", [("from", "yesterday"), ("to", "9999-12-31"), ("min", "nan"), ("min", "-1"),
              ("max", "1e99"), ("status", "x"), ("page", "f-9e99-" + "a" * 32), ("page", "f-1-zz")]
)  # fmt: skip
def test_what_makes_no_sense_is_as_if_it_had_not_been_said(typed: tuple[str, str]) -> None:
    chosen = filters.read(Form([typed]), Zone.named("UTC"))
    assert not chosen.is_narrowed
    assert chosen.position is None


def state(**changes: object) -> MachineState:
    return MachineState(
        **{  # type: ignore[arg-type]
            "version": "1",
            "started_at": NOW,
            "database": "SQLite",
            "media_store": "a local folder",
            "parts": {"database": "ok"},
            "workers": [Worker(1, pid=5, generation=1, calls=9, streams=18)],
            "disks": [Disk("journals", 100, 50)],
            "max_streams": 100,
            "max_calls": 0,
            "rendering": 0,
            **changes,
        }
    )


def test_nothing_needs_attention_where_all_is_well() -> None:
    assert matters(state(), given_up=0, more_given_up=False) == []


@pytest.mark.parametrize(
    ("changes", "said", "grave"),
    [
        ({"parts": {"database": "down: OSError"}}, "The database does not answer", True),
        ({"workers": [Worker(2)]}, "Media worker 2 does not answer", True),
        ({"disks": [Disk("journals", 1000, 80)]}, "has 80 bytes left", False),
        ({"disks": [Disk("journals", 1000, 10)]}, "has 10 bytes left", True),
        ({"max_calls": 10}, "9 of 10 calls", False),
        ({"max_streams": 20}, "18 of 20 media ports", False),
        ({"rendering": 60}, "60 recordings wait", False),
        ({"warnings": ["the API listens without TLS"]}, "The API listens without TLS.", False),
    ],
)
def test_what_needs_attention_is_said(changes: dict[str, object], said: str, grave: bool) -> None:
    (matter,) = matters(state(**changes), given_up=0, more_given_up=False)
    assert said in matter.text
    assert matter.grave is grave


def test_the_gravest_comes_first() -> None:
    found = matters(state(workers=[Worker(1)]), given_up=100, more_given_up=True)
    assert [one.grave for one in found] == [True, False]
    assert "More than 100 of your webhooks were given up" in found[1].text


@pytest.mark.parametrize(
    "text", ["//evil.example", "https://evil.example", "/\\evil", "evil", "", "/\\/evil"]
)
def test_only_own_paths_are_gone_to(text: str) -> None:
    assert own_path(text) == "/"
    assert own_path("/recordings?q=1") == "/recordings?q=1"


def session(at: float) -> Session:
    return Session("a" * 32, "AC…", "token", "form", since_s=at, seen_s=at)


def test_whoever_is_idle_is_signed_out() -> None:
    table = SessionTable(idle_s=10)
    table.add("secret", session(0))
    assert table.find("secret", now=9) is not None
    assert table.find("secret", now=19) is not None
    assert table.find("secret", now=30) is None
    assert table.find("secret", now=30) is None


def test_a_page_that_asks_by_itself_does_not_count() -> None:
    table = SessionTable(idle_s=10)
    table.add("secret", session(0))
    assert table.peek("secret", now=9) is not None
    assert table.peek("secret", now=11) is None
    assert table.find("secret", now=11) is None


def test_nobody_stays_for_ever() -> None:
    table = SessionTable(idle_s=1e9)
    table.add("secret", session(0))
    assert table.find("secret", now=LONGEST_S + 1) is None


def test_the_table_is_bounded_and_the_idlest_makes_room() -> None:
    table = SessionTable(idle_s=100, most=2)
    for name in ("one", "two"):
        table.add(name, session(0))
    table.find("one", now=1)
    table.add("three", session(2))
    assert len(table) == 2
    assert table.find("two", now=3) is None
    assert table.find("one", now=3) is not None
    table.remove("one")
    assert table.find("one", now=3) is None
