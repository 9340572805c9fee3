"""The use cases, each once, for API, console, signalling and command line alike."""
