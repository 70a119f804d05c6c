"""The hostile side: holds the program, and does with it what the judge asks, by plain values only."""

from __future__ import annotations

import builtins
import importlib
import io
import operator
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from steelyard.rewards.sandbox.inside.codec import decode, encode, send, told

PROGRAM = "program"
_PLAIN = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
_HOLDERS = (list, dict, set, bytearray)


class _Printed(io.TextIOBase):
    """Collects what the program prints, up to a limit."""

    def __init__(self, limit: int) -> None:
        self.left, self.pieces = limit, [""]

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        piece = text[: self.left]
        self.left -= len(piece)
        self.pieces.append(piece)
        return len(text)

    def taken(self) -> str:
        text, self.pieces = "".join(self.pieces), []
        return text


class _Callback:
    """A function of the tests, as the program sees it."""

    def __init__(self, servant: Servant, number: int) -> None:
        self._servant, self._number = servant, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._servant.call_back(self._number, args, kwargs)


class Servant:
    """Answers the judge's requests one after another.

    Args:
        link: the descriptor to the judge; limit: characters that the program may print; folder: where it runs.
    """

    def __init__(self, link: int, limit: int, folder: str) -> None:
        self.link, self.folder = link, folder
        self.module = types.ModuleType(PROGRAM)
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.printed = _Printed(limit)

    def settle(self) -> None:
        """Make this the process's program."""
        sys.modules[PROGRAM] = self.module
        sys.stdout = self.printed

    def serve(self) -> None:
        """Until the judge leaves."""
        while True:
            self.serve_one()

    def serve_one(self) -> None:
        """One request; ends the process where the judge has left."""
        try:
            request = told(self.link)
        except EOFError:
            os._exit(0)
        send(self.link, self._answer(request))

    def _answer(self, request: list[Any]) -> list[Any]:
        name, *data = request
        try:
            args = [decode(item, self._resolve) for item in data]
            value = _REQUESTS[name](self, *args)
            return ["value", encode(value, self._refer), self.printed.taken(), *self._changed(args, data)]
        except BaseException as error:
            return ["raise", *self._described(error), self.printed.taken()]

    def _changed(self, args: list[Any], data: list[Any]) -> list[Any]:
        """What the program did to the values it was given."""
        given = [
            item for arg in args if type(arg) in (list, dict) for item in (arg.values() if type(arg) is dict else arg)
        ]
        if not any(map(_holds, given)):
            return [None]
        after = [encode(arg, self._refer) if type(arg) in (list, dict) else None for arg in args]
        return [after if any(new not in (None, old) for new, old in zip(after, data, strict=True)) else None]

    def _described(self, error: BaseException) -> list[Any]:
        base = next(kind for kind in type(error).__mro__ if _builtin(kind))
        own = self._refer(type(error)) if base is not type(error) else None
        try:
            args = encode(tuple(error.args), self._refer)
        except BaseException:
            args = ["tuple", "(its arguments cannot be told)"]
        return [base.__name__, args, own]

    def call_back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Ask the judge to call a function of the tests; answer what it asks meanwhile."""
        data = [encode(list(args), self._refer), encode(kwargs, self._refer)]
        send(self.link, ["back", number, *data, self.printed.taken()])
        while True:
            message = told(self.link)
            if message[0] == "returned":
                return decode(message[1], self._resolve)
            if message[0] == "raised":
                raise getattr(builtins, message[1], RuntimeError)(*decode(message[2], self._resolve))
            send(self.link, self._answer(message))

    def _refer(self, value: Any) -> list[Any]:
        if type(value) is _Callback:
            return ["callback", value._number]
        if _builtin(value):
            return ["builtin", value.__name__]
        if isinstance(value, _PLAIN) and not _of_program(type(value)):
            plain = _bare(value)
            return encode(plain, self._refer)
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            return encode(value.item(), self._refer)
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        failing = isinstance(value, type) and issubclass(value, BaseException)
        base = next((k.__name__ for k in value.__mro__ if _builtin(k)), "") if failing else ""
        return ["object", number, getattr(type(value), "__name__", "object"), base]

    def _resolve(self, tag: str, data: list[Any]) -> Any:
        if tag == "object":
            return self.objects[data[0]]
        if tag == "callback":
            return _Callback(self, data[0])
        if tag == "builtin":
            return getattr(builtins, data[0])
        if tag == "global":
            return operator.attrgetter(data[1])(importlib.import_module(data[0]))
        raise TypeError(f"no value has the tag {tag!r}")

    def load(self, source: str, names: list[str]) -> dict[str, Any]:
        """Run the program from top to bottom; those of the names that stand for something to be called, and will."""
        os.chdir(self.folder)
        space = self.module.__dict__
        builtins.exec(compile(source, "<program>", "exec"), space)
        return {} if "global" in source else {name: space[name] for name in names if callable(space.get(name))}

    def get(self, name: str) -> Any:
        """One of the program's names."""
        if name not in self.module.__dict__:
            raise NameError(f"name {name!r} is not defined")
        return self.module.__dict__[name]

    def call(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call something that the program has."""
        return function(*args, **kwargs)

    def plain(self, value: Any) -> Any:
        """What a value of the program's own class holds, where the class is made from a builtin one."""
        if not isinstance(value, _PLAIN):
            raise TypeError(f"{type(value).__name__} is no plain data")
        return _bare(value)

    def operate(self, name: str, args: list[Any]) -> Any:
        """An operator or a builtin function on something that the program has."""
        return _OPERATORS[name](*args)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "getattr": getattr, "setattr": setattr, "delattr": delattr, "isinstance": isinstance, "issubclass": issubclass,
    "len": len, "iter": iter, "next": next, "reversed": reversed, "str": str, "repr": repr, "format": format,
    "bool": bool, "int": int, "float": float, "complex": complex, "bytes": bytes, "abs": abs, "round": round,
    "index": operator.index, "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "neg": operator.neg, "pos": operator.pos, "invert": operator.invert, "add": operator.add, "sub": operator.sub,
    "mul": operator.mul, "matmul": operator.matmul, "truediv": operator.truediv, "floordiv": operator.floordiv,
    "mod": operator.mod, "pow": operator.pow, "divmod": divmod, "and": operator.and_, "or": operator.or_,
    "xor": operator.xor, "lshift": operator.lshift, "rshift": operator.rshift, "eq": operator.eq,
    "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "contains": operator.contains, "enter": lambda manager: type(manager).__enter__(manager),
    "exit": lambda manager: type(manager).__exit__(manager, None, None, None), "dir": dir,
}  # fmt: skip
_REQUESTS: dict[str, Callable[..., Any]] = {
    "load": Servant.load,
    "get": Servant.get,
    "call": Servant.call,
    "plain": Servant.plain,
    "operate": Servant.operate,
}


def _holds(value: Any) -> bool:
    return isinstance(value, _HOLDERS) or (isinstance(value, (tuple, list)) and any(map(_holds, value)))


def _builtin(value: Any) -> bool:
    """Whether it is one of Python's own types, under its own name."""
    return isinstance(value, type) and vars(builtins).get(type.__dict__["__name__"].__get__(value)) is value


def _of_program(kind: type) -> bool:
    return any(base.__module__ == PROGRAM for base in kind.__mro__)


def _bare(value: Any) -> Any:
    """The builtin value inside an instance of a subclass, whatever the subclass says of itself."""
    base = next(base for base in type(value).__mro__ if base in _PLAIN)
    if base is dict:
        return dict(dict.items(value))
    if base in (list, tuple, set, frozenset):
        return base(base.__iter__(value))
    if base in (bytes, bytearray):
        return base(memoryview(value))
    if base is str:
        return str.__getitem__(value, slice(None)) if type(value) is str else "".join(str.__iter__(value))
    return {int: lambda n: int.__add__(n, 0), float: lambda x: float.__add__(x, 0.0),
            complex: lambda z: complex.__add__(z, 0)}[base](value)  # fmt: skip
