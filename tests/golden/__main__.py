"""`python -m tests.golden FOLDER [--only 01]`: run every golden file of a folder and print a line a case."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.golden.check import run_folder


def main() -> int:
    """Print `N passed, N failed` last; the exit code is 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds NN-slug.json files")
    parser.add_argument(
        "--only", default="", help="numbers or slugs, comma-separated; by default all files with an adapter"
    )
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder} is no folder; give one that holds NN-slug.json files")
    only = [part for part in arguments.only.split(",") if part]
    return run_folder(arguments.folder, only, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
