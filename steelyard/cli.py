"""The `steelyard` command."""


def main() -> None:
    """Run the command line."""
