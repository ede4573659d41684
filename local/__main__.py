"""`python -m local`: see `--help`."""

import sys

from local.local_aws import interrupts


def main() -> int:
    """The exit code: 0, 1 when something went wrong, 130 when interrupted."""
    interrupts.install()
    try:
        # Loaded once the signals are ours: one that comes meanwhile must not end in a traceback either.
        from local.cli import run  # noqa: PLC0415

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Everything that was started has been ended.\n")
        return interrupts.EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
