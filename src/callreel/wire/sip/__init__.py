"""SIP (RFC 3261): values, framing, transactions, dialogs. No I/O."""
