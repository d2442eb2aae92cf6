"""`python -m jaxloss`."""

import sys

from jaxloss.cli import main

if __name__ == "__main__":
    sys.exit(main())
