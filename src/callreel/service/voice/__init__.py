"""Calls that documents steer: made by programs, answered for them, and what is done with them.

``service`` is the door; a ``steered_call`` is one call and its interpreter; ``parties``, ``player``
and ``kept`` are what its actions need.
"""

from callreel.service.voice.service import VoiceService

__all__ = ["VoiceService"]
