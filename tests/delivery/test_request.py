"""From a delivery to the bytes of a request."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError
from callreel.calls.model import CallbackMethod
from callreel.delivery.model import Delivery
from callreel.delivery.request import PreparedRequest, Timeouts, prepare, redirect
from callreel.delivery.signature import sign

KEY = "secret-key"


def delivery(
    url: str = "http://example.com/hook",
    method: CallbackMethod = CallbackMethod.POST,
    fields: dict[str, str] | None = None,
) -> Delivery:
    return Delivery(
        id="ab" * 16,
        account_id="cd" * 16,
        event="completed",
        url=url,
        method=method,
        fields={"A": "1 2", "B": "é&"} if fields is None else fields,
        signing_key=KEY,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def headers(request: PreparedRequest) -> dict[str, str]:
    names = [name.lower() for name, _ in request.headers]
    assert len(names) == len(set(names))
    return dict(request.headers)


def test_a_post_carries_a_form() -> None:
    request = prepare(delivery("https://example.com/hook?keep=%2f"))
    assert request.body == b"A=1+2&B=%C3%A9%26"
    assert (request.scheme, request.host, request.port) == ("https", "example.com", 443)
    assert request.target == "/hook?keep=%2f"
    found = headers(request)
    assert found["Host"] == "example.com"
    assert found["Content-Type"].startswith("application/x-www-form-urlencoded")
    assert found["Content-Length"] == str(len(request.body))
    assert found["I-Twilio-Idempotency-Token"] == found["Callreel-Delivery-Id"] == "ab" * 16
    assert found["User-Agent"].startswith("callreel/")
    assert found["X-Twilio-Signature"] == sign(KEY, request.url, {"A": "1 2", "B": "é&"})
    assert "Authorization" not in found


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h/x", "/x?A=1%202&B=%C3%A9%26"),
        ("http://h", "/?A=1%202&B=%C3%A9%26"),
        ("http://h/x?", "/x?A=1%202&B=%C3%A9%26"),
        ("http://h/x?q=1", "/x?q=1&A=1%202&B=%C3%A9%26"),
        ("http://h/x?q=1&", "/x?q=1&A=1%202&B=%C3%A9%26"),
        ("http://h/x?q=1#tt=100", "/x?q=1&A=1%202&B=%C3%A9%26"),
    ],
)
def test_a_get_carries_its_fields_after_what_is_there(url: str, target: str) -> None:
    request = prepare(delivery(url, CallbackMethod.GET))
    assert request.target == target
    assert request.body == b""
    assert "Content-Type" not in headers(request)
    assert headers(request)["X-Twilio-Signature"] == sign(KEY, f"http://h{target}", {})


def test_userinfo_becomes_credentials_and_stays_in_what_is_signed() -> None:
    request = prepare(delivery("http://us%3Aer:p%40ss@example.com:8080/hook"))
    found = headers(request)
    assert found["Authorization"] == "Basic dXM6ZXI6cEBzcw=="  # us:er:p@ss
    assert found["Host"] == "example.com:8080"
    assert request.target == "/hook"
    assert request.url == "http://us%3Aer:p%40ss@example.com:8080/hook"
    assert headers(prepare(delivery("http://u@h/")))["Authorization"] == "Basic dTo="


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("HTTP://Example.COM/a", "http://Example.COM/a"),
        ("http://h:80/a", "http://h:80/a"),
        ("http://h:/a", "http://h/a"),
        (
            "http://bücher.example/ä b?ü={x}|",
            "http://xn--bcher-kva.example/%C3%A4%20b?%C3%BC=%7Bx%7D%7C",
        ),
        ("http://h/a/../b//c?x=%zz", "http://h/a/../b//c?x=%zz"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        (" http://h/a \n", "http://h/a"),
        ("http://h/a?b?c/d", "http://h/a?b?c/d"),
        ("http://h/a?", "http://h/a?"),
    ],
)
def test_what_is_signed_is_what_is_sent(url: str, sent: str) -> None:
    request = prepare(delivery(url))
    assert request.url == sent
    parts = urlsplit(sent)
    assert request.target == sent.partition(f"//{parts.netloc}")[2]
    assert request.host == (parts.hostname or "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/hook",
        "example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://user@/",
        "http://h:0/",
        "http://h:65536/",
        "http://h:80:80/",
        "http://h:x/",
        "http://h\r\nX: y/",
        "http://h/\x00",
        "http://a b/",
        "http://[::1/",
        "http://[zz]/",
        "http://h\\@evil/",
        "http://" + "ü" * 80 + "/",
        "http://h/" + "x" * 9000,
    ],
)
def test_what_cannot_be_requested_is_refused(url: str) -> None:
    with pytest.raises(PeerError):
        prepare(delivery(url))


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("", Timeouts(2000, 5000, 15000)),
        ("ot=300&rt=400&tt=500", Timeouts(300, 400, 500)),
        ("ot=1&rt=1&tt=1", Timeouts(100, 100, 100)),
        ("ot=99999&rt=99999&tt=99999", Timeouts(10_000, 15_000, 15_000)),
        ("rc=3&tt=700", Timeouts(2000, 5000, 700)),
        ("ot=abc&rt=-5&tt=9999999999", Timeouts(2000, 5000, 15000)),
        ("xot=300", Timeouts(2000, 5000, 15000)),
    ],
)
def test_the_fragment_bounds_time_and_is_not_sent(fragment: str, expected: Timeouts) -> None:
    request = prepare(delivery(f"http://h/x#{fragment}"))
    assert request.timeouts == expected
    assert "#" not in request.url + request.target


def test_a_redirected_post_stays_a_post_and_is_signed_anew() -> None:
    for status in (301, 302, 307, 308):
        request = redirect(prepare(delivery("http://h/a#tt=500")), status, "/b?c=d#e")
        assert (request.method, request.url) == (CallbackMethod.POST, "http://h/b?c=d")
        assert request.body == b"A=1+2&B=%C3%A9%26"
        expected = sign(KEY, "http://h/b?c=d", {"A": "1 2", "B": "é&"})
        assert headers(request)["X-Twilio-Signature"] == expected
        assert request.timeouts.total_ms == 500


def test_see_other_asks_for_a_plain_get() -> None:
    request = redirect(prepare(delivery()), 303, "https://example.com/thanks")
    assert (request.method, request.body) == (CallbackMethod.GET, b"")
    assert request.url == "https://example.com/thanks"
    assert headers(request)["X-Twilio-Signature"] == sign(KEY, request.url, {})


def test_a_redirected_get_does_not_repeat_its_fields() -> None:
    before = prepare(delivery("http://h/a", CallbackMethod.GET))
    location = before.url.replace("http://", "https://")
    request = redirect(before, 301, location)
    assert request.url == location
    assert [name for name, _ in parse_qsl(urlsplit(request.url).query)] == ["A", "B"]


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("/b", True),
        ("https://h/b", True),
        ("http://other/b", False),
        ("http://h:8080/b", False),
        ("http://x:y@h/b", False),
    ],
)
def test_credentials_go_to_the_same_host_alone(location: str, kept: bool) -> None:
    request = redirect(prepare(delivery("http://u:p@h/a")), 302, location)
    assert (headers(request).get("Authorization") == "Basic dTpw") is kept
    assert ("u:p@" in request.url) is kept


@pytest.mark.parametrize("location", ["http://h/b", "ftp://h/", "https://[/", "https://h\n/"])
def test_what_is_no_redirect_is_refused(location: str) -> None:
    with pytest.raises(PeerError):
        redirect(prepare(delivery("https://h/a")), 302, location)


def test_no_secret_is_shown() -> None:
    owed = delivery("http://user:hunter2@h/a")
    assert KEY not in repr(owed)
    assert "Authorization" not in repr(prepare(owed))


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"http://{text}"))
def test_any_url_is_requested_or_refused(url: str) -> None:
    for method in CallbackMethod:
        try:
            request = prepare(delivery(url, method))
        except PeerError:
            continue
        assert request.url.isascii()
        assert not any(character.isspace() for character in request.url + request.target)
        assert request.target.startswith("/")
        assert request.host
        for name, value in request.headers:
            assert not set(name + value) & set("\r\n\x00")
