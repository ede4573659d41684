"""`python -m local`: see `--help`."""

import sys

from local.local_aws import interrupts


def main() -> int:
    """Run the command. Return the exit code: 0, 1 after an error, 130 after an interrupt."""
    interrupts.install()
    try:
        # Imported after the handlers are installed, so that a signal during the import prints no traceback.
        from local.cli import run  # noqa: PLC0415

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. All started processes are stopped.\n")
        return interrupts.EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
