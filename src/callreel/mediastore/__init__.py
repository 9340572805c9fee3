"""Finished audio on disk or in object storage."""

from callreel.mediastore.store import MediaStore, MissingMediaError, StoredFile

__all__ = ["MediaStore", "MissingMediaError", "StoredFile"]
