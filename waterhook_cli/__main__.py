"""`waterhook`, or `python -m waterhook_cli`: see `--help`."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        # Imported here, so that Ctrl-C during the import prints no traceback.
        from waterhook_cli.main import cli  # noqa: PLC0415

        cli(prog_name="waterhook")
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
