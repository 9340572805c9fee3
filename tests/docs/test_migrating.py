"""The migration page shows lines of the programs that drive the SDKs, and commands that work."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import textwrap
from pathlib import Path

import httpx
import pytest

from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from callreel.testing.ears import read_wav, tone_spans
from tests.docs.test_first_call import commands
from tests.journeys.api import Api

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/migrating.md"
TOKEN = "a-token-of-tests"

_QUOTED = re.compile(
    r"(?P<sources>(?:<!-- from \S+: \w+ -->\n)+)```(?P<language>python|js)\n(?P<text>.*?)```",
    re.DOTALL,
)


def region(source: str, name: str) -> str:
    """What a driver has between the marks, moved to the margin."""
    lines = (ROOT / source).read_text().splitlines()
    (begin,) = [at for at, line in enumerate(lines) if line.strip(" /#") == f"begin: {name}"]
    (end,) = [at for at, line in enumerate(lines) if line.strip(" /#") == f"end: {name}"]
    return textwrap.dedent("\n".join(lines[begin + 1 : end]) + "\n")


def quotations() -> list[tuple[str, str]]:
    """Every block with where it is from: one entry a source."""
    found = []
    for block in _QUOTED.finditer(PAGE.read_text()):
        for source in block["sources"].splitlines():
            found.append((source.removeprefix("<!-- from ").removesuffix(" -->"), block["text"]))
    return found


@pytest.mark.parametrize(("source", "text"), quotations(), ids=[one for one, _ in quotations()])
def test_the_page_quotes_what_the_tests_run(source: str, text: str) -> None:
    file, _, name = source.partition(": ")
    assert text == region(file, name)


def test_all_code_of_the_page_is_quoted() -> None:
    page = PAGE.read_text()
    blocks = len(re.findall(r"^```(?:python|js)$", page, re.MULTILINE))
    assert blocks == len(list(_QUOTED.finditer(page)))


def test_the_versions_are_those_of_the_lock_files() -> None:
    def pinned(file: str, package: str) -> str:
        found = re.search(rf"^{package}==(\S+)", (ROOT / file).read_text(), re.MULTILINE)
        assert found is not None
        return found[1]

    node = json.loads((ROOT / "tests/sdk/node/package.json").read_text())["dependencies"]
    locked = {
        "`twilio` (Python)": pinned("requirements.lock", "twilio"),
        "`twilio` (Node)": node["twilio"],
        "`signalwire` (Python)": pinned("tests/sdk/signalwire-requirements.txt", "signalwire"),
        "`@signalwire/compatibility-api` (Node)": node["@signalwire/compatibility-api"],
    }
    told = dict(re.findall(r"^\| \[(.+?)\]\(\S+\) \| ([\d.]+) \|", PAGE.read_text(), re.MULTILINE))
    assert told == {name: version.rpartition(".")[0] for name, version in locked.items()}


@pytest.mark.parametrize("account_sid", ["b3877c40-da60-4998-90ad-b792e98472af", "AC" + "ab" * 16])
async def test_the_curl_commands_do_what_they_say(account_sid: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    with OwnServer(tmp_path, account_sid, TOKEN) as server:
        api = Api(server)
        tones = [parse_source("tone:440"), parse_source("tone:880")]
        party = Party("sip:+15550100@pbx.example.com")
        call = await phone.call(server.sip_uri, tones, caller=party, callee=party)
        (shown,) = await asyncio.to_thread(api.wait_live)
        script = "\n".join(commands(PAGE)).replace("https://callreel.example.com", server.http_url)
        ran = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", f"{script}\necho; echo REC=$REC"),
            cwd=tmp_path,
            env={
                **{"PATH": "/usr/local/bin:/usr/bin:/bin", "NO_PROXY": "*"},
                **{"SID": account_sid, "TOKEN": TOKEN, "CALL": shown["sid"]},
            },
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            said, _ = await ran.communicate()
        assert ran.returncode == 0, said.decode()
        recording_sid = said.decode().rpartition("REC=")[2].strip()
        await phone.hang_up(call)
        gone = await asyncio.to_thread(
            httpx.get,
            f"{server.http_url}{api.account}/Recordings/{recording_sid}.json",
            auth=(account_sid, TOKEN),
            trust_env=False,
        )
        assert gone.status_code == 404
        api.http.close()
    await phone.close()
    rate_hz, samples = read_wav(tmp_path / "call.wav")
    assert 0.9 < len(samples) / rate_hz < 5
    assert tone_spans(samples[:, 0], rate_hz, 440)
    assert tone_spans(samples[:, 1], rate_hz, 880)
