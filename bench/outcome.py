"""What became of recordings: their reports and files, fetched and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.client import HttpClient


@dataclass(slots=True)
class Findings:
    """What went wrong."""

    wrong: list[str] = field(default_factory=list)
    """A sentence each."""

    def unless(self, good: bool, sentence: str) -> None:
        """Note what is wrong."""
        if not good:
            self.wrong.append(sentence)

    def show(self, at_most: int = 20) -> None:
        """Print it."""
        for sentence in self.wrong[:at_most]:
            print(f"  WRONG: {sentence}")
        if len(self.wrong) > at_most:
            print(f"  WRONG: and {len(self.wrong) - at_most} more")


async def fetch_reports(
    http: HttpClient, account: str, recordings: Mapping[int, str], found: Findings
) -> dict[int, dict[str, Any]]:
    """The integrity reports by call, each file held against its report's checksum.

    ``recordings`` are SIDs by call, ``account`` the account's path.
    """
    reports = {}
    for number, sid in recordings.items():
        path = f"{account}/Recordings/{sid}"
        answer = await http.get(f"{path}/Integrity.json")
        media = await http.get(f"{path}.wav")
        if answer.status != 200 or media.status != 200:
            found.unless(False, f"call {number}: no report or no file")
            continue
        report = reports[number] = answer.json()
        found.unless(
            hashlib.sha256(media.body).hexdigest() == report["sha256"],
            f"call {number}: the file is not the one that its report names",
        )
    return reports
