"""Bytes to values and back: SIP, SDP, RTP, SIPREC. No I/O."""
