"""Are these settings fit to be served? Reads what they name, changes nothing."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from callreel.base.errors import UsageError
from callreel.base.ids import parse_id
from callreel.server.certificate import Files, load
from callreel.server.datadir import DataDir
from callreel.server.explanation import Explanation, explain
from callreel.server.problems import Place, Problem, SettingsRefused, Severity
from callreel.server.review import review
from callreel.server.serve import worker_settings
from callreel.server.settings import Settings, load_settings
from callreel.store import accounts
from callreel.store.database import Database, DatabaseUnavailable
from callreel.store.seal import Seal

DATABASE_S = 5.0
"""How long a database may take to answer."""
_TABLES = ("peers", "trunks", "users", "accounts", "numbers")


@dataclass(frozen=True, slots=True)
class Checked:
    """What is to be said of a file."""

    problems: tuple[Problem, ...]
    """Each with its line, if it is one of the file's."""
    explanation: Explanation | None
    """None where the settings cannot be read."""

    def of(self, severity: Severity) -> list[Problem]:
        """Those that are so bad."""
        return [one for one in self.problems if one.severity is severity]


def check(config: Path | None, options: dict[str, Any]) -> Checked:
    """Look at the settings as ``callreel serve`` would, and closer. Raises ``UsageError`` for a
    file that cannot be read.
    """
    try:
        settings = load_settings(config, options)
    except SettingsRefused as error:
        return Checked(error.problems, None)
    found = [
        *_files(settings),
        *_accounts(settings),
        *review(settings),
        *_secrets(config, settings),
    ]
    text = "" if config is None else config.read_text(encoding="utf-8")
    tables = {*Settings.model_fields} - {name for name, one in options.items() if one is not None}
    problems = sorted((one.located(text, tables) for one in found), key=lambda one: one.line or 0)
    return Checked(tuple(problems), explain(settings))


def _files(settings: Settings) -> Iterator[Problem]:
    """What is named there has to be there."""
    if settings.tls_cert is not None and settings.tls_key is not None:
        try:
            load(Files(settings.tls_cert, settings.tls_key))
        except UsageError as error:
            yield Problem(str(error), ("tls_cert",))
        if _is_open_to_all(settings.tls_key):
            yield Problem(
                f"everybody on this machine can read {settings.tls_key}: chmod 600",
                ("tls_key",),
                Severity.WARNING,
            )
    for name in ("sip_tls_client_ca", "sip_tls_ca"):
        path = getattr(settings, name)
        if path is None:
            continue
        try:
            ssl.create_default_context(cafile=str(path))
        except ssl.SSLError:
            yield Problem(f"{path} holds no certificate in PEM form", (name,))
        except OSError as error:
            yield Problem(f"cannot read {path}: {error.strerror}", (name,))
    try:
        worker_settings(settings, DataDir(settings.data.absolute()))
    except UsageError as error:
        yield Problem(str(error), ("rtp_ports",))


def _accounts(settings: Settings) -> Iterator[Problem]:
    """Accounts that calls are given to have to exist."""
    named: list[tuple[Place, str]] = [
        ((table, number, "account_sid"), one.account_sid)
        for table in _TABLES
        for number, one in enumerate(getattr(settings, table))
        if one.account_sid is not None
    ]
    wrong = [place for place, sid in named if parse_id(sid) is None]
    for place in wrong:
        yield Problem("this is no AccountSid: want a dashed UUID, or AC and 32 hex digits", place)
    if len(wrong) == len(named):
        return
    try:
        known = asyncio.run(_known_accounts(settings))
    except UsageError as error:
        yield Problem(str(error), ("database_url",))
        return
    except (SQLAlchemyError, DatabaseUnavailable, OSError, TimeoutError):
        known = None
    if known is None:
        text = "the database cannot be read now: whether the accounts exist was not looked up"
        yield Problem(text, (), Severity.NOTE)
        return
    for place, sid in named:
        if place not in wrong and parse_id(sid) not in known:
            yield Problem(f"there is no account {sid}: callreel accounts create", place)


async def _known_accounts(settings: Settings) -> set[str] | None:
    """Their ids; None where there is no database yet, or none that we may open."""
    data = DataDir(settings.data.absolute())
    url = settings.database_url or f"sqlite:///{data.database}"
    path = make_url(url).database or ""
    if url.startswith("sqlite") and not os.access(path, os.R_OK | os.W_OK):
        return None
    database = Database(url, Seal(bytes(32)))  # nothing that is sealed is read
    try:
        async with asyncio.timeout(DATABASE_S), database.read() as connection:
            return set(await accounts.ids(connection))
    finally:
        await database.close()


def _secrets(config: Path | None, settings: Settings) -> Iterator[Problem]:
    """A file with passwords is nobody else's to read."""
    has_secrets = (
        settings.bootstrap_auth_token is not None
        or bool(settings.users)
        or any(one.password is not None for one in settings.trunks)
    )
    if config is not None and has_secrets and _is_open_to_all(config):
        yield Problem(
            f"everybody on this machine can read the passwords in {config}: chmod 600 (or 640)",
            (),
            Severity.WARNING,
        )


def _is_open_to_all(path: Path) -> bool:
    with suppress(OSError):
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    return False
