"""The OpenAPI document and the page: whole, true, and the same as what is served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any, cast

import httpx
import pytest
from jsonschema import Draft202012Validator

from callreel.api import (
    calls,
    conferences,
    health,
    media,
    metrics,
    openapi,
    recordings,
    reference,
)
from callreel.api.app import ApiServices, create_app
from callreel.api.codes import ADVICE, Code
from callreel.api.openapi import document, document_bytes
from callreel.api.operations import OPERATIONS, TAGS, Operation
from callreel.api.pages import PageRequest, page_object
from callreel.api.parameters import Parameter
from callreel.api.params import Params
from callreel.api.reference import curl, page
from callreel.api.resources import View, call_object, recording_object
from callreel.calls.model import (
    CallDirection,
    CallStatus,
    RecordingChannels,
    RecordingRequest,
    RecordingSource,
    RecordingStatus,
    RecordingTrack,
    Trim,
)
from callreel.store.pages import Page, Position
from tests.service.conftest import House
from tests.store.samples import ACCOUNT, NOW, OTHER, a_call, a_recording, an_id

DOCUMENT = document()
SIGNALWIRE = View(ACCOUNT, "/api/laml", "https://rec.example.com")
TWILIO = View(OTHER, "", "https://rec.example.com/behind/a/proxy")
OPERATION_IDS = [operation.name for operation in OPERATIONS]


def conforms(name: str, value: object) -> None:
    """To a schema of the document, and to no looser one than it must."""
    components = {"components": {"schemas": DOCUMENT["components"]["schemas"]}}
    Draft202012Validator({"$ref": f"#/components/schemas/{name}", **components}).validate(value)


def every_recording() -> Iterator[Any]:
    for status in RecordingStatus:
        for source in RecordingSource:
            for channels in RecordingChannels:
                for track in RecordingTrack:
                    request = RecordingRequest(channels, track, Trim.TRIM_SILENCE)
                    yield replace(a_recording(request=request), status=status, source=source)
    running = replace(a_recording(), start_time=NOW)
    yield running
    ended = replace(running, end_time=NOW + timedelta(seconds=94))
    yield replace(ended, status=RecordingStatus.COMPLETED, duration_ms=94_020)
    for code in (16101, 16102):
        yield replace(ended, status=RecordingStatus.ABSENT, error_code=code, duration_ms=0)


def every_call() -> Iterator[Any]:
    for status in CallStatus:
        for direction in CallDirection:
            yield replace(a_call(), status=status, direction=direction)
    yield replace(
        a_call(),
        status=CallStatus.COMPLETED,
        start_time=NOW,
        end_time=NOW + timedelta(seconds=61),
        caller_name="Ann",
        parent_call_id=an_id(11),
        sip_result_code=200,
    )


@pytest.mark.parametrize("view", [SIGNALWIRE, TWILIO], ids=["signalwire", "twilio"])
def test_every_resource_is_what_its_schema_says(view: View) -> None:
    vendor = "Twilio" if view.twilio else "SignalWire"
    for recording in every_recording():
        shown = recording_object(view, recording, under_call=False)
        below = recording_object(view, recording, under_call=True)
        conforms(f"{vendor}Recording", shown)
        conforms("Recording", shown)
        conforms("TwilioCallRecording" if view.twilio else "SignalWireRecording", below)
        conforms("CallRecording", below)
    for call in every_call():
        conforms(f"{vendor}Call", call_object(view, call))
        conforms("Call", call_object(view, call))


@pytest.mark.parametrize("view", [SIGNALWIRE, TWILIO], ids=["signalwire", "twilio"])
@pytest.mark.parametrize("edges", [True, False])
def test_every_list_is_what_its_schema_says(view: View, edges: bool) -> None:
    position = None if edges else Position(NOW, an_id(7))
    asked = PageRequest(50, 0 if edges else 3, position)
    for name, key, item in (
        ("RecordingList", "recordings", recording_object(view, a_recording(), under_call=False)),
        ("CallRecordingList", "recordings", recording_object(view, a_recording(), under_call=True)),
        ("CallList", "calls", call_object(view, a_call())),
    ):
        for items in ([], [item]):
            shown = page_object(
                key,
                items,
                Page(items, position, position),
                asked,
                path=f"{view.account_path}/Anything.json",
                filters=[("DateCreated>", "2026-11-22")],
                twilio=view.twilio,
            )
            conforms(name, shown)


def test_a_schema_takes_no_key_more_and_none_less() -> None:
    names = ("SignalWireRecording", "TwilioRecording", "TwilioCallRecording", "TwilioCall", "Error")
    for name in names:
        schema = DOCUMENT["components"]["schemas"][name]
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])


def every_schema(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("schema", "schemas") and isinstance(inner, dict):
                yield from (inner.values() if key == "schemas" else (inner,))
            yield from every_schema(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every_schema(inner)


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    found = list(every_schema(DOCUMENT))
    assert len(found) > 100
    for schema in found:
        Draft202012Validator.check_schema(schema)
    for target in re.findall(r'"\$ref":"#/([^"]+)"', document_bytes().decode()):
        at: Any = DOCUMENT
        for step in target.split("/"):
            at = at[step]


def test_every_example_is_what_its_schema_says() -> None:
    seen = 0
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if "example" in parameter:
                    Draft202012Validator(parameter["schema"]).validate(
                        int(parameter["example"])
                        if parameter["name"] in ("PageSize", "code")
                        else parameter["example"]
                    )
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    for example in content.get("examples", {}).values():
                        conforms(content["schema"]["$ref"].rpartition("/")[2], example["value"])
                        seen += 1
    assert seen > 20


def served() -> set[tuple[str, str]]:
    """Method and template of every route of the application."""
    services = cast("ApiServices", _NoServices())
    app = create_app(services, public_url="http://rec.example.com", media_auth="required")
    found = {(method, route.path) for route in app.state.routes for method in route.methods}
    listed = {
        (method, route.path)
        for room in (calls, conferences, health, media, metrics, openapi, recordings, reference)
        for route in room.router.routes
        for method in route.methods
    }
    assert found == listed
    return found


class _NoServices:
    def __getattr__(self, name: str) -> None:
        return None


def test_every_route_is_documented_and_nothing_else() -> None:
    documented = {(operation.method, operation.route_path) for operation in OPERATIONS}
    assert documented - served() == set(), "documented, but not there"
    assert served() - documented == set(), "there, but not documented"


def test_every_parameter_of_a_path_is_documented() -> None:
    for operation in OPERATIONS:
        assert [one.name for one in operation.in_path] == re.findall(r"{(\w+)}", operation.path)
        assert all(one.required for one in operation.in_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the parameters that ``Params`` has been asked for."""
    names: set[str] = set()
    read, given = Params.all, Params.given

    def noted_read(self: Params, name: str) -> list[str]:
        names.add(name)
        return read(self, name)

    def noted_given(self: Params, name: str) -> bool:
        names.add(name)
        return given(self, name)

    monkeypatch.setattr(Params, "all", noted_read)
    monkeypatch.setattr(Params, "given", noted_given)
    return names


@pytest.mark.parametrize("operation", OPERATIONS, ids=OPERATION_IDS)
async def test_what_the_code_asks_for_is_what_is_documented(
    operation: Operation, house: House, asked: set[str]
) -> None:
    """Exactly: nothing is read that is not documented, nothing documented that is not read."""
    recording = await house.a_finished_recording()
    known = {"AccountSid": house.account.id, "CallSid": recording.call_id, "Sid": recording.id}
    path = re.sub(r"{(\w+)}", lambda name: known.get(name[1], "0" * 32), operation.path)
    beside = [dict([one.only_with]) for one in operation.body if one.only_with is not None]
    services = ApiServices(
        accounts=house.accounts,
        calls=house.calls,
        voice=house.voice,
        recordings=house.recordings,
        media=house.audio,
        deletion=house.deletion,
        health=all_is_well,
    )
    app = create_app(services, public_url="http://rec.example.com", media_auth="required")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://host",
        auth=(house.account.id, house.account.auth_token),
    ) as client:
        examples = {one.name: one.example for one in operation.body if one.example is not None}
        for fields in ({}, *beside, examples):
            answer = await client.request(operation.method, path, data=fields or None)
            assert (
                str(answer.status_code)
                in DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
            )
    assert asked == {one.name for one in (*operation.query, *operation.body)}


async def all_is_well() -> dict[str, str]:
    return {"database": "ok"}


def test_every_code_is_in_some_operations_errors() -> None:
    text = document_bytes().decode()
    inside = {
        code
        for numbers in re.findall(r'"code":\{"type":"integer","enum":\[([\d,]+)\]\}', text)
        for code in map(int, numbers.split(","))
    }
    general = {code.value for code in openapi.GENERAL_CODES.values()}
    refused = {code.value for operation in OPERATIONS for code in operation.refused}
    assert general | refused == {code.value for code in Code} == inside


def test_every_operation_has_what_a_reader_needs() -> None:
    assert len(set(OPERATION_IDS)) == len(OPERATION_IDS)
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            assert operation["tags"][0] in TAGS
            assert operation["summary"]
            assert operation["description"]
            guarded = "security" not in operation
            assert guarded == ("401" in operation["responses"])
            for response in operation["responses"].values():
                for link in response.get("links", {}).values():
                    assert link["operationId"] in OPERATION_IDS
    assert DOCUMENT["openapi"].startswith("3.1")
    assert [server["url"] for server in DOCUMENT["servers"]] == ["/", "/api/laml"]


def links(operation: Operation) -> Iterator[tuple[Operation, set[str]]]:
    for answer in operation.answers:
        for name, parameters in answer.links:
            (target,) = (one for one in OPERATIONS if one.name == name)
            yield target, set(parameters)


def test_a_link_gives_every_parameter_of_the_path_it_leads_to() -> None:
    for operation in OPERATIONS:
        for target, given in links(operation):
            assert given == {one.name for one in target.in_path}, (operation.name, target.name)


async def fetched(path: str) -> httpx.Response:
    services = cast("ApiServices", _NoServices())
    app = create_app(services, public_url="http://rec.example.com", media_auth="required")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        return await client.get(path)


@pytest.mark.parametrize("prefix", ["", "/api/laml"])
async def test_the_document_is_served_to_anybody(prefix: str) -> None:
    answer = await fetched(f"{prefix}/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.content) == DOCUMENT


class Seen(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")


async def test_the_page_needs_no_scripts_and_no_other_host() -> None:
    answer = await fetched("/docs")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    seen = Seen(answer.text)
    assert not {"script", "img", "iframe", "form", "object", "link"} & seen.tags
    assert not {"style", "onclick", "onload"} & seen.attributes
    assert all(re.match(r"#|errors/\d+$|openapi\.json$", link) for link in seen.links)
    assert {link[1:] for link in seen.links if link.startswith("#")} <= set(seen.ids)
    assert len(set(seen.ids)) == len(seen.ids)
    assert set(OPERATION_IDS) <= set(seen.ids)
    assert "color-scheme:light dark" in answer.text
    assert "width=device-width" in answer.text


def test_the_page_says_all_that_the_document_says() -> None:
    shown = page("http://rec.example.com")
    for operation in OPERATIONS:
        assert f"</b> {operation.path}</code>" in shown
        for one in (*operation.query, *operation.body, *operation.headers):
            assert f"<code>{one.name.replace('<', '&lt;').replace('>', '&gt;')}</code>" in shown
    for code in Code:
        assert f"id='e{code.value}'" in shown
    assert len(ADVICE) == len(Code)


def test_what_is_written_on_the_page_is_escaped() -> None:
    bad = "http://rec.example.com/<script>alert('1')</script>"
    assert "<script" not in page(bad)
    hostile = Parameter("<b>", {}, "`<i>` **<u>**", "<s>", "<em>", example="'; rm -rf /")
    one = replace(OPERATIONS[0], text="<a href=x>", query=(hostile,), body=(hostile,))
    made = reference._operation(one, "http://host")
    seen = Seen(made)
    assert not {"i", "u", "s", "em"} & seen.tags
    assert "x" not in seen.links


def test_a_command_is_one_that_a_shell_can_run() -> None:
    by_name = {operation.name: curl(operation, "http://host") for operation in OPERATIONS}
    assert by_name["start_recording"].splitlines()[0] == "curl \\"
    assert (
        "--data-urlencode 'RecordingStatusCallbackEvent=in-progress completed'"
        in by_name["start_recording"]
    )
    assert "--request DELETE" in by_name["delete_recording"]
    assert "--head" in by_name["head_media_wav"]
    assert "DateCreated%3E=2026-11-01" in by_name["list_recordings"]
    assert "--user" not in by_name["health"]


def test_a_field_that_is_read_beside_another_names_one_that_is_there() -> None:
    for operation in OPERATIONS:
        for field in operation.body:
            if field.only_with is not None:
                name, value = field.only_with
                (other,) = (one for one in operation.body if one.name == name)
                assert value in other.schema["enum"]
