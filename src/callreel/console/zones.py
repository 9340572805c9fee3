"""Times as the viewer's clock shows them, always with their zone; pure but for the zone tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone by its name in the tz database."""

    name: str
    """``Europe/Berlin``, ``UTC`` …"""
    tz: tzinfo
    """Its rules."""

    @classmethod
    def named(cls, name: str | None) -> Zone:
        """The zone of that name, or UTC where there is none."""
        if name and len(name) <= _LONGEST:
            try:
                return cls(name, ZoneInfo(name))
            except (ZoneInfoNotFoundError, ValueError, OSError):
                pass
        return cls("UTC", UTC)

    def offset(self, now: datetime) -> str:
        """``UTC+02:00``."""
        minutes = round((now.astimezone(self.tz).utcoffset() or timedelta()).total_seconds() / 60)
        sign = "-" if minutes < 0 else "+"
        return f"UTC{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "UTC"

    def abbreviation(self, moment: datetime) -> str:
        """``CET``; the offset where the zone has no letters for it."""
        short = moment.astimezone(self.tz).tzname() or ""
        return short if short.isalpha() else self.offset(moment)

    def day_and_time(self, moment: datetime) -> str:
        """``28 Nov 2026, 21:40:05 CET``."""
        local = moment.astimezone(self.tz)
        return f"{local.day} {local:%b %Y, %H:%M:%S} {self.abbreviation(moment)}"

    def start_of(self, day: date) -> datetime:
        """When a day begins here."""
        return datetime.combine(day, time.min, self.tz).astimezone(UTC)


def known_zones() -> list[str]:
    """The zones that one may choose from, in order."""
    places = ("Africa/", "America/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/")
    return ["UTC", *sorted(n for n in available_timezones() if n.startswith((*places, "Pacific/")))]
