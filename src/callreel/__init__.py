"""callreel: a call recorder you run yourself."""

__version__ = "0.1.0"
