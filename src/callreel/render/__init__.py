"""From a closed journal to audio files and an integrity report."""
