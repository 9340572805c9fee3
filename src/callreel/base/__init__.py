"""Identifiers, errors, the clock Protocol."""
