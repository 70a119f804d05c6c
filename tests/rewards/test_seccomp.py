"""The sandbox's filter on system calls, read as the kernel reads it."""

import platform
import struct

import pytest

from steelyard.rewards.sandbox.inside import seccomp

X86_64 = 0xC000003E
ALLOWED, EPERM, ENOSYS, KILLED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
DENIED = {name: numbers[0] for name, numbers in seccomp._DENIED.items()}
CLONE, FORK, VFORK, CLONE3, SOCKET = 56, 57, 58, 435, 41
THREAD, NEW_USER, SIGNAL_CHILD = 0x00010000, 0x10000000, 17


@pytest.fixture(autouse=True)
def on_x86_64(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def answer(filter_: bytes, number: int, argument: int = 0, architecture: int = X86_64) -> tuple[int, int]:
    """What the filter says of a call, and after how many steps."""
    steps = list(struct.iter_unpack("=HBBI", filter_))
    loaded, place = 0, 0
    for count in range(1, 1000):
        code, then, otherwise, value = steps[place]
        place += 1
        if code == 0x20:
            loaded = {0: number, 4: architecture, 16: argument}[value]
        elif code == 0x06:
            return value, count
        else:
            true = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
            place += then if true else otherwise
    raise AssertionError("it does not end")


@pytest.mark.parametrize("forks", [False, True])
def test_every_refused_call_is_refused_and_no_other(forks):
    filter_ = seccomp.program(forks=forks)
    special = {CLONE, CLONE3, SOCKET} | ({FORK, VFORK} if not forks else set())
    for number in range(1024):
        if number not in special:
            expected = EPERM if number in DENIED.values() else ALLOWED
            assert answer(filter_, number)[0] == expected, number
    assert answer(filter_, FORK)[0] == answer(filter_, VFORK)[0] == (ALLOWED if forks else EPERM)
    assert answer(filter_, CLONE3)[0] == ENOSYS


def test_what_a_clone_may_make():
    alone, forks = seccomp.program(), seccomp.program(forks=True)
    assert [answer(alone, CLONE, flags)[0] for flags in (THREAD, SIGNAL_CHILD)] == [ALLOWED, EPERM]
    assert [answer(forks, CLONE, flags)[0] for flags in (THREAD, SIGNAL_CHILD, NEW_USER)] == [ALLOWED, ALLOWED, EPERM]


def test_only_local_sockets():
    filter_ = seccomp.program()
    assert [answer(filter_, SOCKET, family)[0] for family in (0, 1, 2, 10, 16, 17)] == [EPERM, ALLOWED, *[EPERM] * 4]


def test_other_tables_of_calls_are_no_way_round():
    filter_ = seccomp.program()
    assert {answer(filter_, 0x40000000 | number)[0] for number in (0, 1, 101, 512)} == {EPERM}
    assert answer(filter_, 0xFFFFFFFF)[0] == EPERM
    assert answer(filter_, 1, architecture=0x40000003)[0] == KILLED


def test_no_way_through_is_long():
    filter_ = seccomp.program()
    assert max(answer(filter_, number)[1] for number in range(1024)) <= 14


def test_a_machine_it_does_not_know(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="knows x86_64 and aarch64, not riscv64"):
        seccomp.program()
