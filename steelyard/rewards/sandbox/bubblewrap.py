"""How bubblewrap is called: what a program in the sandbox sees of this machine, which is next to nothing."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from steelyard.types import SteelyardError

CODE = Path(__file__).parent
INSIDE = "/sandbox"
"""Where the sandbox's own code lies: outside, inside."""

_HOW = "install it (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap)"
_DEVICES = ("null", "zero", "full", "random", "urandom")
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64")


@functools.cache
def find_bubblewrap() -> str:
    """The path of `bwrap`, once it has shown that it works here.

    Raises:
        SteelyardError: if it is missing or this machine does not let it make namespaces; says what to do.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise SteelyardError(f"code runs in a sandbox, which needs bubblewrap: {_HOW}, or allow unsafe=True")
    trial = subprocess.run([found, *cage(), "/usr/bin/true"], capture_output=True, text=True, check=False)
    if trial.returncode:
        why = trial.stderr.strip().splitlines()[-1:] or [f"exit code {trial.returncode}"]
        raise SteelyardError(
            f"bubblewrap cannot make a sandbox on this machine ({why[0]}); allow unprivileged user namespaces "
            "(sysctl kernel.unprivileged_userns_clone=1; in Docker: --security-opt seccomp=unconfined), "
            "or allow unsafe=True"
        )
    return found


def cage(*, files: int = 16 << 20, readable: Sequence[str] = (), capable: bool = False) -> list[str]:
    """Arguments of bubblewrap, less the command.

    Nothing is shared: no network, own processes, users, names, semaphores. The root is read-only and holds /usr, a few
    devices, an empty /tmp, and `readable`; no /proc, no /home, no environment.

    Args:
        files: bytes of /tmp.
        readable: folders to show read-only, at their own places.
        capable: whether the command keeps what it takes to make process namespaces (the fork server does).
    """
    arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox",
                 "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr"]  # fmt: skip
    if capable:
        arguments += ["--cap-add", "CAP_SYS_ADMIN", "--setenv", "LD_BIND_NOW", "1"]  # bind once, not in every fork
    for name in _SYSTEM:
        place = Path("/") / name
        if place.is_symlink():
            arguments += ["--symlink", os.readlink(place), str(place)]
        elif place.is_dir():
            arguments += ["--ro-bind", str(place), str(place)]
    arguments += ["--ro-bind-try", "/etc/alternatives", "/etc/alternatives", "--dir", "/dev"]
    for name in _DEVICES:
        arguments += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for folder in readable:
        arguments += ["--ro-bind", folder, folder]
    settings = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    for name, value in settings.items():
        arguments += ["--setenv", name, value]
    arguments += ["--ro-bind", str(CODE / "inside"), f"{INSIDE}/inside"]
    return [*arguments, "--size", str(files), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]


def interpreter() -> str:
    """The Python under this environment, without its packages."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def interpreter_folders() -> list[str]:
    """What has to be readable for the interpreter to run, beside /usr."""
    prefix = os.path.realpath(sys.base_prefix)
    return [] if prefix == "/usr" or prefix.startswith("/usr/") else [prefix]


def start_python(folder: str, module: str) -> list[str]:
    """The interpreter's command for a module of `inside`, which lies in `folder`: no packages, no bytecode written."""
    package = "steelyard.rewards.sandbox"
    code = (
        "import sys, types, runpy\nsys.path.pop(0)\n"
        f"for n in ('steelyard', 'steelyard.rewards', {package!r}):\n"
        f" sys.modules[n] = m = types.ModuleType(n); m.__path__ = []\nm.__path__ = [{folder!r}]\n"
        f"runpy.run_module({package + '.inside.' + module!r}, run_name='__main__', alter_sys=True)"
    )
    return [interpreter(), "-s", "-S", "-B", "-c", code]
