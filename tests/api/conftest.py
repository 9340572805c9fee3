"""The use cases over a real database, for tests that go through the application."""

from __future__ import annotations

from tests.service.conftest import house

__all__ = ["house"]
