"""The system calls that a program in the sandbox may not make, as a filter for the kernel."""

from __future__ import annotations

import platform
import struct
from collections.abc import Sequence

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
_CLONE_THREAD, _NAMESPACES, _AF_UNIX, _X32 = 0x00010000, 0x7E020000, 1, 0x40000000

# Name: (x86_64, aarch64); None where there is no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "personality": (135, 92), "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None),
    "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "syslog": (103, 116), "acct": (163, 89),
    "quotactl": (179, 60), "fanotify_init": (300, 262), "vhangup": (153, 58), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "lookup_dcookie": (212, 18), "move_pages": (279, 239),
}  # fmt: skip
_SPECIAL = {"clone": (56, 220), "clone3": (435, 435), "fork": (57, None), "vfork": (58, None), "socket": (41, 198)}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7), "arm64": (1, 0xC00000B7)}


_STEP = 8


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def program(*, forks: bool = False) -> bytes:
    """The filter as BPF: denied calls give EPERM, foreign architectures kill; sockets are local ones only.

    A binary search by number: the kernel runs a new filter once for each of its calls, to remember those it allows, so
    that the longest way through it is a cost of every program.

    Args:
        forks: whether new processes may be made; threads always may.

    Raises:
        OSError: on a machine that is neither x86_64 nor aarch64.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(f"the sandbox's filter knows x86_64 and aarch64, not {machine}")
    column, architecture = _ARCHITECTURES[machine]
    allow, deny = _step(_RETURN, _ALLOW), _step(_RETURN, _ERRNO | _EPERM)
    refused = [*_DENIED, *(() if forks else ("fork", "vfork"))]
    answers = {(_DENIED | _SPECIAL)[name][column]: deny for name in refused}
    kind = _step(_ANY_BIT, _NAMESPACES, 1) if forks else _step(_ANY_BIT, _CLONE_THREAD, 0, 1)
    answers |= {
        _SPECIAL["clone3"][column]: _step(_RETURN, _ERRNO | _ENOSYS),
        _SPECIAL["clone"][column]: _step(_LOAD, _ARGUMENT) + kind + allow + deny,
        _SPECIAL["socket"][column]: _step(_LOAD, _ARGUMENT) + _step(_EQUAL, _AF_UNIX, 0, 1) + allow + deny,
    }
    if column == 0:
        answers |= {_X32: deny}
    known = {number: answer for number, answer in answers.items() if number is not None}
    ranges = [(0, allow)]
    for number in sorted(known):
        after = known[number] if number == _X32 else allow
        ranges += [(number, known[number]), (number + 1, after)]
    return (
        _step(_LOAD, _ARCHITECTURE) + _step(_EQUAL, architecture, 1) + _step(_RETURN, _KILL)
        + _step(_LOAD, _NUMBER) + _search(_merged(ranges))
    )  # fmt: skip


def _merged(ranges: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Ranges, by their first number, without those that are empty or answer as the one before."""
    last = dict(ranges)
    found: list[tuple[int, bytes]] = []
    for first, answer in sorted(last.items()):
        if not found or found[-1][1] != answer:
            found.append((first, answer))
    return found


def _search(ranges: Sequence[tuple[int, bytes]]) -> bytes:
    """Steps that answer as the range does in which the loaded number lies."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    return _step(_AT_LEAST, ranges[middle][0], len(low) // _STEP) + low + high
