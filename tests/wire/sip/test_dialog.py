from __future__ import annotations

import json

import pytest

from callreel.base.errors import PeerError, UsageError
from callreel.wire.sip.dialog import Dialog, DialogId
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request, Response, build_response, parse_message

INVITE = (
    b"INVITE sip:srs@192.0.2.2 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n"
    b'From: "A, B"  <sip:src@192.0.2.1>;tag=f*1\r\n'
    b"To: sip:srs@192.0.2.2\r\n"
    b"Call-ID: c@192.0.2.1\r\nCSeq: 102 INVITE\r\n"
    b"Contact: <sip:src@10.0.0.1:5080;transport=tcp>;+sip.src\r\n"
    b"Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>\r\n"
    b"Record-Route: <sip:p0.example.com;lr>\r\n\r\n"
)


def invite(data: bytes = INVITE) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def accept(request: Request, contact: str = "<sip:srs@192.0.2.2:5060>") -> Response:
    response = build_response(request, 200, to_tag="t1", headers=[("Contact", contact)])
    again = parse_message(bytes(response))
    assert isinstance(again, Response)
    return again


def server_side() -> Dialog:
    return Dialog.uas(invite(), accept(invite()), Flow(Transport.UDP, "192.0.2.1", 5060))


def in_dialog(method: str, cseq: int, contact: str = "") -> Request:
    text = (
        f"{method} sip:srs@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKb\r\n"
        "From: <sip:src@192.0.2.1>;tag=f*1\r\nTo: <sip:srs@192.0.2.2>;tag=t1\r\n"
        f"Call-ID: c@192.0.2.1\r\nCSeq: {cseq} {method}\r\n{contact}\r\n"
    )
    return invite(text.encode())


def test_request_of_the_server_side() -> None:
    dialog = server_side()
    bye = parse_message(
        bytes(dialog.request("BYE", headers=[("Reason", "x")])).replace(
            b"\r\nFrom", b"\r\nVia: SIP/2.0/UDP h\r\nFrom"
        )
    )
    assert isinstance(bye, Request)
    assert str(bye.uri) == "sip:src@10.0.0.1:5080;transport=tcp"
    assert [str(route.uri.host) for route in bye.route] == [
        "p2.example.com",
        "p1.example.com",
        "p0.example.com",
    ]
    assert str(bye.from_address) == "<sip:srs@192.0.2.2>;tag=t1"
    assert bye.headers["To"] == '"A, B"  <sip:src@192.0.2.1>;tag=f*1'
    assert (bye.call_id, str(bye.cseq), bye.max_forwards) == ("c@192.0.2.1", "1 BYE", 70)
    assert bye.headers["Reason"] == "x"
    assert str(dialog.next_hop()) == "sip:p2.example.com;lr"
    assert dialog.request("UPDATE", contact="sip:me@h").headers["Contact"] == "<sip:me@h>"
    assert dialog.local_cseq == 2


def test_both_sides_agree() -> None:
    request = invite()
    response = accept(request)
    server, client = Dialog.uas(request, response), Dialog.uac(request, response)
    assert server.id == DialogId("c@192.0.2.1", "t1", "f*1")
    assert client.id == DialogId("c@192.0.2.1", "f*1", "t1")
    assert client.route_set == tuple(reversed(server.route_set))
    assert client.remote_target == "sip:srs@192.0.2.2:5060"
    bye = client.request("BYE")
    assert str(bye.cseq) == "103 BYE"
    assert DialogId.of_request(bye) == server.id
    assert str(client.ack(102).cseq) == "102 ACK"
    assert client.local_cseq == 103


def test_out_of_order_requests_are_refused() -> None:
    dialog = server_side()
    dialog.receive_request(in_dialog("INFO", 110))
    with pytest.raises(PeerError) as caught:
        dialog.receive_request(in_dialog("INFO", 109))
    assert caught.value.status == 500
    assert dialog.remote_cseq == 110
    dialog.receive_request(in_dialog("ACK", 102))
    dialog.receive_request(in_dialog("BYE", 4_294_967_295))


def test_target_refresh() -> None:
    dialog = server_side()
    dialog.receive_request(in_dialog("INFO", 103, "Contact: <sip:no@h>\r\n"))
    assert dialog.remote_target == "sip:src@10.0.0.1:5080;transport=tcp"
    dialog.receive_request(in_dialog("UPDATE", 104, "m: <sip:new@10.0.0.2>\r\n"))
    assert dialog.remote_target == "sip:new@10.0.0.2"
    dialog.receive_request(in_dialog("INVITE", 105))
    assert dialog.remote_target == "sip:new@10.0.0.2"
    with pytest.raises(PeerError):
        dialog.receive_request(in_dialog("INVITE", 106, "Contact: garbage\r\n"))
    update = dialog.request("UPDATE", contact="sip:me@h")
    update.headers.set("Via", "SIP/2.0/UDP h;branch=z9hG4bKc")
    moved = build_response(update, 200, headers=[("Contact", "<sip:moved@10.0.0.3>")])
    dialog.receive_response(moved)
    assert dialog.remote_target == "sip:moved@10.0.0.3"
    dialog.receive_response(build_response(update, 488, headers=[("Contact", "<sip:x@y>")]))
    assert dialog.remote_target == "sip:moved@10.0.0.3"


def test_strict_router_gets_itself_in_the_request_uri() -> None:
    data = INVITE.replace(b"<sip:p2.example.com;lr>", b"<sip:p2.example.com>")
    dialog = Dialog.uas(invite(data), accept(invite(data)))
    bye = dialog.request("BYE")
    assert str(bye.uri) == "sip:p2.example.com"
    assert [str(route) for route in bye.route] == [
        "<sip:p1.example.com;lr>",
        "<sip:p0.example.com;lr>",
        "<sip:src@10.0.0.1:5080;transport=tcp>",
    ]
    assert str(dialog.next_hop()) == "sip:p2.example.com"


def test_contact_is_needed_by_the_server_but_not_by_the_client() -> None:
    data = INVITE.replace(b"Contact:", b"X-Contact:")
    with pytest.raises(PeerError, match="Contact"):
        Dialog.uas(invite(data), accept(invite(data)))
    response = accept(invite())
    response.headers.remove("Contact")
    assert Dialog.uac(invite(), response).remote_target == "sip:srs@192.0.2.2"


@pytest.mark.parametrize(
    "flow",
    [
        None,
        Flow(Transport.TCP, "192.0.2.1", 40000),
        Flow(Transport.UDP, "2001:db8::1", 5060, ("2001:db8::2", 5060)),
    ],
)
def test_stored_dialog_goes_on(flow: Flow | None) -> None:
    dialog = Dialog.uas(invite(), accept(invite()), flow)
    dialog.request("OPTIONS")
    again = Dialog.from_dict(json.loads(json.dumps(dialog.to_dict())))
    assert again == dialog
    assert bytes(again.request("BYE")) == bytes(dialog.request("BYE"))


@pytest.mark.parametrize("damage", [{"flow": 3}, {"route_set": None}, {"flow": {"transport": "X"}}])
def test_damaged_dialog_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="dialog"):
        Dialog.from_dict({**server_side().to_dict(), **damage})
    with pytest.raises(UsageError, match="dialog"):
        Dialog.from_dict({})
