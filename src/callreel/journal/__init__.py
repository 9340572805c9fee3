"""Append-only truth of what arrived: write, recover, read."""
