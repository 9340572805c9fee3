"""The first minute: a whole recorded call, shown on the terminal."""
