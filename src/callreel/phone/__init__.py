"""A small user agent: SIP shells, tones and files, for demos, tests and a first try."""
