"""One request of somebody who is signed in, and the doors it has to pass."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from callreel.base.errors import CallreelError, MachineError, PeerError
from callreel.base.ids import parse_id
from callreel.calls.model import Account
from callreel.calls.spelling import Kind, spell
from callreel.console.forms import Form, posted
from callreel.console.rendering import Pages
from callreel.console.zones import Zone
from callreel.service.errors import NotFound, TooManyFailures, Unavailable
from callreel.service.sign_in import SignedIn, SignInService

log = logging.getLogger(__name__)

ROOT = "/console"
SESSION_COOKIE = "callreel_session"
ZONE_COOKIE = "callreel_zone"
THEME_COOKIE = "callreel_theme"
THEMES = ("auto", "light", "dark")
FORM_TOKEN = "form_token"
FORM_HEADER = "x-form-token"


@dataclass(frozen=True, slots=True)
class Visit:
    """A request and whose it is."""

    request: Request
    """As it came."""
    signed_in: SignedIn
    """Who asks."""
    pages: Pages
    """To answer with."""
    form: Form
    """What was sent with it; empty unless it is a POST."""
    nonce: str
    """Of this answer: what our script may style with."""

    @property
    def account(self) -> Account:
        """Whose data they see."""
        return self.signed_in.account

    @property
    def zone(self) -> Zone:
        """Theirs."""
        return Zone.named(self.request.cookies.get(ZONE_COOKIE))

    @property
    def is_partial(self) -> bool:
        """Whether htmx asks, for a part of a page."""
        return self.request.headers.get("hx-request") == "true"

    def id_of(self, name: str) -> str:
        """The id that a SID in the path stands for. Raises ``NotFound``."""
        found = parse_id(self.request.path_params[name])
        if found is None:
            raise NotFound("no such page")
        return found

    def sid(self, kind: Kind, id_: str) -> str:
        """An id as this account's API spells it."""
        return spell(kind, id_, self.account.dialect)

    def page(self, template: str, /, *, status: int = 200, **context: Any) -> Response:
        """A whole page, or a part of one."""
        session = self.signed_in.session
        notice, session.notice = session.notice, ""
        return self.pages.answer(
            template,
            status=status,
            nonce=self.nonce,
            visit=self,
            zone=self.zone,
            theme=theme_of(self.request),
            notice=notice,
            form_token=session.form_token,
            **context,
        )

    def go(self, path: str, notice: str = "") -> Response:
        """On to another page, which says this."""
        self.signed_in.session.notice = notice
        if self.is_partial:
            return self.pages.dressed(Response(headers={"HX-Redirect": ROOT + path}), self.nonce)
        return self.pages.dressed(RedirectResponse(ROOT + path, 303), self.nonce)


Handler = Callable[[Visit], Awaitable[Response]]


class Guard:
    """Lets nobody in who is not signed in, and no form that is not of their own pages."""

    def __init__(self, sign_in: SignInService, pages: Pages) -> None:
        self._sign_in = sign_in
        self._pages = pages

    def __call__(
        self, handler: Handler, *, idle: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """A handler behind the door. ``idle``: their page asks by itself, not they."""

        async def endpoint(request: Request) -> Response:
            nonce = secrets.token_urlsafe(16)
            secret = request.cookies.get(SESSION_COOKIE, "")
            signed_in = await self._sign_in.find(secret, idle=idle) if secret else None
            if signed_in is None:
                return self._to_sign_in(request, nonce)
            form = Form([])
            try:
                if request.method == "POST":
                    check_origin(request)
                    form = await posted(request)
                    token = request.headers.get(FORM_HEADER) or form.get(FORM_TOKEN)
                    if not signed_in.is_own_form(token):
                        raise PeerError("This form is not of your session. Load it again.")
                return await handler(Visit(request, signed_in, self._pages, form, nonce))
            except CallreelError as error:
                visit = Visit(request, signed_in, self._pages, form, nonce)
                return refusal(visit, error)
            except Exception as error:
                log.error("%s %s failed", request.method, request.url.path, exc_info=error)
                broken = MachineError("something went wrong")
                return refusal(Visit(request, signed_in, self._pages, form, nonce), broken)

        return endpoint

    def _to_sign_in(self, request: Request, nonce: str) -> Response:
        asked = request.url.path.removeprefix(ROOT)
        if request.url.query and request.method == "GET":
            asked += f"?{request.url.query}"
        where = f"{ROOT}/sign-in"
        if request.method == "GET" and asked not in ("", "/"):
            where += f"?next={quote(asked)}"
        if request.headers.get("hx-request") == "true":
            return self._pages.dressed(Response(headers={"HX-Redirect": where}), nonce)
        accepted = request.headers.get("accept", "*/*")
        if "text/html" not in accepted and "*/*" not in accepted:
            return self._pages.dressed(PlainTextResponse("Sign in.", 401), nonce)
        return self._pages.dressed(RedirectResponse(where, 303), nonce)


def refusal(visit: Visit, error: CallreelError) -> Response:
    """The page that says what could not be done. Nothing that is another's is told from nothing."""
    if isinstance(error, NotFound):
        title, text, status = "Not here", "There is no such thing in this account.", 404
    elif isinstance(error, TooManyFailures):
        title, text, status = "Wait", too_many(error), 429
    elif isinstance(error, PeerError):
        title, text, status = "That cannot be done", str(error), error.status
    elif isinstance(error, Unavailable | MachineError):
        title, status = "Not now", 503
        text = "The server cannot do this now. Try again in a moment; its log says why."
    else:
        title, text, status = "That cannot be done", _sentence(str(error)), 409
    if visit.is_partial:
        # htmx shows no answer that is an error: told as a notice instead.
        answer = visit.page("notice.html", refused=text)
        answer.headers["HX-Reswap"] = "none"
        return answer
    return visit.page("refusal.html", status=status, title=title, text=text)


def too_many(error: TooManyFailures) -> str:
    """How long to wait."""
    seconds = math.ceil(error.retry_after_s)
    return f"Too many wrong credentials came from your address. Try again in {seconds} s."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def check_origin(request: Request) -> None:
    """A form of another site is refused, whatever it knows. Raises ``PeerError``."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if site not in ("same-origin", "none") or foreign:
        raise PeerError("This form comes from another site.", status=403)


def theme_of(request: Request) -> str:
    """How they want it to look."""
    found = request.cookies.get(THEME_COOKIE, "")
    return found if found in THEMES else "auto"


def own_path(text: str) -> str:
    """A path within the console that may be gone to, else its beginning: never another site."""
    parts = urlsplit(text)
    good = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if good and not parts.netloc and "\\" not in text else "/"


def set_cookie(
    request: Request, answer: Response, name: str, value: str, *, lasts_s: int | None = None
) -> None:
    """A cookie that only our own pages send and no script reads."""
    answer.set_cookie(
        name,
        value,
        max_age=lasts_s,
        path=ROOT,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
