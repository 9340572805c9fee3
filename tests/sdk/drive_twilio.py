"""PyPI's twilio, used as its users do. docs/migrating.md quotes what is between the marks."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

from tests.sdk.driver import CALL, RECORDING, moments, seen, serve

config = json.loads(sys.argv[1])
account_sid, auth_token = config["account_sid"], config["auth_token"]
callreel_url = config["url"]

# begin: connect
client = Client(account_sid, auth_token)
client.api.base_url = callreel_url  # "https://callreel.example.com"
# end: connect


def start(call_sid: str, webhook_url: str) -> dict[str, Any]:
    # begin: start
    recording = client.calls(call_sid).recordings.create(
        recording_channels="dual",
        recording_track="both",
        trim="do-not-trim",
        recording_status_callback=webhook_url,
        recording_status_callback_method="POST",
        recording_status_callback_event=["in-progress", "completed", "absent"],
    )
    # end: start
    return seen(RECORDING, recording)


def start_with(call_sid: str, **parameters: Any) -> dict[str, Any]:
    return seen(RECORDING, client.calls(call_sid).recordings.create(**parameters))


def pause(call_sid: str, behavior: str) -> dict[str, Any]:
    # begin: pause
    current = client.calls(call_sid).recordings("Twilio.CURRENT")
    recording = current.update(status="paused", pause_behavior=behavior)  # "skip" or "silence"
    # end: pause
    return seen(RECORDING, recording)


def resume(call_sid: str, recording_sid: str) -> dict[str, Any]:
    # begin: resume
    recording = client.calls(call_sid).recordings(recording_sid).update(status="in-progress")
    # end: resume
    return seen(RECORDING, recording)


def stop(call_sid: str, recording_sid: str) -> dict[str, Any]:
    # begin: stop
    recording = client.calls(call_sid).recordings(recording_sid).update(status="stopped")
    # end: stop
    return seen(RECORDING, recording)


def fetch(recording_sid: str) -> dict[str, Any]:
    return seen(RECORDING, client.recordings(recording_sid).fetch())


def fetch_of_call(call_sid: str, recording_sid: str) -> dict[str, Any]:
    return seen(RECORDING, client.calls(call_sid).recordings(recording_sid).fetch())


def recordings(**filters: Any) -> list[dict[str, Any]]:
    return [seen(RECORDING, one) for one in client.recordings.list(**moments(filters))]


def each_recording(**filters: Any) -> list[dict[str, Any]]:
    return [seen(RECORDING, one) for one in client.recordings.stream(**moments(filters))]


def there_and_back(**filters: Any) -> list[str]:
    """The SIDs of all pages, forward to the last and back to the first."""
    page = client.recordings.page(**filters)
    found = [one.sid for one in page]
    pages = 1
    while (following := page.next_page()) is not None:
        page = following
        found += [one.sid for one in page]
        pages += 1
    for _ in range(pages - 1):
        page = page.previous_page()
        found += [one.sid for one in page]
    return found


def recordings_of_call(call_sid: str, day: str | None = None) -> list[dict[str, Any]]:
    filters = {} if day is None else {"date_created": datetime.fromisoformat(day)}
    found = client.calls(call_sid).recordings.list(limit=20, **filters)
    return [seen(RECORDING, one) for one in found]


def download(recording_sid: str, suffix: str, path: str) -> dict[str, Any]:
    # begin: download
    recording = client.recordings(recording_sid).fetch()
    url = callreel_url + recording.uri.replace(".json", suffix)  # ".wav", ".mp3"
    answer = requests.get(url, auth=(account_sid, auth_token), timeout=30)
    # end: download
    return _kept(answer, path)


def download_media_url(recording_sid: str, path: str) -> dict[str, Any]:
    recording = client.recordings(recording_sid).fetch()
    answer = requests.get(recording.media_url, auth=(account_sid, auth_token), timeout=30)
    return _kept(answer, path)


def download_part(recording_sid: str, byte_range: str, path: str) -> dict[str, Any]:
    url = callreel_url + client.recordings(recording_sid).fetch().uri.replace(".json", "")
    auth = (account_sid, auth_token)
    return _kept(requests.get(url, auth=auth, headers={"Range": byte_range}, timeout=30), path)


def _kept(answer: requests.Response, path: str) -> dict[str, Any]:
    Path(path).write_bytes(answer.content)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return {"status": answer.status_code, "headers": headers}


def delete(recording_sid: str) -> bool:
    return bool(client.recordings(recording_sid).delete())


def delete_of_call(call_sid: str, recording_sid: str) -> bool:
    return bool(client.calls(call_sid).recordings(recording_sid).delete())


def calls(**filters: Any) -> list[dict[str, Any]]:
    return [seen(CALL, one) for one in client.calls.list(**filters)]


def create_call(to: str, from_: str, url: str, **more: Any) -> dict[str, Any]:
    return seen(CALL, client.calls.create(to=to, from_=from_, url=url, **more))


def redirect_call(call_sid: str, **where: Any) -> dict[str, Any]:
    return seen(CALL, client.calls(call_sid).update(**where))


def voicemail(action: str, recorded: str) -> str:
    """A document made with the vendor's own builder, as those below."""
    response = VoiceResponse()
    response.pause(length=1)
    response.record(
        max_length=20, finish_on_key="#", action=action, recording_status_callback=recorded
    )
    return str(response)


def menu(action: str) -> str:
    response = VoiceResponse()
    gather = Gather(num_digits=1, action=action, timeout=10)
    gather.pause(length=30)
    response.append(gather)
    return str(response)


def bridged(sip_uri: str, action: str) -> str:
    response = VoiceResponse()
    dial = Dial(record="record-from-answer-dual", action=action, timeout=10)
    dial.sip(sip_uri)
    response.append(dial)
    return str(response)


def call(call_sid: str) -> dict[str, Any]:
    return seen(CALL, client.calls(call_sid).fetch())


def update_call(call_sid: str, status: str) -> dict[str, Any]:
    return seen(CALL, client.calls(call_sid).update(status=status))


def delete_call(call_sid: str) -> bool:
    return bool(client.calls(call_sid).delete())


def conference_recordings(conference_sid: str) -> list[dict[str, Any]]:
    found = client.conferences(conference_sid).recordings.list(limit=20)
    return [seen(RECORDING, one) for one in found]


def conference_recording(conference_sid: str, recording_sid: str) -> dict[str, Any]:
    return seen(RECORDING, client.conferences(conference_sid).recordings(recording_sid).fetch())


def call_with_token(call_sid: str, token: str) -> dict[str, Any]:
    stranger = Client(account_sid, token)
    stranger.api.base_url = callreel_url
    return seen(CALL, stranger.calls(call_sid).fetch())


def call_with_key(call_sid: str, key_sid: str, key_secret: str) -> dict[str, Any]:
    # begin: key
    client = Client(key_sid, key_secret, account_sid)
    client.api.base_url = callreel_url
    # end: key
    return seen(CALL, client.calls(call_sid).fetch())


def is_genuine(url: str, fields: dict[str, str], signature: str) -> bool:
    # begin: webhook
    validator = RequestValidator(auth_token)
    genuine = validator.validate(url, fields, signature)
    # end: webhook
    return bool(genuine)


def refused_in_words(call_sid: str) -> str:
    # begin: errors
    try:
        client.calls(call_sid).recordings.create()
    except TwilioRestException as error:
        said = f"{error.status} {error.code}: {error.msg}"
        # end: errors
        return said
    return ""


if __name__ == "__main__":
    serve(globals())
