"""Locks itself in, then becomes another program: how a command in any language starts."""

from __future__ import annotations

import json
import os
import sys

from steelyard.rewards.sandbox.inside import jail, seccomp


def main(limits: str, *command: str) -> None:
    """Set the limits, refuse what is refused, run the command in place of this process."""
    settled = json.loads(limits)
    jail.limit(settled)
    jail.limit_program(0, settled)
    os.closerange(3, jail.DESCRIPTORS)
    jail.Lock(seccomp.program(forks=settled["processes"] > 1))()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
