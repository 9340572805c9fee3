"""``python -m callreel.server``: the control process, as the supervisor starts it.

A ``__main__`` of its own, since that is the one module that spawned render processes do not import
anew: they would load all of the control process for nothing.
"""

import sys

from callreel.server.control import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
