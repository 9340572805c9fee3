"""Owed webhooks: listed, shown with every try, sent again under the same id."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from callreel.calls.model import Account, DeliveryState, Dialect, Recording
from callreel.service.deliveries import DeliveryService, shown_url
from callreel.service.errors import NotFound
from callreel.store import accounts, deliveries
from callreel.store.deliveries import Attempt, DeliveryFilter
from tests.service.conftest import ALL_EVENTS, House


async def a_finished_one(house: House) -> Recording:
    call = await house.a_call()
    started, _ = await house.recordings.start(house.account, call.id, ALL_EVENTS)
    await house.recordings.stop(started)
    assert await house.finishing.drain(5)
    return await house.recordings.get(house.account, started.id)


async def tried(house: House, delivery_id: str, state: DeliveryState) -> None:
    """As the delivery loop notes a try that came to nothing, or to something."""
    now = house.context.clock.now()
    attempt = Attempt(now, "answered", 12, status=500, answer=b"no")
    async with house.context.database.begin() as connection:
        await deliveries.record_attempt(connection, delivery_id, attempt, state=state, next_at=None)


async def test_the_newest_first_narrowed_by_what_is_asked(house: House) -> None:
    service = DeliveryService(house.context)
    one, two = await a_finished_one(house), await a_finished_one(house)
    every = await service.page(DeliveryFilter(), size=10)
    assert [(each.recording_id, each.event) for each in every.items] == [
        (two.id, "completed"),
        (two.id, "in-progress"),
        (one.id, "completed"),
        (one.id, "in-progress"),
    ]
    chosen = DeliveryFilter(recording_id=one.id, event="completed")
    (found,) = (await service.page(chosen, size=10)).items
    assert found.id == every.items[2].id
    await tried(house, found.id, DeliveryState.FAILED)
    failed = await service.page(DeliveryFilter(state=DeliveryState.FAILED), size=10)
    assert [each.id for each in failed.items] == [found.id]
    of_call = await service.page(DeliveryFilter(call_id=two.call_id), size=1)
    assert len(of_call.items) == 1
    assert of_call.next is not None
    rest = await service.page(DeliveryFilter(call_id=two.call_id), size=9, position=of_call.next)
    assert [each.id for each in rest.items] == [every.items[1].id]


async def test_an_account_sees_its_own_alone(house: House) -> None:
    service = DeliveryService(house.context)
    await a_finished_one(house)
    stranger = Account("f" * 32, Dialect.TWILIO, "token", "token", house.account.created_at)
    async with house.context.database.begin() as connection:
        await accounts.add(connection, house.context.database.seal, stranger)
    mine = await service.page(DeliveryFilter(), size=10, account=house.account)
    assert len(mine.items) == 2
    asking_for_mine = DeliveryFilter(account_id=house.account.id)
    assert not (await service.page(asking_for_mine, size=10, account=stranger)).items
    with pytest.raises(NotFound):
        await service.get(mine.items[0].id, account=stranger)
    assert (await service.get(mine.items[0].id, account=house.account)).event == "completed"
    await tried(house, mine.items[0].id, DeliveryState.FAILED)
    assert await service.replay_failed(account=stranger) == 0
    assert await service.replay_failed(account=house.account) == 1


async def test_one_is_sent_again_under_its_id_and_its_tries_stay(house: House) -> None:
    service = DeliveryService(house.context)
    recording = await a_finished_one(house)
    _, completed = await house.owed(recording.id)
    await tried(house, completed.id, DeliveryState.DELIVERED)
    told = len(house.notified)
    again = await service.replay(await service.get(completed.id))
    assert again.state is DeliveryState.PENDING
    assert again.next_at is not None
    assert again.next_at - completed.created_at < timedelta(minutes=5)
    assert len(house.notified) == told + 1
    assert [one.answer for one in await service.attempts(again)] == [b"no"]
    await tried(house, completed.id, DeliveryState.DELIVERED)
    assert len(await service.attempts(again)) == 2
    with pytest.raises(NotFound):
        await service.replay(replace(again, id="0" * 32))


async def test_all_that_were_given_up_are_sent_again_and_no_others(house: House) -> None:
    service = DeliveryService(house.context)
    one, two = await a_finished_one(house), await a_finished_one(house)
    for recording in (one, two):
        in_progress, completed = await house.owed(recording.id)
        await tried(house, in_progress.id, DeliveryState.DELIVERED)
        await tried(house, completed.id, DeliveryState.FAILED)
    assert await service.replay_failed(DeliveryFilter(recording_id=one.id)) == 1
    assert await service.replay_failed(DeliveryFilter(event="completed")) == 1
    assert await service.replay_failed() == 0
    states = [each.state for each in (*await house.owed(one.id), *await house.owed(two.id))]
    assert states == [DeliveryState.DELIVERED, DeliveryState.PENDING] * 2


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert shown_url("https://me:pw@h.example:8443/a/b?token=1#rt=5") == (
        "https://me@h.example:8443/a/b?…"
    )
    assert shown_url("http://h.example/cb") == "http://h.example/cb"
    assert shown_url("http://[oops") == "(not a URL)"
