"""Media workers: RTP sockets, the sweep, writing journals."""
