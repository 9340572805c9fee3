"""Calls, recordings, accounts and deliveries in SQLite or PostgreSQL."""
