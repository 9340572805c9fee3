"""Which addresses webhooks may go to."""

from __future__ import annotations

import pytest

from callreel.base.errors import UsageError
from callreel.delivery.address import AddressPolicy


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "not an address",
    ],
)
def test_denied_whatever_the_settings(address: str) -> None:
    assert AddressPolicy().refusal(address)
    assert AddressPolicy(deny_private=True).refusal(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "::1",
        "fd12::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
    ],
)
def test_private_is_allowed_unless_denied(address: str) -> None:
    assert AddressPolicy().refusal(address) is None
    assert AddressPolicy(deny_private=True).refusal(address)


@pytest.mark.parametrize("address", ["203.0.113.9", "8.8.8.8", "2001:db8::1", "172.32.0.1"])
def test_public_is_allowed(address: str) -> None:
    assert AddressPolicy(deny_private=True).refusal(address) is None


def test_settings_allow_and_deny_by_network() -> None:
    policy = AddressPolicy(deny_private=True, allow=("10.1.0.0/16",), deny=("203.0.113.0/24",))
    assert policy.refusal("10.1.2.3") is None
    assert policy.refusal("10.2.2.3") == "private"
    assert policy.refusal("203.0.113.9") == "denied by setting"
    assert AddressPolicy(allow=("169.254.169.254/32",)).refusal("169.254.169.254") is None
    with pytest.raises(UsageError):
        AddressPolicy(allow=("10.1.2.3/8",))
