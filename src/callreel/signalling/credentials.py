"""Requests of ours that are challenged: sent again with an answer (RFC 3261 §22.2).

The second request is a new transaction of the same call: its CSeq one higher, Call-ID and tags the
same (§8.1.3.5). The ACK of a challenged INVITE is the transaction layer's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from callreel.signalling.user_agent import RequestRefused, UserAgent
from callreel.wire.sip.dialog import Dialog
from callreel.wire.sip.digest_client import DigestClient, answers_something_new
from callreel.wire.sip.flow import Flow
from callreel.wire.sip.message import Request, Response
from callreel.wire.sip.values import CSeq

MAX_REPEATS = 2
"""A proxy's challenge and the server's, or a nonce that was stale: then it must do."""

OnProvisional = Callable[[Response], None]


class Credentialed:
    """The answers to the challenges that one request meets, on its way through proxies.

    Called with the request sent last and its final response, it gives the request to send next, or
    None: the response is final indeed. A 401 or 407 then means that the credentials are refused,
    or that there is no challenge we can answer.
    """

    def __init__(self, client: DigestClient) -> None:
        self._client = client
        self._answered: set[tuple[str, str]] = set()
        self._repeats = 0

    def __call__(self, request: Request, response: Response) -> Request | None:
        """What to send next, its CSeq one higher; None: nothing."""
        if not self.receive(response):
            return None
        again = request.copy()
        again.cseq = CSeq(request.cseq.sequence + 1, request.method)
        self._client.dress(again)
        return again

    def receive(self, response: Response) -> bool:
        """Whether it is worth while to send the request again, with fresh answers."""
        if response.code not in (401, 407) or self._repeats == MAX_REPEATS:
            return False
        challenges = self._client.receive(response)
        if not answers_something_new(challenges, self._answered):
            return False
        self._repeats += 1
        self._answered.update(one.place for one in challenges)
        return True


async def send_with_credentials(
    send: Callable[[Request], Awaitable[Response]], request: Request, client: DigestClient
) -> tuple[Request, Response]:
    """Send ``request`` by ``send``, again with an answer for each 401 and 407 that ``client`` can
    meet, at most twice. Returns the request sent last, and its final response.
    """
    client.dress(request)
    amend = Credentialed(client)
    response = await send(request)
    while (again := amend(request, response)) is not None:
        request = again
        response = await send(request)
    return request, response


async def request_with_credentials(
    agent: UserAgent,
    request: Request,
    flow: Flow,
    client: DigestClient,
    *,
    on_provisional: OnProvisional | None = None,
) -> tuple[Request, Response]:
    """:meth:`UserAgent.request`, with credentials. Returns the request sent last, whose CSeq
    counts from now on, and the final response. Raises ``RequestFailed``.
    """
    return await send_with_credentials(
        lambda one: agent.request(one, flow, on_provisional=on_provisional), request, client
    )


async def invite_with_credentials(
    agent: UserAgent,
    request: Request,
    flow: Flow,
    client: DigestClient,
    *,
    on_provisional: OnProvisional | None = None,
) -> tuple[Dialog, Response]:
    """:meth:`UserAgent.invite`, with credentials. Raises ``RequestRefused``, ``RequestFailed``."""
    request, response = await request_with_credentials(
        agent, request, flow, client, on_provisional=on_provisional
    )
    if response.code >= 300:
        raise RequestRefused(response)
    dialog = Dialog.uac(request, response, flow)
    await agent.acknowledge(dialog, request.cseq.sequence)
    return dialog, response


async def request_in_dialog_with_credentials(
    agent: UserAgent,
    dialog: Dialog,
    method: str,
    client: DigestClient,
    *,
    body: bytes = b"",
    content_type: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    """:meth:`UserAgent.request_in_dialog`, with credentials. Raises ``RequestFailed``."""
    own = list(headers)
    amend = Credentialed(client)
    while True:
        answers = client.headers(method, dialog.remote_target, body)
        response = await agent.request_in_dialog(
            dialog, method, body=body, content_type=content_type, headers=[*own, *answers]
        )
        if not amend.receive(response):
            return response
