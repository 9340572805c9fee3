"""The guides, word for word, with the programs that they are about."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from callreel.server.review import review
from callreel.server.settings import Settings
from callreel.testing.ears import read_wav, tone_spans
from tests.docs.guide import GUIDES, Guide
from tests.peers.baresip import need_baresip

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _curl() -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")


def fetched(guide: Guide, folder: Path) -> tuple[float, float, float]:
    """The page's recording by its last commands: seconds, and of the callers' and callees' tone."""
    guide.run(guide.from_command("SID="))
    rate_hz, samples = read_wav(folder / "call.wav")
    tones = [
        sum(end - start for start, end in tone_spans(samples[:, channel], rate_hz, hz))
        for channel, hz in ((0, 440), (1, 880))
    ]
    return len(samples) / rate_hz, tones[0], tones[1]


def test_softphone(tmp_path: Path) -> None:
    with Guide("softphone.md", tmp_path) as guide:
        guide.write("callreel.toml")
        said = guide.run([guide.command("chmod"), guide.command("check-config")])
        assert "error" not in said
        assert "warning" not in said
        server = guide.serve()
        ben = guide.open(guide.command("phone answer"), "registered as sip:ben@127.0.0.1")
        server.wait_for("user ben registered: callreel-phone at udp:127.0.0.1")
        said = guide.run([guide.command("export"), guide.command("phone call")])
        assert "answered 200 PCMU" in said
        assert ben.finish() == 0
        server.wait_for("bridged to sip:ben@127.0.0.1")
        server.wait_for(" completed: ")
        seconds, caller_s, callee_s = fetched(guide, tmp_path)
    assert abs(seconds - 5) < 0.3
    assert caller_s > 4.5
    assert callee_s > 4.5


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_baresip(tmp_path: Path, transport: str) -> None:
    need_baresip()
    with Guide("baresip.md", tmp_path) as guide:
        guide.write("callreel.toml")
        guide.write("baresip/config")
        guide.write("baresip/accounts", last=transport == "tls")
        server = guide.serve()
        ben = guide.open(guide.command("phone answer"), "registered as sip:ben@127.0.0.1")
        phone = guide.open(guide.command("baresip -f"), "useragent registered successfully!")
        server.wait_for("user anna registered: baresip")
        server.wait_for(f" at {transport}:127.0.0.1")
        dial, hang_up, leave = guide.typed()
        phone.type(dial)
        phone.wait_for("Call established")
        ben.wait_for("answered 200 PCMU")
        phone.wait_for("[0:00:03]")
        phone.type(hang_up)
        phone.wait_for("terminated")
        phone.type(leave)
        assert phone.finish() == 0
        server.wait_for(" completed: ")
        seconds, caller_s, callee_s = fetched(guide, tmp_path)
    assert 2 < seconds < 5
    assert caller_s > seconds - 0.5
    assert callee_s > seconds - 0.5


def test_kamailio(tmp_path: Path) -> None:
    if not (shutil.which("kamailio") or Path("/usr/sbin/kamailio").exists()):
        pytest.skip("kamailio is not installed (Debian: kamailio)")
    with Guide("kamailio.md", tmp_path) as guide:
        guide.write("callreel.toml")
        guide.write("kamailio.cfg")
        server = guide.serve()
        guide.run([guide.command("kamailio -c")])
        proxy = guide.open(guide.command("kamailio -f"), "Listening on")
        carrier = guide.open(
            guide.command(f"--listen 127.0.0.1:{guide.ports['5090']}"), "listening on"
        )
        ben = guide.open(guide.command("--register"), "registered as sip:+15550102@127.0.0.1")
        calls = [one for one in guide.from_command("export") if "SID=" not in one][:5]
        said = guide.run(calls)
        assert said.count("answered 200 PCMU") == 3
        for other, answered in ((carrier, 1), (ben, 2)):
            for number in range(answered):
                other.wait_for(f"call {number + 1}  answered 200 PCMU")
        seconds, caller_s, callee_s = fetched(guide, tmp_path)
        server.wait_for("bridged to sip:+4930123@127.0.0.1")
        assert server.text.count("(trunking)") == 3
        assert "ERROR" not in proxy.text
    assert abs(seconds - 2) < 0.3
    assert caller_s > 1.6
    assert callee_s > 1.6


def test_the_files_for_asterisk_fit_together() -> None:
    text = (GUIDES / "asterisk.md").read_text()
    (ours,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    settings = Settings(**tomllib.loads(ours))
    assert review(settings) == []
    pjsip, dialplan = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    options = [dict(re.findall(r"^(\w+)=(\S+)$", one, re.MULTILINE)) for one in pjsip.split("[")]
    kinds = {one["type"]: one for one in options if one}
    assert set(kinds) == {"transport", "endpoint", "aor", "identify"}
    assert f"[{kinds['endpoint']['context']}]" in dialplan
    assert kinds["aor"]["contact"] == f"sip:{settings.sip}"
    assert kinds["identify"]["match"] == settings.sip_address[0]
    (asterisk,) = [one for one in settings.trunks if one.name == "asterisk"]
    assert asterisk.addresses[0] in asterisk.uri


@pytest.mark.parametrize("page", ["README.md", "docs/calls.md"])
def test_every_guide_is_linked(page: str) -> None:
    text = (ROOT / page).read_text()
    assert not {one.name for one in GUIDES.glob("*.md") if f"guides/{one.name})" not in text}
