"""The arithmetic of digests against the vectors of the RFCs, and both sides against each other."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError
from callreel.testing.sip_link import CountingIds
from callreel.wire.sip.digest import Algorithm, Exchange, hash_a1
from callreel.wire.sip.digest_client import (
    Credentials,
    DigestClient,
    answers_something_new,
    authorize,
    read_challenges,
)
from callreel.wire.sip.digest_server import DigestServer, Outcome
from callreel.wire.sip.message import Request, Response
from callreel.wire.sip.values import URI

OLD_NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
NEW_NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
NEW_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("algorithm", "password", "qop", "expected"),
    [
        # RFC 2069 §2.4, response as corrected by erratum 749
        (Algorithm.MD5, "CircleOfLife", None, "1949323746fe6a43ef61f9606e7febea"),
        # RFC 2617 §3.5
        (Algorithm.MD5, "Circle Of Life", "auth", "6629fae49393a05397450978507c4ef1"),
    ],
)
def test_old_vectors(algorithm: Algorithm, password: str, qop: str | None, expected: str) -> None:
    exchange = Exchange(
        *(algorithm, OLD_NONCE, "GET", "/dir/index.html"),
        qop=qop,
        nonce_count="00000001",
        cnonce="0a4f113b",
    )
    ha1 = hash_a1(algorithm, "Mufasa", "testrealm@host.com", password)
    assert exchange.response(ha1) == expected


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        # RFC 7616 §3.9.1
        (Algorithm.MD5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm.SHA_256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc_7616(algorithm: Algorithm, expected: str) -> None:
    exchange = Exchange(
        *(algorithm, NEW_NONCE, "GET", "/dir/index.html"),
        qop="auth",
        nonce_count="00000001",
        cnonce=NEW_CNONCE,
    )
    ha1 = hash_a1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
    assert exchange.response(ha1) == expected


@pytest.mark.parametrize(
    ("algorithm", "qop", "expected"),
    [
        # draft-smith-sipping-auth-examples-01 §3.1, §3.2, §3.4
        (Algorithm.MD5, None, "bf57e4e0d0bffc0fbaedce64d59add5e"),
        (Algorithm.MD5, "auth", "89eb0059246c02b2f6ee02c7961d5ea3"),
        (Algorithm.MD5_SESS, "auth", "e4e4ea61d186d07a92c9e1f6919902e9"),
    ],
)
def test_sip_vectors(algorithm: Algorithm, qop: str | None, expected: str) -> None:
    exchange = Exchange(
        *(algorithm, OLD_NONCE, "INVITE", "sip:bob@biloxi.com"),
        qop=qop,
        nonce_count="00000001",
        cnonce="0a4f113b",
    )
    assert exchange.response(hash_a1(algorithm, "bob", "biloxi.com", "zanzibar")) == expected


def test_a_name_is_the_same_however_it_is_composed() -> None:
    composed, decomposed = "J\u00e4s\u00f8n", "Ja\u0308s\u00f8n"
    hashes = {hash_a1(Algorithm.SHA_256, name, "r", "p") for name in (composed, decomposed)}
    assert len(hashes) == 1


# What a client makes of challenges


def challenged(*fields: str, code: int = 401, proxy: str = "") -> Response:
    response = Response(code)
    for text in fields:
        response.headers.add("WWW-Authenticate", text)
    if proxy:
        response.headers.add("Proxy-Authenticate", proxy)
    return response


def test_the_strongest_known_algorithm_is_chosen() -> None:
    response = challenged(
        'Digest realm="r", nonce="1", algorithm=SHA-512-256, qop="auth"',
        'Digest realm="r", nonce="2", algorithm=MD5, qop="auth"',
        'Digest realm="r", nonce="3", algorithm=sha-256, qop="auth-int,AUTH"',
        'Digest realm="r", nonce="4", algorithm=SHA-256, qop="auth"',
    )
    (challenge,) = read_challenges(response)
    assert (challenge.nonce, challenge.qop) == ("3", "auth")


def test_challenges_in_one_field_and_of_a_proxy_too() -> None:
    response = challenged(
        'Basic realm="r", Digest realm="r, s", nonce="1", Digest realm="t", nonce="2", stale=TRUE',
        proxy='Digest realm="p", nonce="3"',
    )
    found = read_challenges(response)
    assert [one.place for one in found] == [
        ("Authorization", "r, s"),
        ("Authorization", "t"),
        ("Proxy-Authorization", "p"),
    ]
    assert [one.stale for one in found] == [False, True, False]


@pytest.mark.parametrize(
    "text",
    [
        'Basic realm="r"',
        'Digest realm="r", nonce="1", algorithm=AKAv1-MD5',
        'Digest realm="r", nonce="1", qop="conf"',
        'Digest realm="r"',
        'Digest nonce="1"',
        'Digest realm="r", nonce="1',
    ],
)
def test_challenges_that_cannot_be_answered(text: str) -> None:
    assert read_challenges(challenged(text)) == []


def test_the_answer_is_written_as_peers_expect() -> None:
    (challenge,) = read_challenges(
        challenged('Digest realm="a \\"b\\"", nonce="n", opaque="o", algorithm=md5, qop="auth"')
    )
    name, value = authorize(
        challenge,
        Credentials("bob", "zanzibar"),
        method="INVITE",
        uri="sip:bob@biloxi.com",
        body=b"",
        cnonce="c",
        nonce_count=10,
    )
    assert name == "Authorization"
    assert value.startswith('Digest username="bob", realm="a \\"b\\"", nonce="n", ')
    assert value.endswith('algorithm=MD5, cnonce="c", qop=auth, nc=0000000a, opaque="o"')


def test_an_old_server_gets_an_old_answer() -> None:
    (challenge,) = read_challenges(
        challenged('Digest realm="biloxi.com", nonce="' + OLD_NONCE + '"')
    )
    _, value = authorize(
        challenge,
        Credentials("bob", "zanzibar"),
        method="INVITE",
        uri="sip:bob@biloxi.com",
        body=b"",
        cnonce="c",
        nonce_count=1,
    )
    assert value == (
        f'Digest username="bob", realm="biloxi.com", nonce="{OLD_NONCE}", '
        'uri="sip:bob@biloxi.com", response="bf57e4e0d0bffc0fbaedce64d59add5e"'
    )


def test_a_client_counts_up_and_keeps_to_its_realm() -> None:
    client = DigestClient(Credentials("bob", "p", realm="ours"), CountingIds())
    assert client.headers("REGISTER", "sip:x") == []
    assert client.receive(challenged('Digest realm="theirs", nonce="1"')) == []
    assert client.headers("REGISTER", "sip:x") == []
    taken = client.receive(challenged('Digest realm="ours", nonce="2", qop="auth"'))
    assert answers_something_new(taken, [])
    assert not answers_something_new(taken, [one.place for one in taken])
    counts = [client.headers("REGISTER", "sip:x")[0][1].partition("nc=")[2] for _ in range(2)]
    assert counts == ["00000001", "00000002"]
    stale = client.receive(challenged('Digest realm="ours", nonce="3", qop="auth", stale=true'))
    assert answers_something_new(stale, [one.place for one in stale])


def test_a_password_is_not_shown() -> None:
    assert "zanzibar" not in repr(Credentials("bob", "zanzibar"))


# Server and client together

HOST = "192.0.2.7"
REALM = 'callreel, "ours"'
PASSWORDS = {"alice": "open sesame", "bj\u00f6rn": "l\u00f6senord"}


def secret_of(username: str, algorithm: Algorithm) -> str | None:
    password = PASSWORDS.get(username)
    return None if password is None else hash_a1(algorithm, username, REALM, password)


def server(**options: object) -> DigestServer:
    return DigestServer(realm=REALM, key=b"k" * 32, **options)  # type: ignore[arg-type]


def a_request(uri: str = "sip:42@example.com", method: str = "INVITE") -> Request:
    return Request(method, URI.parse(uri), b"v=0\r\n")


def challenge_of(digest: DigestServer, *, now: float, stale: bool = False) -> Response:
    fields = digest.challenges(source=HOST, now=now, stale=stale)
    assert all(name == "WWW-Authenticate" for name, _ in fields)
    return challenged(*(value for _, value in fields))


def answered(
    digest: DigestServer, user: str, password: str, request: Request, *, now: float
) -> Request:
    client = DigestClient(Credentials(user, password), CountingIds())
    assert client.receive(challenge_of(digest, now=now))
    client.dress(request)
    return request


@pytest.mark.parametrize("user", PASSWORDS)
@pytest.mark.parametrize("algorithm", [Algorithm.MD5, Algorithm.SHA_256])
def test_right(user: str, algorithm: Algorithm) -> None:
    digest = server(algorithms=[algorithm])
    request = answered(digest, user, PASSWORDS[user], a_request(), now=10.0)
    verdict = digest.verify(request, secret_of, source=HOST, now=11.0)
    assert (verdict.outcome, verdict.username) == (Outcome.RIGHT, user)


def test_sha_256_is_offered_first() -> None:
    fields = server(algorithms=[Algorithm.MD5, Algorithm.SHA_256]).challenges(
        source=HOST, now=1.0, stale=True
    )
    assert ["algorithm=SHA-256" in value for _, value in fields] == [True, False]
    assert all('qop="auth"' in value and "stale=true" in value for _, value in fields)


def test_without_credentials_or_with_those_for_another_realm() -> None:
    digest = server()
    request = a_request()
    assert digest.verify(request, secret_of, source=HOST, now=1.0).outcome is Outcome.MISSING
    request.headers.add("Authorization", "NoOneKnowsThisScheme opaque-data=here")
    request.headers.add("Authorization", 'Digest realm="theirs", nonce="1", response="2"')
    assert digest.verify(request, secret_of, source=HOST, now=1.0).outcome is Outcome.MISSING


@pytest.mark.parametrize(
    ("user", "password"), [("alice", "wrong"), ("mallory", "open sesame"), ("", "")]
)
def test_wrong_and_unknown_are_the_same(user: str, password: str) -> None:
    digest = server()
    request = answered(digest, user, password, a_request(), now=1.0)
    assert digest.verify(request, secret_of, source=HOST, now=1.0).outcome is Outcome.WRONG
    assert len(digest) == 0


class Secrets:
    """Hashed beforehand, as a server's are."""

    def __init__(self) -> None:
        self.alice = secret_of("alice", Algorithm.SHA_256)

    def get(self, username: str, algorithm: Algorithm) -> str | None:
        return self.alice if username == "alice" else None


def test_the_same_hashing_for_known_and_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    original = Algorithm.hash

    def counting(self: Algorithm, data: bytes) -> str:
        hashed.append(len(data))
        return original(self, data)

    table = Secrets()
    work = []
    for user in ("alice", "nobod"):
        digest = server()
        request = answered(digest, user, "wrong", a_request(), now=1.0)
        with monkeypatch.context() as patch:
            patch.setattr(Algorithm, "hash", counting)
            hashed.clear()
            digest.verify(request, table.get, source=HOST, now=1.0)
        work.append(list(hashed))
    assert work[0] == work[1]


def test_a_replay_is_refused_and_counting_up_is_not() -> None:
    digest = server()
    client = DigestClient(Credentials("alice", PASSWORDS["alice"]), CountingIds())
    client.receive(challenge_of(digest, now=1.0))
    first, second = a_request(), a_request()
    client.dress(first)
    client.dress(second)
    assert digest.verify(first, secret_of, source=HOST, now=2.0).outcome is Outcome.RIGHT
    assert digest.verify(first, secret_of, source=HOST, now=2.0).outcome is Outcome.STALE
    assert digest.verify(second, secret_of, source=HOST, now=2.0).outcome is Outcome.RIGHT
    assert digest.verify(first, secret_of, source=HOST, now=2.0).outcome is Outcome.STALE


def test_without_counts_a_nonce_is_good_once() -> None:
    digest = server(algorithms=[Algorithm.MD5])
    fields = digest.challenges(source=HOST, now=1.0)
    nonce = read_challenges(challenged(fields[0][1]))[0].nonce
    ha1 = secret_of("alice", Algorithm.MD5)
    assert ha1 is not None
    request = a_request()
    response = Exchange(Algorithm.MD5, nonce, "INVITE", "sip:42@example.com").response(ha1)
    request.headers.add(
        "Authorization",
        'Digest username="alice", realm="callreel, \\"ours\\"", '
        f'nonce="{nonce}", uri="sip:42@example.com", response="{response.upper()}"',
    )
    assert digest.verify(request, secret_of, source=HOST, now=1.0).outcome is Outcome.RIGHT
    assert digest.verify(request, secret_of, source=HOST, now=1.0).outcome is Outcome.STALE
    # Nor with a count, from then on.
    client = DigestClient(Credentials("alice", PASSWORDS["alice"]), CountingIds())
    client.receive(challenged(fields[0][1]))
    counted = a_request()
    client.dress(counted)
    assert digest.verify(counted, secret_of, source=HOST, now=1.0).outcome is Outcome.STALE


def test_too_old_of_another_process_or_forged() -> None:
    digest = server(lifetime_seconds=60)
    request = answered(digest, "alice", PASSWORDS["alice"], a_request(), now=100.0)
    assert digest.verify(request, secret_of, source=HOST, now=161.0).outcome is Outcome.STALE
    assert digest.verify(request, secret_of, source=HOST, now=159.0).outcome is Outcome.RIGHT
    other = DigestServer(realm=REALM, key=b"another")
    request = answered(other, "alice", PASSWORDS["alice"], a_request(), now=100.0)
    assert digest.verify(request, secret_of, source=HOST, now=100.0).outcome is Outcome.STALE
    # With a nonce that is not good, right and wrong are answered alike: no guessing with one.
    request = answered(other, "alice", "wrong", a_request(), now=100.0)
    assert digest.verify(request, secret_of, source=HOST, now=100.0).outcome is Outcome.STALE


def test_a_nonce_is_good_for_the_source_that_it_was_sent_to() -> None:
    digest = server()
    request = answered(digest, "alice", PASSWORDS["alice"], a_request(), now=1.0)
    elsewhere = digest.verify(request, secret_of, source="192.0.2.8", now=1.0)
    assert elsewhere.outcome is Outcome.STALE
    assert digest.verify(request, secret_of, source=HOST, now=1.0).outcome is Outcome.RIGHT


def test_credentials_for_another_number_or_method_or_body() -> None:
    digest = server()
    for uri, method in (("sip:900@example.com", "INVITE"), ("sip:42@example.com", "BYE")):
        request = answered(digest, "alice", PASSWORDS["alice"], a_request(), now=1.0)
        altered = a_request(uri, method)
        altered.headers.add("Authorization", request.headers["Authorization"])
        assert digest.verify(altered, secret_of, source=HOST, now=1.0).outcome is Outcome.WRONG
    # A proxy in front of us may change the host.
    request = answered(digest, "alice", PASSWORDS["alice"], a_request(), now=1.0)
    request.uri = URI.parse("sip:42@10.0.0.1:5070;transport=tcp")
    assert digest.verify(request, secret_of, source=HOST, now=1.0).outcome is Outcome.RIGHT
    # auth-int is not offered, but known; then the body counts.
    for spoilt, outcome in ((True, Outcome.WRONG), (False, Outcome.RIGHT)):
        client = DigestClient(Credentials("alice", PASSWORDS["alice"]), CountingIds())
        offered = [
            value.replace('"auth"', '"auth-int"')
            for _, value in digest.challenges(source=HOST, now=1.0)
        ]
        client.receive(challenged(*offered))
        request = a_request()
        client.dress(request)
        if spoilt:
            request.body = b"v=1\r\n"
        assert digest.verify(request, secret_of, source=HOST, now=1.0).outcome is outcome


@pytest.mark.parametrize(
    "text",
    [
        'Digest realm="never closed',
        'Digest username="a", realm="callreel, \\"ours\\"", qop=conf',
        'Digest username="a", realm="callreel, \\"ours\\"", qop=auth, nc=1, cnonce=c',
        'Digest username="a", realm="callreel, \\"ours\\"", qop=auth, nc=00000001',
        f'Digest username="{"a" * 257}", realm="callreel, \\"ours\\""',
    ],
)
def test_credentials_that_cannot_be_read(text: str) -> None:
    request = a_request()
    request.headers.add("Authorization", text)
    with pytest.raises(PeerError, match="Authorization"):
        server().verify(request, secret_of, source=HOST, now=1.0)


def test_memory_is_bounded_and_what_is_forgotten_is_refused() -> None:
    digest = server(max_nonces=8)
    requests = []
    for number in range(30):
        request = answered(
            digest, "alice", PASSWORDS["alice"], a_request(), now=10.0 + number / 100
        )
        requests.append(request)
        assert digest.verify(request, secret_of, source=HOST, now=11.0).outcome is Outcome.RIGHT
        assert len(digest) <= 8
    for request in requests:
        assert digest.verify(request, secret_of, source=HOST, now=11.0).outcome is Outcome.STALE


def test_challenges_cost_no_memory() -> None:
    digest = server()
    for _ in range(1000):
        digest.challenges(source=HOST, now=1.0)
    assert len(digest) == 0


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from([Algorithm.MD5, Algorithm.SHA_256]),
)
def test_any_name_and_password(name: str, password: str, algorithm: Algorithm) -> None:
    digest = server(algorithms=[algorithm])
    request = answered(digest, name, password, a_request(), now=1.0)
    verdict = digest.verify(
        request, lambda n, a: hash_a1(a, n, REALM, password), source=HOST, now=1.0
    )
    assert (verdict.outcome, verdict.username) == (Outcome.RIGHT, name)


@given(st.text(max_size=200))
def test_hostile_credentials_raise_peer_errors_only(text: str) -> None:
    request = a_request()
    request.headers.add("Authorization", f'Digest realm="callreel, \\"ours\\"", {text}')
    try:
        assert (
            server().verify(request, secret_of, source=HOST, now=1.0).outcome is not Outcome.RIGHT
        )
    except PeerError:
        return
