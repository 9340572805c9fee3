"""What every test may use, and the gate's rule that no peer may be missing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

_MAY_SKIP = {"object_store", "soak"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With CALLREEL_TEST_NO_SKIP set, a skip for want of a peer is a failure."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    marks = {mark.name for mark in item.iter_markers()}
    strict = "CALLREEL_TEST_NO_SKIP" in os.environ and not marks & _MAY_SKIP
    if strict and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report  # type: ignore[return-value]
