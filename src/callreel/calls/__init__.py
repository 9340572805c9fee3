"""Call, track, recording: values, state tables, and the Protocols that shells implement."""
