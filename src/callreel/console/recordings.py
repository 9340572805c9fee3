"""The list of recordings: narrowed, searched, paged; many downloaded or deleted at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC

from starlette.responses import Response, StreamingResponse

from callreel.base.errors import CallreelError
from callreel.base.ids import parse_id
from callreel.calls.model import Recording
from callreel.console import filters
from callreel.console.forms import query
from callreel.console.live import DIRECTIONS
from callreel.console.services import ConsoleServices
from callreel.console.visit import Visit
from callreel.console.words import Parties, counted
from callreel.service.errors import NotFound, Unfinished
from callreel.service.media import MediaFormat
from callreel.store.pages import Page

PAGE = 50
MOST_AT_ONCE = 500


class RecordingsPages:
    """The list and what is done to many of it."""

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services

    async def show(self, visit: Visit) -> Response:
        """The list; only its rows where htmx asks."""
        form = query(visit.request)
        chosen = filters.read(form, visit.zone)
        page = await self._page(visit, chosen)
        calls = await self._services.calls.some(visit.account, [r.call_id for r in page.items])
        answer = visit.page(
            "recordings_rows.html" if visit.is_partial else "recordings.html",
            page=page,
            parties={one.id: Parties.of(calls.get(one.call_id)) for one in page.items},
            directions={
                one.id: DIRECTIONS[call.direction] if (call := calls.get(one.call_id)) else ""
                for one in page.items
            },
            chosen=chosen,
            filters=filters,
        )
        if visit.is_partial:
            link = chosen.link(chosen.position)
            answer.headers["HX-Replace-Url"] = "/console/recordings" + (f"?{link}" if link else "")
        answer.headers["Vary"] = "HX-Request"
        return answer

    async def _page(self, visit: Visit, chosen: filters.Chosen) -> Page[Recording]:
        services = self._services
        if chosen.recording_id is not None:
            try:
                return Page(
                    [await services.recordings.get(visit.account, chosen.recording_id)], None, None
                )
            except NotFound:
                pass  # then it may be a call's SID
        return await services.recordings.page(
            visit.account, chosen.filter, size=PAGE, position=chosen.position
        )

    async def bulk(self, visit: Visit) -> Response:
        """What is asked of those that were ticked."""
        ids = list(dict.fromkeys(filter(None, map(parse_id, visit.form.every("id")))))
        back = "/recordings" + (f"?{link}" if (link := visit.form.get("list")) else "")
        if not ids:
            return visit.go(back, "Tick some recordings first.")
        if len(ids) > MOST_AT_ONCE:
            return visit.go(back, f"At most {MOST_AT_ONCE} at once.")
        match visit.form.get("action"):
            case "download-wav":
                return await self._download(visit, ids, MediaFormat.WAV)
            case "download-mp3":
                return await self._download(visit, ids, MediaFormat.MP3)
            case "delete" if visit.form.get("confirmed") == "yes":
                return visit.go(back, await self._delete(visit, ids))
            case "delete":
                return await self._ask(visit, ids)
            case _:
                return visit.go(back)

    async def _ask(self, visit: Visit, ids: Sequence[str]) -> Response:
        """Whether they are really to be deleted."""
        found = [await self._services.recordings.get(visit.account, one) for one in ids]
        calls = await self._services.calls.some(visit.account, [one.call_id for one in found])
        return visit.page(
            "delete.html",
            recordings=found,
            parties={one.id: Parties.of(calls.get(one.call_id)) for one in found},
            list=visit.form.get("list"),
        )

    async def _delete(self, visit: Visit, ids: Sequence[str]) -> str:
        """Delete them, each for itself; what came of it."""
        deleted, live, failed = 0, 0, 0
        for one in ids:
            try:
                await self._services.deletion.delete(visit.account, one)
                deleted += 1
            except NotFound:
                continue  # somebody else was quicker
            except Unfinished:
                live += 1
            except CallreelError:
                failed += 1
        said = f"{counted(deleted, 'recording')} deleted."
        if live:
            said += f" {counted(live, 'is', 'are')} not finished yet, and stayed."
        if failed:
            said += f" {failed} could not be deleted completely: the rest goes as soon as it can."
        return said

    async def _download(self, visit: Visit, ids: Sequence[str], format_: MediaFormat) -> Response:
        pieces = self._services.bundle.stream(visit.account, ids, format_)
        first = await anext(pieces)  # raises before anything is answered

        async def all_of_it() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                if piece:
                    yield piece

        now = self._services.now().astimezone(UTC)
        answer = StreamingResponse(all_of_it(), media_type="application/zip")
        answer.headers["Content-Disposition"] = (
            f'attachment; filename="recordings-{now:%Y%m%d-%H%M%S}.zip"'
        )
        return visit.pages.dressed(answer, visit.nonce)
