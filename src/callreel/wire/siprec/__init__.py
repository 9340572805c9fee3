"""SIPREC (RFC 7865, RFC 7866): multipart bodies and recording metadata. No I/O."""
