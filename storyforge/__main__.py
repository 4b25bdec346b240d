"""The program: `storyforge`, and `python -m storyforge` for where the script is not on the path."""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; whoever ends it while it is being loaded sees no traceback either."""
    try:
        from storyforge.cli import app

        app(prog_name="storyforge")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
