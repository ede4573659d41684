"""`python -m tests.soak --help`."""

import sys

from local.local_aws import interrupts
from tests.soak.run import main

interrupts.install()
try:
    sys.exit(main(sys.argv[1:]))
except KeyboardInterrupt:
    sys.exit(interrupts.EXIT_CODE)
