"""Helpers for tests: tones, a manual clock, a lossy link, a webhook receiver."""
