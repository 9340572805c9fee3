"""Wiring: processes, configuration, the real clock, start and shutdown."""
