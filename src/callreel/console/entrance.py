"""Signing in and out, and how the pages look."""

from __future__ import annotations

import hmac
import math
import secrets

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from callreel.base.errors import PeerError
from callreel.console.forms import posted, query
from callreel.console.rendering import Pages
from callreel.console.visit import (
    FORM_TOKEN,
    ROOT,
    SESSION_COOKIE,
    THEME_COOKIE,
    THEMES,
    ZONE_COOKIE,
    Visit,
    check_origin,
    own_path,
    set_cookie,
    theme_of,
    too_many,
)
from callreel.console.zones import Zone, known_zones
from callreel.service.errors import TooManyFailures
from callreel.service.sign_in import SignInService

DOOR_COOKIE = "callreel_door"
_YEAR_S = 365 * 86_400
_LONGEST_FIELD = 200


class Entrance:
    """The pages of somebody who is not signed in yet, and of whoever leaves."""

    def __init__(self, sign_in: SignInService, pages: Pages) -> None:
        self._sign_in = sign_in
        self._pages = pages

    async def show(self, request: Request) -> Response:
        """The form."""
        return self._form(request, where=own_path(query(request).get("next") or "/"))

    async def enter(self, request: Request) -> Response:
        """Credentials that were typed in."""
        try:
            check_origin(request)
            form = await posted(request)
        except PeerError as error:
            return self._form(request, problem=str(error), status=error.status)
        where = own_path(form.get("next") or "/")
        door = request.cookies.get(DOOR_COOKIE, "")
        if not door or not hmac.compare_digest(door.encode(), form.get(FORM_TOKEN).encode()):
            return self._form(request, where, "The form was too old. Try again.", status=400)
        username, password = form.get("username"), form.get("password")
        source = request.client.host if request.client else ""
        try:
            secret = await self._sign_in.sign_in(
                username[:_LONGEST_FIELD], password[:_LONGEST_FIELD], source=source
            )
        except TooManyFailures as error:
            answer = self._form(request, where, too_many(error), username, status=429)
            answer.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
            return answer
        if secret is None:
            problem = "No account has this SID and token, or this key and secret."
            return self._form(request, where, problem, username, status=403)
        answer = self._pages.dressed(RedirectResponse(ROOT + where, 303), "")
        answer.delete_cookie(DOOR_COOKIE, path=ROOT)
        set_cookie(request, answer, SESSION_COOKIE, secret)
        if zone := form.get("zone"):
            set_cookie(request, answer, ZONE_COOKIE, Zone.named(zone).name, lasts_s=_YEAR_S)
        return answer

    async def leave(self, visit: Visit) -> Response:
        """Their session ends."""
        self._sign_in.sign_out(visit.request.cookies.get(SESSION_COOKIE, ""))
        answer = visit.go("/sign-in")
        answer.delete_cookie(SESSION_COOKIE, path=ROOT)
        return answer

    async def display(self, visit: Visit) -> Response:
        """Zone and colours, to be chosen."""
        return visit.page("display.html", zones=known_zones(), themes=THEMES)

    async def set_display(self, visit: Visit) -> Response:
        """They were chosen."""
        answer = visit.go(own_path(visit.form.get("next") or "/display"))
        if zone := visit.form.get("zone"):
            set_cookie(visit.request, answer, ZONE_COOKIE, Zone.named(zone).name, lasts_s=_YEAR_S)
        if (theme := visit.form.get("theme")) in THEMES:
            set_cookie(visit.request, answer, THEME_COOKIE, theme, lasts_s=_YEAR_S)
        return answer

    def _form(
        self,
        request: Request,
        where: str = "/",
        problem: str = "",
        username: str = "",
        *,
        status: int = 200,
    ) -> Response:
        door = request.cookies.get(DOOR_COOKIE) or secrets.token_urlsafe(32)
        answer = self._pages.answer(
            "sign_in.html",
            status=status,
            nonce=secrets.token_urlsafe(16),
            visit=None,
            theme=theme_of(request),
            form_token=door,
            next=where,
            problem=problem,
            username=username,
        )
        set_cookie(request, answer, DOOR_COOKIE, door)
        return answer
