"""What the benchmarks share: the option --json, writing the figures there, and tables of them for people."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option --json, whose value `write_figures` takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", default="-", help="file for the figures, - for the terminal; %(default)s")
    return parser


def write_figures(figures: Mapping[str, Any], destination: str) -> None:
    """Write the figures as JSON to the file, or print them if the destination is `-`."""
    text = json.dumps(figures, indent=2) + "\n"
    if destination == "-":
        sys.stdout.write(text)
    else:
        Path(destination).write_text(text)


def write_table_and_figures(table: str, figures: Mapping[str, Any], destination: str | None) -> None:
    """Print the table, and write the figures as JSON to the file if there is a destination.

    If the destination is `-`, the figures are printed, and the table goes to standard error.
    """
    (sys.stderr if destination == "-" else sys.stdout).write(table)
    if destination is not None:
        write_figures(figures, destination)
