"""Finished audio on disk or in object storage."""
