"""Webhooks: signed, scheduled, tried until taken."""
