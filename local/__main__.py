"""`python -m local`: see `--help`."""

import sys

from local.local_aws import interrupts


def main() -> int:
    """Return the exit code: 0, 1 after an error, 130 when interrupted."""
    interrupts.install()
    try:
        # Imported after the handlers are installed: a signal during the import must not end in a traceback.
        from local.cli import run  # noqa: PLC0415

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Everything that was started has been ended.\n")
        return interrupts.EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
