"""`python -m jaxloss`."""

import sys

from jaxloss.cli import main

if __name__ == "__main__":  # pragma: no branch
    sys.exit(main())
