"""`python -m steelyard.cli`, for launchers that start a module."""

from steelyard.cli import main

if __name__ == "__main__":
    main()
