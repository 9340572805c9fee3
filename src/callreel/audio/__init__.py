"""Samples: codecs, mixing, levels. No I/O."""
