"""Plain data as JSON and back: all that a program ever sends to its judge, so nothing of it needs to be trusted."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import json
import marshal
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Any

LARGE_INT = 1 << 4096
_LENGTH = struct.Struct(">I")
_PIECE = 1 << 20
_AS_IT_IS = frozenset({type(None), bool, float, str})

Refer = Callable[[Any], "list[Any]"]
Resolve = Callable[[str, "list[Any]"], Any]


class BadMessage(Exception):
    """What came over the link is no message of ours."""


def encode(value: Any, refer: Refer) -> Any:
    """A value as JSON: scalars as they are, all else `[tag, …]`.

    Only exact builtin types (and a few of the standard library's) are plain; `refer` is asked for anything else.
    """
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is int:
        return value if -LARGE_INT < value < LARGE_INT else ["int", hex(value)]
    writer = _WRITERS.get(kind)
    return refer(value) if writer is None else writer(value, refer)


def _items(tag: str) -> Callable[[Any, Refer], list[Any]]:
    return lambda value, refer: [tag, *[encode(item, refer) for item in value]]


def _pairs(tag: str) -> Callable[[Any, Refer], list[Any]]:
    return lambda value, refer: [tag, *[[encode(k, refer), encode(v, refer)] for k, v in value.items()]]


_WRITERS: dict[type, Callable[[Any, Refer], list[Any]]] = {
    list: _items("list"),
    tuple: _items("tuple"),
    set: _items("set"),
    frozenset: _items("frozenset"),
    collections.deque: _items("deque"),
    dict: _pairs("dict"),
    collections.OrderedDict: _pairs("ordered"),
    collections.Counter: _pairs("counter"),
    collections.defaultdict: _pairs("default"),
    bytes: lambda value, refer: ["bytes", value.decode("latin-1")],
    bytearray: lambda value, refer: ["bytearray", value.decode("latin-1")],
    complex: lambda value, refer: ["complex", value.real, value.imag],
    range: lambda value, refer: ["range", *[encode(n, refer) for n in (value.start, value.stop, value.step)]],
    slice: lambda value, refer: ["slice", *[encode(n, refer) for n in (value.start, value.stop, value.step)]],
    type(...): lambda value, refer: ["..."],
    decimal.Decimal: lambda value, refer: ["decimal", str(value)],
    fractions.Fraction: lambda value, refer: [
        "fraction", encode(value.numerator, refer), encode(value.denominator, refer)],
    datetime.date: lambda value, refer: ["date", value.isoformat()],
    datetime.datetime: lambda value, refer: ["datetime", value.isoformat()],
    datetime.timedelta: lambda value, refer: ["timedelta", value.days, value.seconds, value.microseconds],
}  # fmt: skip


def decode(data: Any, resolve: Resolve) -> Any:
    """The value that `encode` wrote; `resolve` makes what a foreign tag stands for.

    Raises:
        BadMessage: for anything that `encode` cannot have written.
    """
    kind = type(data)
    if kind in _AS_IT_IS or kind is int:
        return data
    if kind is not list or not data or type(data[0]) is not str:
        raise BadMessage(f"{data!r:.80} is no value")
    reader = _READERS.get(data[0])
    if reader is None:
        return resolve(data[0], data[1:])
    try:
        return reader(data[1:], resolve)
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        raise BadMessage(f"{data!r:.80}: {error}") from None


def _read_items(make: Callable[[Any], Any]) -> Callable[[list[Any], Resolve], Any]:
    return lambda data, resolve: make([decode(item, resolve) for item in data])


def _read_pairs(make: Callable[[Any], Any]) -> Callable[[list[Any], Resolve], Any]:
    return lambda data, resolve: make([(decode(k, resolve), decode(v, resolve)) for k, v in data])


def _default(pairs: Any) -> Any:
    return collections.defaultdict(None, pairs)


def _counter(pairs: Any) -> Any:
    return collections.Counter(dict(pairs))


_READERS: dict[str, Callable[[list[Any], Resolve], Any]] = {
    "list": _read_items(list),
    "tuple": _read_items(tuple),
    "set": _read_items(set),
    "frozenset": _read_items(frozenset),
    "deque": _read_items(collections.deque),
    "dict": _read_pairs(dict),
    "ordered": _read_pairs(collections.OrderedDict),
    "counter": _read_pairs(_counter),
    "default": _read_pairs(_default),
    "bytes": lambda data, resolve: data[0].encode("latin-1"),
    "bytearray": lambda data, resolve: bytearray(data[0].encode("latin-1")),
    "complex": lambda data, resolve: complex(*data),
    "range": lambda data, resolve: range(*[decode(n, resolve) for n in data]),
    "slice": lambda data, resolve: slice(*[decode(n, resolve) for n in data]),
    "...": lambda data, resolve: ...,
    "int": lambda data, resolve: int(data[0], 16),
    "decimal": lambda data, resolve: decimal.Decimal(data[0]),
    "fraction": lambda data, resolve: fractions.Fraction(*[decode(n, resolve) for n in data]),
    "date": lambda data, resolve: datetime.date.fromisoformat(data[0]),
    "datetime": lambda data, resolve: datetime.datetime.fromisoformat(data[0]),
    "timedelta": lambda data, resolve: datetime.timedelta(*data),
}


def restore(old: Any, new: Any) -> Any:
    """Bring `old` to the state of `new`, in place as far as it can be changed; returns what stands for it."""
    if type(old) is not type(new):
        return new
    if isinstance(old, (list, collections.deque)):
        merged = [restore(a, b) for a, b in zip(old, new)] + list(new)[len(old) :]  # noqa: B905
        old.clear()
        old.extend(merged)
    elif isinstance(old, dict):
        merged_pairs = [(key, restore(old[key], value) if key in old else value) for key, value in new.items()]
        old.clear()
        for key, value in merged_pairs:
            old[key] = value
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, tuple) and len(old) == len(new):
        for a, b in zip(old, new, strict=True):
            restore(a, b)
    else:
        return new
    return old


_write = json.JSONEncoder(separators=(",", ":")).encode


def send(link: int, message: Any) -> None:
    """Write one message to a descriptor: its length, then JSON in ASCII."""
    _send(link, _write(message).encode("ascii"))


def tell(link: int, message: Any) -> None:
    """Write one message to a program, which can trust us: as `marshal` has it, quicker and on fewer pages of memory."""
    _send(link, marshal.dumps(message))


def _send(link: int, data: bytes) -> None:
    data = _LENGTH.pack(len(data)) + data
    written = os.write(link, data)
    while written < len(data):
        written += os.write(link, data[written : written + _PIECE])


def receive(link: int, limit: int, *, deadline: float | None = None) -> Any:
    """Read one message from a descriptor.

    Raises:
        EOFError: if the other side has gone.
        TimeoutError: past the deadline (of `time.monotonic`), if one is given.
        BadMessage: for a message above `limit` bytes, or that is no JSON.
    """
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size, deadline))
    if length > limit:
        raise BadMessage(f"a message of {length} bytes; at most {limit} are allowed")
    try:
        return json.loads(_exactly(link, length, deadline))
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"no JSON: {error}") from None


def told(link: int) -> Any:
    """Read what the judge told; only a program may, as `marshal` is safe with data that one trusts and no other.

    Raises:
        EOFError: if the judge has gone.
    """
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size, None))
    return marshal.loads(_exactly(link, length, None))


def _exactly(link: int, count: int, deadline: float | None) -> bytes:
    pieces = []
    while count:
        if deadline is not None and not select.select([link], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("no answer in time")
        try:
            piece = os.read(link, min(count, _PIECE))
        except ConnectionError:
            piece = b""
        if not piece:
            raise EOFError("the other side has gone")
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
