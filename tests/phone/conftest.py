"""What the tests of the phone share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.phone.phones import Phones


@pytest.fixture
async def phones() -> AsyncIterator[Phones]:
    made = Phones()
    yield made
    await made.close()
