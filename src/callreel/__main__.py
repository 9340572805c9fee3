"""``python -m callreel``: the command line."""

from callreel.cli import main

if __name__ == "__main__":
    main()
