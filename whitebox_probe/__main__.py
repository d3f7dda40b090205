"""`python -m whitebox_probe` is the command `whitebox-probe`."""

import sys

from whitebox_probe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
