# ruff: noqa: E501 - the lines of others are as long as they are
"""Bodies in the shapes that recording clients send. All names, numbers and addresses are invented;
where a shape was learned is said at each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from callreel.base.errors import PeerError
from callreel.wire.siprec import metadata, multipart


def refused(error: PeerError) -> None:
    """With a status that says what was wrong."""
    assert error.status in (400, 413)


@dataclass(frozen=True)
class Vector:
    name: str
    content_type: str
    body: bytes
    heard: dict[str, tuple[str, str]]
    """By label: AoR and display name of who is heard."""
    sip_session_ids: tuple[str, ...] = ()
    mode: metadata.DataMode = metadata.DataMode.COMPLETE


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


SDP = """v=0
o=- 17 1 IN IP4 192.0.2.10
s=-
c=IN IP4 192.0.2.10
t=0 0
m=audio 20000 RTP/AVP 0
a=label:{0}
a=sendonly
m=audio 20002 RTP/AVP 0
a=label:{1}
a=sendonly
"""

# RFC 7865 §11 and RFC 7866 §9: a complete document with everything that it knows.
RFC = Vector(
    "rfc7865",
    "multipart/mixed;boundary=foobar",
    crlf(
        f"""--foobar
Content-Type: application/sdp

{SDP.format(96, 98)}
--foobar
Content-Type: application/rs-metadata+xml
Content-Disposition: recording-session

<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns='urn:ietf:params:xml:ns:recording:1'>
  <datamode>complete</datamode>
  <group group_id="7+OTCyoxTmqmqyA/1weDAg==">
    <associate-time>2010-12-16T23:41:07Z</associate-time>
    <call-center xmlns='urn:ietf:params:xml:ns:callcenter'><supervisor>x</supervisor></call-center>
  </group>
  <session session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <sipSessionID>ab30317f1a784dc48ff824d0d3715d86;remote=47755a9de7794ba387653f2099600ef2</sipSessionID>
    <group-ref>7+OTCyoxTmqmqyA/1weDAg==</group-ref>
    <mydata xmlns='http://example.com/my'>FOO</mydata>
  </session>
  <participant participant_id="srfBElmCRp2QB23b7Mpk0w==">
    <nameID aor="sip:bob@biloxi.example"><name xml:lang="it">Bob</name></nameID>
  </participant>
  <participant participant_id="zSfPoSvdSDCmU3A3TRDxAw==">
    <nameID aor="sip:paul@biloxi.example"><name xml:lang="it">Paul</name></nameID>
  </participant>
  <stream stream_id="UAAMm5GRQKSCMVvLyl4rFw==" session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <label>96</label>
  </stream>
  <stream stream_id="8zc6e0lYTlWIINA6GR+3ag==" session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <label>98</label>
  </stream>
  <sessionrecordingassoc session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <associate-time>2010-12-16T23:41:07Z</associate-time>
  </sessionrecordingassoc>
  <participantsessionassoc participant_id="srfBElmCRp2QB23b7Mpk0w=="
      session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <associate-time>2010-12-16T23:41:07Z</associate-time>
  </participantsessionassoc>
  <participantstreamassoc participant_id="srfBElmCRp2QB23b7Mpk0w==">
    <send>UAAMm5GRQKSCMVvLyl4rFw==</send>
    <recv>8zc6e0lYTlWIINA6GR+3ag==</recv>
  </participantstreamassoc>
  <participantstreamassoc participant_id="zSfPoSvdSDCmU3A3TRDxAw==">
    <send>8zc6e0lYTlWIINA6GR+3ag==</send>
    <recv>UAAMm5GRQKSCMVvLyl4rFw==</recv>
  </participantstreamassoc>
</recording>
--foobar--
"""
    ),
    {"96": ("sip:bob@biloxi.example", "Bob"), "98": ("sip:paul@biloxi.example", "Paul")},
    ("ab30317f1a784dc48ff824d0d3715d86;remote=47755a9de7794ba387653f2099600ef2",),
)

# Oracle (Acme Packet): the namespace without its number, `id` and `session`, `send` inside the
# participant, times without a zone, extension data of its own. Shape: Oracle's ISR guide.
ORACLE = Vector(
    "oracle",
    "multipart/mixed; boundary=unique-boundary-1",
    crlf(
        f"""--unique-boundary-1
Content-Type: application/sdp

{SDP.format(553654187, 553654188)}
--unique-boundary-1
Content-Type: application/rs-metadata+xml
Content-Disposition: recording-session

<?xml version='1.0' encoding='UTF-8'?>
<recording xmlns='urn:ietf:params:xml:ns:recording'>
<datamode>complete</datamode>
<session id="jWBTU+dDQeZL6U3Gdk6Cwg==">
<associate-time>2015-04-28T10:40:29</associate-time>
<extensiondata xmlns:apkt="http://acmepacket.com/siprec/extensiondata">
<apkt:ucid>00FA0800012CAB553FA9ED;encoding=hex</apkt:ucid>
<apkt:callerOrig>true</apkt:callerOrig>
</extensiondata>
</session>
<participant id="jXXFR+0mQ1RPK5QGlWUprQ==" session="jWBTU+dDQeZL6U3Gdk6Cwg==">
<nameID aor="sip:5550001@192.0.2.11">
<name>5550001</name>
</nameID>
<send>goO9dQk7T/VclQNR6C6nrw==</send>
<associate-time>2015-04-28T10:40:29</associate-time>
<extensiondata xmlns:apkt="http://acmepacket.com/siprec/extensiondata">
<apkt:callingParty>true</apkt:callingParty>
</extensiondata>
</participant>
<participant id="wpjlMwVqTUZSI2tmcXkZFg==" session="jWBTU+dDQeZL6U3Gdk6Cwg==">
<nameID aor="sip:5550002@192.0.2.12">
<name>5550002</name>
</nameID>
<send>k+WjGXPhSRFPUMKJUPaL+g==</send>
<associate-time>2015-04-28T10:40:29</associate-time>
</participant>
<stream id="goO9dQk7T/VclQNR6C6nrw==" session="jWBTU+dDQeZL6U3Gdk6Cwg==">
<label>553654187</label>
<mode>separate</mode>
</stream>
<stream id="k+WjGXPhSRFPUMKJUPaL+g==" session="jWBTU+dDQeZL6U3Gdk6Cwg==">
<label>553654188</label>
<mode>separate</mode>
</stream>
</recording>
--unique-boundary-1--
"""
    ),
    {
        "553654187": ("sip:5550001@192.0.2.11", "5550001"),
        "553654188": ("sip:5550002@192.0.2.12", "5550002"),
    },
)

# Cisco CUBE: RFC 7865 throughout, elements in an order of its own, `handling=required`.
# Shape: Cisco's CUBE configuration guide, SIPREC.
CISCO = Vector(
    "cisco-cube",
    "multipart/mixed;boundary=uniqueBoundary",
    b"\r\n"
    + crlf(
        f"""--uniqueBoundary
Content-Type: application/sdp
Content-Disposition: session;handling=required

{SDP.format(1, 2)}
--uniqueBoundary
Content-Type: application/rs-metadata+xml
Content-Disposition: recording-session

<?xml version="1.0" encoding="UTF-8"?>
 <recording xmlns="urn:ietf:params:xml:ns:recording:1">
   <datamode>complete</datamode>
   <session session_id="Dyu5IhKXEeaANfFyJSj9YQ==">
       <start-time>2016-05-06T07:57:48.526Z</start-time>
   </session>
   <participant participant_id="Dyu5IhKXEeaANvFyJSj9YQ==">
       <nameID aor="sip:5550003@192.0.2.13">
           <name xml:lang="en">Alice</name>
       </nameID>
   </participant>
   <participantsessionassoc participant_id="Dyu5IhKXEeaANvFyJSj9YQ==" session_id="Dyu5IhKXEeaANfFyJSj9YQ==">
       <associate-time>2016-05-06T07:57:48.526Z</associate-time>
   </participantsessionassoc>
   <stream stream_id="DyxVShKXEeaAO/FyJSj9YQ==" session_id="Dyu5IhKXEeaANfFyJSj9YQ==">
       <label>1</label>
   </stream>
   <participant participant_id="Dyu5IhKXEeaAN/FyJSj9YQ==">
       <nameID aor="sip:8001@192.0.2.14">
       </nameID>
   </participant>
   <stream stream_id="DyxVShKXEeaAPPFyJSj9YQ==" session_id="Dyu5IhKXEeaANfFyJSj9YQ==">
       <label>2</label>
   </stream>
   <participantstreamassoc participant_id="Dyu5IhKXEeaANvFyJSj9YQ==">
       <send>DyxVShKXEeaAO/FyJSj9YQ==</send>
       <recv>DyxVShKXEeaAPPFyJSj9YQ==</recv>
   </participantstreamassoc>
   <participantstreamassoc participant_id="Dyu5IhKXEeaAN/FyJSj9YQ==">
       <send>DyxVShKXEeaAPPFyJSj9YQ==</send>
       <recv>DyxVShKXEeaAO/FyJSj9YQ==</recv>
   </participantstreamassoc>
</recording>
--uniqueBoundary--
"""
    ),
    {"1": ("sip:5550003@192.0.2.13", "Alice"), "2": ("sip:8001@192.0.2.14", "")},
)

# AudioCodes: application/rs-metadata, LF line ends in the body, Content-Length in the parts.
# Shape: AudioCodes' SIPREC guide and public reports of bare line feeds.
AUDIOCODES = Vector(
    "audiocodes",
    "multipart/mixed;boundary=boundary_ac1fffff85b",
    f"""--boundary_ac1fffff85b
Content-Type: application/sdp

{SDP.format(1, 2)}
--boundary_ac1fffff85b
Content-Type: application/rs-metadata
Content-Disposition: recording-session

<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1" xmlns:ac="http://audiocodes.example/ext">
<datamode>complete</datamode>
<group id="00000000-0000-0000-0000-00003a36c4e3">
<associate-time>2021-01-24T01:11:57Z</associate-time>
</group>
<session id="0000-0000-0000-0000-00000000d0d71a52" group-ref="x">
<group-ref>00000000-0000-0000-0000-00003a36c4e3</group-ref>
<start-time>2021-01-24T01:11:57Z</start-time>
<ac:AvayaUCID>FA080030C4E34B5B9E59</ac:AvayaUCID>
</session>
<participant id="1056" session="0000-0000-0000-0000-00000000d0d71a52">
<nameID aor="1056@192.0.2.15"></nameID>
<associate-time>2021-01-24T01:11:57Z</associate-time>
<send>00000000-0000-0000-0000-1CF23A36C4E3</send>
<recv>00000000-0000-0000-0000-583A36C4E300</recv>
</participant>
<participant id="182052092" session="0000-0000-0000-0000-00000000d0d71a52">
<nameID aor="182052092@voicelab.example"></nameID>
<associate-time>2021-01-24T01:11:57Z</associate-time>
<recv>00000000-0000-0000-0000-1CF23A36C4E3</recv>
<send>00000000-0000-0000-0000-583A36C4E300</send>
</participant>
<stream id="00000000-0000-0000-0000-1CF23A36C4E3" session="0000-0000-0000-0000-00000000d0d71a52">
<label>1</label>
</stream>
<stream id="00000000-0000-0000-0000-583A36C4E300" session="0000-0000-0000-0000-00000000d0d71a52">
<label>2</label>
</stream>
</recording>
--boundary_ac1fffff85b--
""".encode(),
    {"1": ("1056@192.0.2.15", ""), "2": ("182052092@voicelab.example", "")},
)

# BroadWorks: no space after the colons, Content-Length in the parts, its own root and namespace,
# `aor` as an element, stream ids one level deeper. Shape: drachtio-siprec-recording-server #6.
BROADWORKS = Vector(
    "broadworks",
    "multipart/mixed;boundary=UniqueBroadWorksBoundary",
    crlf(
        f"""--UniqueBroadWorksBoundary
Content-Type:application/sdp
Content-Length:239

{SDP.format(1, 2)}
--UniqueBroadWorksBoundary
Content-Type:application/rs-metadata+xml
Content-Disposition:recording-session
Content-Length:2012

<?xml version="1.0" encoding="UTF-8"?>
<recording_metadata
	xmlns="urn:ietf:params:xml:ns:siprec">
	<dataMode>complete</dataMode>
	<recording id="urn:uuid:00000000-0000-4000-8000-000000000001">
		<requestor>SRC</requestor>
		<type>selective</type>
	</recording>
	<group id="urn:uuid:00000000-0000-4000-8000-000000000002">
		<initiator>sip:5550004@example.net</initiator>
	</group>
	<session id="urn:uuid:00000000-0000-4000-8000-000000000003" group="urn:uuid:00000000-0000-4000-8000-000000000002">
		<start-time>2019-03-16T12:29:09-04:00</start-time>
	</session>
	<participant id="urn:uuid:00000000-0000-4000-8000-000000000004" session="urn:uuid:00000000-0000-4000-8000-000000000003">
		<aor>sip:5550004@example.net</aor>
		<send>
			<id>urn:uuid:00000000-0000-4000-8000-000000000006</id>
		</send>
	</participant>
	<participant id="urn:uuid:00000000-0000-4000-8000-000000000005" session="urn:uuid:00000000-0000-4000-8000-000000000003">
		<aor>sip:5550005@192.0.2.16;user=phone</aor>
		<send>
			<id>urn:uuid:00000000-0000-4000-8000-000000000007</id>
		</send>
	</participant>
	<stream id="urn:uuid:00000000-0000-4000-8000-000000000006" session="urn:uuid:00000000-0000-4000-8000-000000000003">
		<label>1</label>
		<mode>separate</mode>
	</stream>
	<stream id="urn:uuid:00000000-0000-4000-8000-000000000007" session="urn:uuid:00000000-0000-4000-8000-000000000003">
		<label>2</label>
		<mode>separate</mode>
	</stream>
</recording_metadata>
--UniqueBroadWorksBoundary--
"""
    ),
    {
        "1": ("sip:5550004@example.net", ""),
        "2": ("sip:5550005@192.0.2.16;user=phone", ""),
    },
)

# OpenSIPS with rtpengine: associations that name no stream, `+0000`, no name of the callee.
# Shape: OpenSIPS #1264, drachtio-siprec-recording-server #79.
OPENSIPS = Vector(
    "opensips",
    "multipart/mixed;boundary=OSS-unique-boundary-42",
    crlf(
        f"""--OSS-unique-boundary-42
Content-Type: application/sdp

{SDP.format(0, 1)}
--OSS-unique-boundary-42
Content-Type: application/rs-metadata+xml
Content-Disposition: recording-session

<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns='urn:ietf:params:xml:ns:recording:1'>
	<datamode>complete</datamode>
	<session session_id="u6/zc+RzSmuCgrbkl3OSzQ==">
		<sipSessionID>00000000-1971-1238-7da5-005056952a06</sipSessionID>
	</session>
	<participant participant_id="7unSSgGrRpWxR3SHorTr3A==">
		<nameID aor="sip:@example.org">
			<name>op-8001</name>
		</nameID>
	</participant>
	<participant participant_id="OkX18X3pRvWv6L+ypXhz2w==">
		<nameID aor="sip:8002@example.org"/>
	</participant>
	<stream stream_id="x5RnfRH2TyCH7sJBy358Kg==" session_id="u6/zc+RzSmuCgrbkl3OSzQ==">
		<label>0</label>
	</stream>
	<stream stream_id="6rd5RnfRH2TyCH7sJBy3aa==" session_id="u6/zc+RzSmuCgrbkl3OSzQ==">
		<label>1</label>
	</stream>
	<sessionrecordingassoc session_id="u6/zc+RzSmuCgrbkl3OSzQ==">
		<associate-time>2024-06-20T15:04:17+0000</associate-time>
	</sessionrecordingassoc>
	<participantstreamassoc participant_id="7unSSgGrRpWxR3SHorTr3A==">
	</participantstreamassoc>
	<participantstreamassoc participant_id="OkX18X3pRvWv6L+ypXhz2w==">
		<send>6rd5RnfRH2TyCH7sJBy3aa==</send>
	</participantstreamassoc>
</recording>
--OSS-unique-boundary-42--
"""
    ),
    {"1": ("sip:8002@example.org", "")},
    ("00000000-1971-1238-7da5-005056952a06",),
)

# Ribbon (Sonus): a metadata draft under the RFC's media type, a quoted boundary that ends in `=`,
# the call's headers in an element of its own. Shape: Ribbon's SBC Core documentation, SIPREC.
RIBBON = Vector(
    "ribbon",
    'multipart/mixed; boundary="sonus-content-delim=?"',
    crlf(
        f"""--sonus-content-delim=?
Content-Length: 240
Content-Disposition: session; handling=required
Content-Type: application/sdp

{SDP.format(1, 2)}
--sonus-content-delim=?
Content-Disposition: recording-session
Content-Type: application/rs-metadata+xml

<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording">
<dataMode>complete</dataMode>
<group id="R1" />
<session id="S1"><group-ref>R1</group-ref></session>
<participant id="P1" session="S1"><nameID aor="sip:+15550006@192.0.2.17"><name>Ann &amp; Co</name></nameID>
<send>M1</send><recv>M2</recv></participant>
<participant id="P2" session="S1"><nameID aor="tel:+15550007"/><send>M2</send><recv>M1</recv></participant>
<stream id="M1" session="S1"><label>1</label></stream>
<stream id="M2" session="S1"><label>2</label></stream>
<extensiondata xmlns:sonus="http://example.com/sonus"><sonus:callData><sonus:fromheader>x</sonus:fromheader></sonus:callData></extensiondata>
</recording>
--sonus-content-delim=?--
"""
    ),
    {"1": ("sip:+15550006@192.0.2.17", "Ann & Co"), "2": ("tel:+15550007", "")},
)

# Avaya SBC: the multipart wrapped in another, its inner parts without Content-IDs, partial.
# Shape: drachtio-siprec-recording-server #10 and #21.
AVAYA = Vector(
    "avaya-nested",
    'multipart/mixed;boundary="outer.1"',
    crlf(
        f"""preamble that nobody reads
--outer.1
Content-Type: multipart/mixed;
 boundary=inner

--inner
Content-Type: application/sdp

{SDP.format(10, 20)}
--inner
Content-Type: APPLICATION/RS-METADATA+XML
Content-Disposition: session

<recording xmlns='urn:ietf:params:xml:ns:recording:1'>
<datamode>Partial</datamode>
<session session_id="s"><sipSessionID>a</sipSessionID><sipSessionID>b</sipSessionID></session>
<participant participant_id="ext1001"><nameID aor="sip:1001@example.com"><name xml:lang="en">Ext 1001</name></nameID></participant>
<stream stream_id="t10" session_id="s"><label>10</label></stream>
<participantstreamassoc participant_id="ext1001"><send>t10</send></participantstreamassoc>
</recording>
--inner--
--outer.1--
epilogue"""
    ),
    {"10": ("sip:1001@example.com", "Ext 1001")},
    ("a", "b"),
    metadata.DataMode.PARTIAL,
)

# Metaswitch Perimeta: metadata first, prefixed elements, Content-IDs. Shape: RFC 7865 written by a
# namespace-aware library.
PERIMETA = Vector(
    "perimeta-prefixed",
    "Multipart/Mixed; Boundary=perimeta",
    crlf(
        f"""--perimeta
Content-Type: application/rs-metadata+xml; charset=utf-8
Content-ID: <metadata@192.0.2.18>
Content-Disposition: recording-session

<?xml version="1.0"?>
<rec:recording xmlns:rec="urn:ietf:params:xml:ns:recording:1" xmlns:x="urn:example:x">
<rec:datamode>complete</rec:datamode>
<rec:session rec:session_id="s1"/>
<rec:participant rec:participant_id="p1"><rec:nameID aor="sip:a@example.com"/><x:role>agent</x:role></rec:participant>
<rec:stream rec:stream_id="m1" rec:session_id="s1"><rec:label>A</rec:label></rec:stream>
<rec:participantstreamassoc rec:participant_id="p1"><rec:send>m1</rec:send></rec:participantstreamassoc>
<x:session id="not a session of ours"/>
</rec:recording>
--perimeta
Content-Type: application/sdp
Content-ID: <sdp@192.0.2.18>

{SDP.format("A", "B")}
--perimeta--
"""
    ),
    {"A": ("sip:a@example.com", "")},
)

# FreeSWITCH and other home-made clients: no closing boundary, no namespace, a stream_id on the
# association with `true` in it, ids left out. Shape: public test clients.
HOMEMADE = Vector(
    "homemade",
    "multipart/mixed;boundary=boundary1234",
    crlf(
        f"""--boundary1234
Content-Type: application/sdp

{SDP.format("audio-a", "audio-b")}
--boundary1234
Content-Type: application/rs-metadata+xml
Content-Disposition: recording-session

<recording>
<participant><nameID aor="sip:caller@example.com"><name>Caller & Daughter</name></nameID></participant>
<participant participantId="2"><nameID aor="sip:callee@example.com"/></participant>
<stream><label>audio-a</label></stream>
<stream stream-id="st2"><label>audio-b</label></stream>
<participantstreamassoc participant_id="sip:caller@example.com"><send>audio-a</send></participantstreamassoc>
<participantstreamassoc participant_id="2" stream_id="st2"><send>true</send></participantstreamassoc>
</recording>
"""
    ),
    {
        "audio-a": ("sip:caller@example.com", "Caller & Daughter"),
        "audio-b": ("sip:callee@example.com", ""),
    },
)

ALL = [
    RFC,
    ORACLE,
    CISCO,
    AUDIOCODES,
    BROADWORKS,
    OPENSIPS,
    RIBBON,
    AVAYA,
    PERIMETA,
    HOMEMADE,
]


def read(vector: Vector) -> tuple[multipart.Part, metadata.Recording]:
    parts = multipart.parse(vector.content_type, vector.body)
    sdp, described = multipart.find_sdp(parts), multipart.find_metadata(parts)
    assert sdp is not None
    assert described is not None
    return sdp, metadata.parse(described.body)


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.name)
def test_every_vendor_is_understood(vector: Vector) -> None:
    sdp, recording = read(vector)
    assert sdp.body.startswith(b"v=0")
    assert sdp.body.count(b"m=audio") == 2
    heard = metadata.participants_by_label(recording)
    assert {label: (who.aor, who.name) for label, who in heard.items()} == vector.heard
    assert recording.data_mode is vector.mode
    if vector.sip_session_ids:
        assert recording.sessions[0].sip_session_ids == vector.sip_session_ids


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.name)
def test_what_was_read_can_be_written_and_read_again(vector: Vector) -> None:
    _, recording = read(vector)
    again = metadata.parse(metadata.serialize(recording))
    assert again == recording


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.name)
def test_truncated_anywhere_only_refuses(vector: Vector) -> None:
    for length in range(0, len(vector.body), 7):
        try:
            parts = multipart.parse(vector.content_type, vector.body[:length])
            described = multipart.find_metadata(parts)
            if described is not None:
                metadata.parse(described.body)
        except PeerError as error:
            refused(error)


def test_line_feeds_alone_change_nothing() -> None:
    bare = RFC.body.replace(b"\r\n", b"\n")
    parts = multipart.parse(RFC.content_type, bare)
    described = multipart.find_metadata(parts)
    assert described is not None
    assert metadata.parse(described.body) == read(RFC)[1]


def test_extension_data_is_kept_and_stands_alone() -> None:
    _, oracle = read(ORACLE)
    assert "00FA0800012CAB553FA9ED" in oracle.sessions[0].extensions[0]
    assert 'xmlns:apkt="http://acmepacket.com' in oracle.sessions[0].extensions[0]
    assert "separate" in oracle.streams[0].extensions[0]
    _, perimeta = read(PERIMETA)
    assert perimeta.participants[0].extensions == (
        '<x:role xmlns:x="urn:example:x">agent</x:role>',
    )
    assert len(perimeta.sessions) == 1  # a foreign namespace's session is none of ours
    _, audiocodes = read(AUDIOCODES)
    assert 'xmlns:ac="http://audiocodes.example/ext"' in audiocodes.sessions[0].extensions[0]


def test_times_are_utc_whatever_they_were_written_in() -> None:
    assert read(BROADWORKS)[1].sessions[0].start_time == datetime(
        2019, 3, 16, 16, 29, 9, tzinfo=UTC
    )
    moment = read(OPENSIPS)[1].session_recording_assocs[0].associate_time
    assert moment == datetime(2024, 6, 20, 15, 4, 17, tzinfo=UTC)
    assert read(ORACLE)[1].sessions[0].start_time == datetime(2015, 4, 28, 10, 40, 29, tzinfo=UTC)
    assert read(CISCO)[1].sessions[0].start_time == datetime(
        2016, 5, 6, 7, 57, 48, 526000, tzinfo=UTC
    )


def test_the_drafts_associations_become_the_rfcs() -> None:
    _, recording = read(AUDIOCODES)
    first = recording.participant_stream_assocs[0]
    assert (first.send, first.recv) == (
        ("00000000-0000-0000-0000-1CF23A36C4E3",),
        ("00000000-0000-0000-0000-583A36C4E300",),
    )
    assert recording.participant_session_assocs[1].participant_id == "182052092"
    assert recording.sessions[0].group_id == recording.groups[0].id
