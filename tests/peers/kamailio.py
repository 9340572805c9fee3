"""Kamailio, as a carrier's proxy (it records the route) and as a registrar."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port_pair

USER, PASSWORD, REALM = "callreel", "a-secret-of-tests", "carrier.example"

_START_S = 10.0
_TLS_MODULES = list(Path("/usr/lib").glob("*/kamailio/modules/tls.so"))

_TLS = """
enable_tls=yes
listen=tls:127.0.0.1:{port}
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "private_key", "{pem}")
modparam("tls", "certificate", "{pem}")
"""

_CONFIG = """#!KAMAILIO
debug=2
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
{tls}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("auth", "nonce_expire", 60)

request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) {{ t_relay(); }}
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{
            t_relay();
        }} else if (is_method("ACK")) {{
            if (t_check_trans()) {{ t_relay(); }}
        }} else {{
            sl_send_reply("481", "Not By This Way");
        }}
        exit;
    }}
    if (is_method("REGISTER")) {{
        if ($fU == "{user}" && !pv_www_authenticate("{realm}", "{password}", "0")) {{
            www_challenge("{realm}", "1");
            exit;
        }}
        save("location");
        exit;
    }}
    if (is_method("INVITE")) {{
        record_route();
    }}
    # What comes from outside goes to callreel...
    if ($rU =~ "^out-tls-") {{
        $ru = "sip:" + $(rU{{s.substr,8,0}}) + "@127.0.0.1:{callreel_tls};transport=tls";
    }} else if ($rU =~ "^out-tcp-") {{
        $ru = "sip:" + $(rU{{s.substr,8,0}}) + "@127.0.0.1:{callreel};transport=tcp";
    }} else if ($rU =~ "^out-") {{
        $ru = "sip:" + $(rU{{s.substr,4,0}}) + "@127.0.0.1:{callreel}";
    }} else {{
        # ...and what callreel sends, to a phone of ours, or to the peer at that port.
        if ($rU =~ "^secret-") {{
            if (!pv_proxy_authenticate("{realm}", "{password}", "0")) {{
                proxy_challenge("{realm}", "1");
                exit;
            }}
            consume_credentials();
            $rU = $(rU{{s.substr,7,0}});
        }}
        if ($rU =~ "^[0-9]+$") {{
            $ru = "sip:peer@127.0.0.1:" + $rU;
        }} else if (!lookup("location")) {{
            sl_send_reply("404", "Nobody Of That Name");
            exit;
        }}
    }}
    t_relay();
}}
"""


def need_kamailio() -> str:
    found = shutil.which("kamailio", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if found is None or not _TLS_MODULES:
        pytest.skip("Kamailio is not installed (Debian: kamailio, kamailio-tls-modules)")
    return found


@dataclass(slots=True)
class Kamailio:
    """One that runs."""

    port: int
    """Of UDP and TCP; of TLS one above."""
    folder: Path
    """Its configuration and what it says."""

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def run_kamailio(folder: Path, callreel_port: int, certificate: Path) -> Iterator[Kamailio]:
    """With TLS one port above; ``certificate``: its own, with the key, PEM."""
    program = need_kamailio()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port_pair()
    config = folder / "kamailio.cfg"
    config.write_text(
        _CONFIG.format(
            port=port,
            callreel=callreel_port,
            callreel_tls=callreel_port + 1,
            user=USER,
            password=PASSWORD,
            realm=REALM,
            tls=_TLS.format(port=port + 1, pem=certificate),
        )
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-f", str(config), "-DD", "-E", "-Y", str(folder), "-m", "64", "-M", "8"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    made = Kamailio(port, folder)
    try:
        deadline = time.monotonic() + _START_S
        while f":{port:04X} " not in Path("/proc/net/tcp").read_text():
            assert process.poll() is None, made.log
            assert time.monotonic() < deadline, made.log
            time.sleep(0.02)
        yield made
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
