"""What is played to a caller: spoken text, and audio from programs' servers."""
