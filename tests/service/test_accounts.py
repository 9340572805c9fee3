"""Accounts, tokens, signing keys, API keys; who comes in and who is let go."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from twilio.request_validator import RequestValidator

from callreel.base.errors import UsageError
from callreel.calls.model import Account, CallStatus, Dialect, RecordingRequest
from callreel.calls.spelling import account_sid, key_sid
from callreel.delivery.signature import sign
from callreel.server.outbox import StoreOutbox
from callreel.service.account_removal import AccountRemoval
from callreel.service.accounts import AccountService, Bootstrap, basic_credentials
from callreel.service.errors import AccountInUse, NotFound, TooManyFailures
from callreel.service.throttle import FailureThrottle
from callreel.store import accounts as stored, deliveries
from callreel.store.calls import CallFilter
from callreel.store.recordings import RecordingFilter
from tests.service.conftest import ALL_EVENTS, House

THERE = "192.0.2.7"


async def opens(
    service: AccountService, user: str, password: str, path: str | None
) -> Account | None:
    return await service.authenticate(user, password, path, source=THERE)


async def test_a_new_account_has_its_own_way_in(house: House) -> None:
    made = await house.accounts.create(name="Größe 2")
    assert made.dialect is Dialect.SIGNALWIRE
    assert made.name == "Größe 2"
    sid = account_sid(made)
    assert await opens(house.accounts, sid, made.auth_token, sid) == made
    assert await opens(house.accounts, sid, house.account.auth_token, sid) is None
    first = account_sid(house.account)
    assert await opens(house.accounts, sid, made.auth_token, first) is None
    assert await opens(house.accounts, first, house.account.auth_token, sid) is None
    assert await house.accounts.every() == [house.account, made]


@pytest.mark.parametrize(
    ("sid", "dialect", "then"),
    [
        ("AC" + "AB" * 16, None, Dialect.TWILIO),
        ("B3877C40-da60-4998-90ad-b792e98472af", None, Dialect.SIGNALWIRE),
        ("AC" + "ab" * 16, Dialect.TWILIO, Dialect.TWILIO),
        (None, Dialect.TWILIO, Dialect.TWILIO),
        (None, Dialect.SIGNALWIRE, Dialect.SIGNALWIRE),
    ],
)
async def test_a_sid_can_be_kept(
    house: House, sid: str | None, dialect: Dialect | None, then: Dialect
) -> None:
    made = await house.accounts.create(account_sid=sid, dialect=dialect)
    assert made.dialect is then
    if sid is not None:
        assert account_sid(made).lower() == sid.lower()


@pytest.mark.parametrize(
    ("sid", "dialect", "name", "says"),
    [
        ("me", None, "", "not an AccountSid"),
        ("ab" * 16, None, "", "not an AccountSid"),
        ("RE" + "ab" * 16, None, "", "not an AccountSid"),
        ("AC" + "ab" * 16, Dialect.SIGNALWIRE, "", "twilio dialect"),
        (None, None, "x" * 201, "printable"),
        (None, None, "red \x1b[31m", "printable"),
    ],
)
async def test_what_cannot_be_an_account_is_refused(
    house: House, sid: str | None, dialect: Dialect | None, name: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        await house.accounts.create(account_sid=sid, dialect=dialect, name=name)
    assert len(await house.accounts.every()) == 1


async def test_a_sid_is_given_once(house: House) -> None:
    key, _ = await house.accounts.create_key(house.account)
    for id_ in (house.account.id, key.id):
        with pytest.raises(UsageError, match="taken"):
            await house.accounts.create(account_sid="AC" + id_)


async def test_a_rotated_token_is_dead_at_once_and_signs(house: House) -> None:
    before = house.account
    after = await house.accounts.rotate_token(before)
    assert after.auth_token != before.auth_token
    assert after.signing_key == after.auth_token
    assert after.token_rotated_at is not None
    assert await opens(house.accounts, before.id, before.auth_token, before.id) is None
    assert await opens(house.accounts, before.id, after.auth_token, before.id) == after
    again = AccountService(house.context)
    assert await again.get(before.id) == after


async def test_a_bootstrap_token_does_not_stand_against_a_rotation(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    old = house.account.auth_token
    rotated = await house.accounts.rotate_token(house.account)
    caplog.clear()
    assert await house.accounts.ensure_first(Bootstrap(auth_token=old)) == rotated
    assert "ignored" in caplog.text
    assert old not in caplog.text


async def test_a_signing_key_apart_survives_a_rotation(house: House) -> None:
    apart = await house.accounts.set_signing_key(house.account, apart=True)
    assert apart.signing_key != apart.auth_token == house.account.auth_token
    rotated = await house.accounts.rotate_token(apart)
    assert rotated.signing_key == apart.signing_key
    assert await AccountService(house.context).get(apart.id) == rotated
    back = await house.accounts.set_signing_key(rotated, apart=False)
    assert back.signs_with_token
    assert await AccountService(house.context).get(apart.id) == back


async def test_a_webhook_is_signed_with_the_key_set_apart(house: House) -> None:
    account = await house.accounts.set_signing_key(house.account, apart=True)
    call = await house.a_call()
    await house.recordings.start(account, call.id, ALL_EVENTS)
    outbox = StoreOutbox(house.context.database)
    (owed,) = await outbox.due(house.context.clock.now(), 10)
    signature = sign(owed.signing_key, owed.url, owed.fields)
    accepts = RequestValidator(account.signing_key).validate
    assert accepts(owed.url, dict(owed.fields), signature)
    refuses = RequestValidator(account.auth_token).validate
    assert not refuses(owed.url, dict(owed.fields), signature)


async def test_a_key_opens_its_own_account_until_it_is_deleted(house: House) -> None:
    service = house.accounts
    key, secret = await service.create_key(house.account, name="ci")
    other = await service.create()
    sid = key_sid(key)
    dashed = "-".join((key.id[:8], key.id[8:12], key.id[12:16], key.id[16:20], key.id[20:]))
    assert sid.startswith("SK")
    for user in (sid, sid.lower(), key.id, dashed):
        assert await opens(service, user, secret, account_sid(house.account)) == house.account
    assert await opens(service, sid, secret, None) == house.account
    for user, password, path in (
        (sid, house.account.auth_token, house.account.id),
        (house.account.id, secret, house.account.id),
        (sid, secret, other.id),
        (sid, secret, key.id),
        (sid, "", house.account.id),
        (sid, key.secret_hash, house.account.id),
    ):
        assert await opens(service, user, password, path) is None
    assert await service.keys_of(house.account) == [key]
    assert await service.keys_of(other) == []
    again = AccountService(house.context)
    assert await again.keys_of(house.account) == [key]
    assert await opens(again, sid, secret, house.account.id) == house.account
    assert await service.delete_key(sid) == key
    assert await opens(service, sid, secret, house.account.id) is None
    with pytest.raises(NotFound):
        await service.delete_key(sid)
    with pytest.raises(NotFound):
        await service.delete_key("nonsense")
    # The token goes on.
    assert await opens(service, house.account.id, house.account.auth_token, house.account.id)


async def test_a_rotated_token_leaves_keys_alone(house: House) -> None:
    key, secret = await house.accounts.create_key(house.account)
    rotated = await house.accounts.rotate_token(house.account)
    assert await opens(house.accounts, key_sid(key), secret, rotated.id) == rotated


async def test_no_secret_shows(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="callreel")
    made = await house.accounts.create()
    made = await house.accounts.rotate_token(made)
    made = await house.accounts.set_signing_key(made, apart=True)
    key, secret = await house.accounts.create_key(made)
    shown = caplog.text + repr(made) + repr(key) + repr(Bootstrap(auth_token="a-token-given"))
    for hidden in (made.auth_token, made.signing_key, secret, key.secret_hash, "a-token-given"):
        assert hidden not in shown


class StillClock:
    """Time that does not pass: nothing grows back."""

    def now(self) -> datetime:
        return datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

    def monotonic(self) -> float:
        return 1000.0


def throttled(house: House, burst: int) -> AccountService:
    context = replace(house.context, clock=StillClock())
    return AccountService(context, throttle=FailureThrottle(burst=burst, salt=b"s" * 32))


async def test_failures_are_limited_and_success_is_no_failure(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    service = throttled(house, 3)
    me = house.account
    for _ in range(10):
        assert await opens(service, me.id, me.auth_token, me.id) == me
    for _ in range(3):
        assert await opens(service, me.id, "wrong", me.id) is None
    key, secret = await service.create_key(me)
    with pytest.raises(TooManyFailures) as refused:
        await opens(service, me.id, "wrong", me.id)
    assert 0 < refused.value.retry_after_s <= 3
    with pytest.raises(TooManyFailures):  # right, but new here: no oracle
        await opens(service, key_sid(key), secret, me.id)
    assert await opens(service, me.id, me.auth_token, me.id) == me
    elsewhere = await service.authenticate(key_sid(key), secret, me.id, source="192.0.2.8")
    assert elsewhere == me
    assert THERE in caplog.text


async def test_a_foreign_path_is_a_failure(house: House) -> None:
    service = throttled(house, 1)
    other = await service.create()
    assert await opens(service, house.account.id, house.account.auth_token, other.id) is None
    with pytest.raises(TooManyFailures):
        await opens(service, other.id, other.auth_token, other.id)


def a_removal(
    house: House, takes_calls_of: Mapping[str, Sequence[str]] | None = None
) -> AccountRemoval:
    delete = house.deletion.delete
    return AccountRemoval(house.context, house.accounts, delete, takes_calls_of or {})


async def a_finished_recording(house: House) -> str:
    call = await house.a_call()
    recording, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    await house.calls.ended(call.id, CallStatus.COMPLETED, reason="BYE")
    assert await house.finishing.drain(5)
    return recording.id


async def test_the_only_account_stays(house: House) -> None:
    with pytest.raises(AccountInUse, match="only account"):
        await a_removal(house).remove(house.account, with_recordings=True)


async def test_an_account_that_the_settings_need_stays(house: House) -> None:
    await house.accounts.create()
    removal = a_removal(house, {house.account.id: ["peer edge-sbc", "this machine"]})
    with pytest.raises(AccountInUse, match="peer edge-sbc, this machine"):
        await removal.remove(house.account, with_recordings=True)


async def test_an_account_with_a_live_call_stays(house: House) -> None:
    await house.accounts.create()
    call = await house.a_call()
    await house.recordings.start(house.account, call.id, RecordingRequest())
    with pytest.raises(AccountInUse, match="live"):
        await a_removal(house).remove(house.account, with_recordings=True)
    assert await house.accounts.get(house.account.id) == house.account


async def test_an_account_with_recordings_goes_only_with_them(house: House) -> None:
    other = await house.accounts.create()
    recording_id = await a_finished_recording(house)
    key, secret = await house.accounts.create_key(house.account)
    kept, kept_secret = await house.accounts.create_key(other)
    removal = a_removal(house)
    with pytest.raises(AccountInUse, match=r"1 calls and 1 recordings.*--with-recordings"):
        await removal.remove(house.account, with_recordings=False)
    assert [one.key async for one in house.store.list()]
    held = await removal.remove(house.account, with_recordings=True)
    assert (held.calls, held.recordings) == (1, 1)
    assert [one.key async for one in house.store.list()] == []
    assert recording_id in house.renderer.discarded
    me = house.account
    assert await house.accounts.get(me.id) is None
    assert await opens(house.accounts, me.id, me.auth_token, me.id) is None
    assert await opens(house.accounts, key_sid(key), secret, me.id) is None
    assert await opens(house.accounts, key_sid(kept), kept_secret, other.id) == other
    database = house.context.database
    async with database.read() as connection:
        assert list(await deliveries.of_recording(connection, database.seal, recording_id)) == []
        assert await stored.get(connection, database.seal, me.id) is None
    again = AccountService(house.context)
    assert await again.every() == [other]
    assert await again.keys_of(other) == [kept]


async def test_an_empty_account_just_goes(house: House) -> None:
    made = await house.accounts.create()
    await a_removal(house).remove(made, with_recordings=False)
    assert await house.accounts.every() == [house.account]


async def test_a_second_account_sees_nothing_of_the_first(house: House) -> None:
    recording_id = await a_finished_recording(house)
    other = await house.accounts.create()
    recordings, calls = house.recordings, house.calls
    (call,) = (await calls.page(house.account, CallFilter(), size=9, position=None)).items
    assert not (await calls.page(other, CallFilter(), size=9, position=None)).items
    for chosen in (RecordingFilter(), RecordingFilter(call_id=call.id)):
        assert (await recordings.page(house.account, chosen, size=9, position=None)).items
        assert not (await recordings.page(other, chosen, size=9, position=None)).items
    for reach in (recordings.get(other, recording_id), calls.get(other, call.id)):
        with pytest.raises(NotFound):
            await reach
    with pytest.raises(NotFound):
        await recordings.start(other, call.id, RecordingRequest())


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Bearer abc",
        "Basic ???",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
def test_what_is_no_credentials(header: str | None) -> None:
    assert basic_credentials(header) is None
