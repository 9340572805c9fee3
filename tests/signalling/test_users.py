"""Users as they are configured."""

from __future__ import annotations

import ipaddress

import pytest

from callreel.base.errors import UsageError
from callreel.signalling.users import User, UserDirectory
from callreel.wire.sip.digest import Algorithm, hash_a1

MD5_OF_BOB = hash_a1(Algorithm.MD5, "bob", "callreel", "zanzibar")
SHA_256_OF_BOB = hash_a1(Algorithm.SHA_256, "bob", "callreel", "zanzibar")


def test_secrets_are_hashed_once() -> None:
    users = UserDirectory([User("bob", "acc", password="zanzibar")], "callreel")
    assert users.secret("bob", Algorithm.MD5) == MD5_OF_BOB
    assert users.secret("bob", Algorithm.SHA_256) == SHA_256_OF_BOB
    assert users.secret("Bob", Algorithm.MD5) is None
    assert users.find("bob") is not None
    assert users.find("alice") is None
    assert users.algorithms == [Algorithm.SHA_256, Algorithm.MD5]


def test_only_what_every_user_can_answer_is_offered() -> None:
    old = User("bob", "acc", ha1={Algorithm.MD5: MD5_OF_BOB.upper()})
    users = UserDirectory([old, User("alice", "acc", password="x")], "callreel")
    assert users.algorithms == [Algorithm.MD5]
    assert users.secret("bob", Algorithm.MD5) == MD5_OF_BOB
    new = User("carol", "acc", ha1={Algorithm.SHA_256: SHA_256_OF_BOB})
    with pytest.raises(UsageError, match="every user"):
        UserDirectory([old, new], "callreel")
    both = [User("alice", "acc", password="x")]
    assert UserDirectory(both, "callreel", algorithms=[Algorithm.MD5]).algorithms == ["MD5"]
    with pytest.raises(UsageError, match="every user"):
        UserDirectory([old], "callreel", algorithms=[Algorithm.SHA_256])


@pytest.mark.parametrize(
    "users",
    [
        [User("bob", "acc")],
        [User("bob", "acc", password="")],
        [User("bob", "acc", password="x", ha1={Algorithm.MD5: MD5_OF_BOB})],
        [User("bob", "acc", ha1={Algorithm.SHA_256: MD5_OF_BOB})],
        [User("bob", "acc", ha1={Algorithm.MD5: "g" * 32})],
        [User("bob", "acc", ha1={Algorithm.MD5_SESS: MD5_OF_BOB})],
        [User("", "acc", password="x")],
        [User("a:b", "acc", password="x")],
        [User("a\nb", "acc", password="x")],
        [User("bob", "acc", password="x"), User("bob", "acc", password="y")],
    ],
)
def test_what_cannot_be(users: list[User]) -> None:
    with pytest.raises(UsageError) as caught:
        UserDirectory(users, "callreel")
    assert MD5_OF_BOB not in str(caught.value)


@pytest.mark.parametrize("realm", ["", "a\nb"])
def test_a_realm_is_text(realm: str) -> None:
    with pytest.raises(UsageError):
        UserDirectory([], realm)


def test_where_users_may_be() -> None:
    office = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
    bob = User("bob", "acc", password="x", networks=office)
    users = UserDirectory([bob], "callreel")
    for host, expected in (
        ("192.0.2.9", True),
        ("::ffff:192.0.2.9", True),
        ("2001:db8::1%eth0", True),
        ("198.51.100.1", False),
    ):
        assert users.may_be_at(host) is expected
        assert bob.may_be_at(host) is expected
    anywhere = UserDirectory([bob, User("alice", "acc", password="x")], "callreel")
    assert anywhere.may_be_at("198.51.100.1")
    assert not UserDirectory([], "callreel").may_be_at("192.0.2.9")


def test_secrets_are_not_shown() -> None:
    user = User("bob", "acc", password="zanzibar", ha1={Algorithm.MD5: MD5_OF_BOB})
    assert "zanzibar" not in repr(user)
    assert MD5_OF_BOB not in repr(user)
