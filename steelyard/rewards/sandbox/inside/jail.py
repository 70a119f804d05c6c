"""Locking the calling process in for good: limits, no capabilities, few descriptors, a filter on system calls."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Mapping
from typing import Any

_NEW_PID, _DETACH = 0x20000000, 2
_NOSUID_NODEV = 2 | 4
_SET_SECCOMP, _SET_NO_NEW_PRIVS, _CAPABILITY_VERSION = 22, 38, 0x20080522
DESCRIPTORS = 64
"""How many a process may have open."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def _must(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def next_child_is_alone() -> None:
    """The next fork starts a process namespace of its own, in which it is number 1; when it ends, all in it end."""
    _must(_libc.unshare(_NEW_PID), "a process namespace for the program")


def children_are_ours(own: int) -> None:
    """Undo `next_child_is_alone`; `own` is a descriptor of the calling process (`os.pidfd_open`)."""
    _must(_libc.setns(own, _NEW_PID), "back to the sandbox's process namespace")


def fresh_folder(path: str, size: int) -> None:
    """Put an empty file system of `size` bytes in place of what is mounted there."""
    _must(_libc.umount2(path.encode(), _DETACH), f"taking {path} away")
    options = f"size={size},nr_inodes=4096,mode=0700".encode()
    _must(_libc.mount(b"tmpfs", path.encode(), b"tmpfs", _NOSUID_NODEV, options), f"a fresh {path}")


def limit(limits: Mapping[str, Any]) -> None:
    """Set what the calling process and its children may use, less CPU time; see `Limits`."""
    _at_most(resource.RLIMIT_AS, limits["memory"])
    _at_most(resource.RLIMIT_FSIZE, limits["files"])
    _at_most(resource.RLIMIT_NOFILE, DESCRIPTORS)
    _at_most(resource.RLIMIT_CORE, 0)


def limit_program(process: int, limits: Mapping[str, Any]) -> None:
    """Set the limits of one process alone: its CPU time, and where it may start processes, how many; 0 is our own."""
    _at_most(resource.RLIMIT_CPU, int(limits["total_seconds"]) + 2, process)
    if limits["processes"] > 1:
        _at_most(resource.RLIMIT_NPROC, limits["processes"], process)


def _at_most(name: int, ceiling: int, process: int = 0) -> None:
    _, hard = resource.prlimit(process, name)
    most = ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard)
    resource.prlimit(process, name, (most, most))


class Lock:
    """Gives up every capability and every refused system call, for good.

    All that a fork can inherit is done when it is made: no new privileges, for the calling process and all it starts.

    Raises:
        OSError: if the kernel refuses.
    """

    def __init__(self, filter_: bytes) -> None:
        _must(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
        self.filter, self.header = _Filter(len(filter_) // 8, filter_), _Header(_CAPABILITY_VERSION, 0)
        self.capset, self.no_capabilities = _libc.capset, (ctypes.byref(self.header), (ctypes.c_uint32 * 6)())
        self.prctl, self.refused = _libc.prctl, (_SET_SECCOMP, 2, ctypes.byref(self.filter), 0, 0)

    def __call__(self) -> None:
        """Lock the calling process.

        Raises:
            OSError: if the kernel refuses.
        """
        _must(self.capset(*self.no_capabilities), "dropping capabilities")
        _must(self.prctl(*self.refused), "the filter on system calls")


def nothing_open() -> None:
    """Point the standard streams nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
