"""The trusted side's view of a program: values are plain, all else is a reference that decides no comparison itself."""

from __future__ import annotations

import builtins
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from steelyard.rewards.sandbox.inside.codec import BadMessage, decode, encode, receive, restore, tell


class Gone(BaseException):
    """The program ended, or broke the protocol."""


class Unsupported(Exception):
    """The test does what cannot be judged safely; the sentence says what to write instead."""


class Remote:
    """A function, class or object of the program.

    Reading attributes, calling, indexing and iterating ask the program. Comparing with a plain value never does: only
    what the object holds as an instance of a builtin class (a subclass of `list`, say) is compared, here.
    """

    __slots__ = ("_base", "_kind", "_number", "_session")

    def __init__(self, session: Session, number: int, kind: str, base: str) -> None:
        for name, value in zip(self.__slots__, (base, kind, number, session), strict=True):
            object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._session.ask("call", self, list(args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array"):
            raise AttributeError(name)
        return self._session.operate("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._session.operate("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._session.operate("delattr", self, name)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and self._session.operate("isinstance", value, self) is True

    def __subclasscheck__(self, kind: Any) -> bool:
        return isinstance(kind, Remote) and self._session.operate("issubclass", kind, self) is True

    def __eq__(self, other: Any) -> bool:
        plain = self._session.plain(self)
        if not isinstance(plain, Remote):
            return bool(plain == other)
        if not isinstance(other, Remote) or not isinstance(other._session.plain(other), Remote):
            return False
        return self._number == other._number or self._session.operate("eq", self, other) is True

    def __ne__(self, other: Any) -> bool:
        return not self == other

    def __hash__(self) -> int:
        plain = self._session.plain(self)
        return hash(("remote", self._number)) if isinstance(plain, Remote) else hash(plain)

    def __bool__(self) -> bool:
        plain = self._session.plain(self)
        return self._session.operate("bool", self) is True if isinstance(plain, Remote) else bool(plain)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._session.operate("iter", self)
        while True:
            try:
                yield self._session.operate("next", iterator)
            except StopIteration:
                return

    def __next__(self) -> Any:
        return self._session.operate("next", self)

    def __contains__(self, item: Any) -> bool:
        if isinstance(item, Remote):
            return self._session.operate("contains", self, item) is True
        return any(item is mine or item == mine for mine in self)

    def __getitem__(self, key: Any) -> Any:
        return self._session.operate("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._session.operate("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._session.operate("delitem", self, key)

    def __round__(self, digits: int | None = None) -> Any:
        return self._session.operate("round", self, *([] if digits is None else [digits]))

    def __format__(self, how: str) -> str:
        return _exactly(str, self._session.operate("format", self, how))

    def __enter__(self) -> Any:
        return self._session.operate("enter", self)

    def __exit__(self, *details: Any) -> None:
        self._session.operate("exit", self)


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"the program gave {type(value).__name__} where {kind.__name__} is needed")
    return value


def _unary(name: str, kind: type | None = None) -> Callable[[Remote], Any]:
    def ask(self: Remote) -> Any:
        value = self._session.operate(name, self)
        return value if kind is None else _exactly(kind, value)

    return ask


def _binary(name: str) -> Callable[[Remote, Any], Any]:
    def ask(self: Remote, other: Any) -> Any:
        if isinstance(other, Remote):
            return self._session.operate(name, self, other)
        plain = self._session.plain(self)
        if not isinstance(plain, Remote):
            return _HERE[name](plain, other)
        _refuse(self, name, other)

    return ask


def _reflected(name: str) -> Callable[[Remote, Any], Any]:
    def ask(self: Remote, other: Any) -> Any:
        plain = self._session.plain(self)
        if not isinstance(plain, Remote):
            return _HERE[name](other, plain)
        _refuse(self, name, other)

    return ask


def _refuse(remote: Remote, name: str, other: Any) -> NoReturn:
    raise TypeError(
        f"{name} of the program's {remote._kind} and {type(other).__name__}: a program's object is not told a test's "
        "plain values by operators, lest it answers as they would; the program must give plain values"
    )


_CHANGING = ("setattr", "delattr", "setitem", "delitem", "next", "enter", "exit")
_ARITHMETIC = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "divmod", "and", "or", "xor",
               "lshift", "rshift")  # fmt: skip
_ORDER = ("lt", "le", "gt", "ge")
_HERE = {name: getattr(operator, f"__{name}__", divmod) for name in (*_ARITHMETIC, *_ORDER)}
for _name in ("neg", "pos", "invert", "abs", "reversed"):
    setattr(Remote, f"__{_name}__", _unary(_name))
for _name, _type in {"len": int, "str": str, "repr": str, "int": int, "float": float, "complex": complex,
                     "bytes": bytes, "index": int, "dir": list}.items():  # fmt: skip
    setattr(Remote, f"__{_name}__", _unary(_name, _type))
for _name in _ARITHMETIC:
    setattr(Remote, f"__{_name}__", _binary(_name))
    setattr(Remote, f"__r{_name}__", _reflected(_name))
for _name in _ORDER:
    setattr(Remote, f"__{_name}__", _binary(_name))


class Session:
    """Requests to one program, over one link.

    Args:
        link: the descriptor to the servant; limit: bytes of a message.
        objects: whether values that are not plain may come back from calls.
    """

    def __init__(self, link: int, *, limit: int, objects: bool) -> None:
        self.link, self.limit, self.objects = link, limit, objects
        self.functions: list[Any] = []
        self.errors: dict[int, type[BaseException]] = {}
        self.held: dict[int, Any] = {}
        self.names: dict[str, Remote] = {}
        self.only_plain = self.gone = False

    def load(self, program: str, names: Sequence[str]) -> None:
        """Run the program; what it has under these names and can be called is not asked for again."""
        found = _expect(dict, self.ask("load", program, list(names)))
        self.names = {name: value for name, value in found.items() if name in names and isinstance(value, Remote)}

    def named(self, name: str) -> Any:
        """One of the program's names; asked once for a function or class.

        Raises:
            NameError: if the program has no such name.
        """
        if name in self.names:
            return self.names[name]
        value = self.ask("get", name)
        if isinstance(value, Remote):
            self.names[name] = value
        return value

    def operate(self, name: str, *args: Any) -> Any:
        """An operator or builtin function, in the program."""
        return self.ask("operate", name, list(args))

    def plain(self, remote: Remote) -> Any:
        """What an instance of a subclass of a builtin class holds; the remote itself where it is none.

        Asked once, until something is called or set: an object cannot be large in one comparison and small in the next.
        """
        if remote._number not in self.held:
            try:
                self.held[remote._number] = self.ask("plain", remote)
            except TypeError:
                self.held[remote._number] = remote
        return self.held[remote._number]

    def ask(self, request: str, *args: Any) -> Any:
        """Send a request and wait for its answer; functions of the tests may be called meanwhile.

        Raises:
            Gone: if the program ended or sent what is no answer.
        """
        if self.gone:
            raise Gone("the program has ended")
        if request == "call" or (request == "operate" and args[0] in _CHANGING):
            self.held.clear()
        self._send([request, *[encode(arg, self._refer) for arg in args]])
        self.only_plain = not self.objects and request not in ("get", "load")
        try:
            value, error = self._answer(args)
        except (EOFError, BadMessage, RecursionError, MemoryError) as trouble:
            self._end(trouble)
        if isinstance(error, StopIteration | StopAsyncIteration) and request == "call":
            # Out of a function it would end a test's own `zip(map(f, …), …)` in silence.
            raise RuntimeError(f"a function of the program raised {type(error).__name__}")
        if error is not None:
            raise error
        return value

    def _answer(self, args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
        """The value, or the exception that the program raised."""
        while True:
            kind, *data = _expect(list, receive(self.link, self.limit))
            if kind == "value":
                return self._value(args, *data), None
            if kind == "raise":
                return None, self._error(*data)
            if kind != "back":
                raise BadMessage(f"{kind!r:.40} is no answer")
            self._call_back(*data)

    def _value(self, args: tuple[Any, ...], value: Any = None, printed: Any = "", after: Any = None) -> Any:
        _show(printed)
        result = decode(value, self._resolve)
        if after is not None:
            for old, new in zip(args, _expect(list, after)):  # noqa: B905
                if new is not None:
                    restore(old, decode(new, self._resolve))
        return result

    def _error(self, name: Any = "", data: Any = None, own: Any = None, printed: Any = "") -> BaseException:
        _show(printed)
        kind = getattr(builtins, _expect(str, name), None)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise BadMessage(f"{name!r:.40} is no exception")
        args = _expect(tuple, decode(data, self._resolve))
        if own is not None:
            own_kind = decode(own, self._resolve)
            kind = own_kind if isinstance(own_kind, type) and issubclass(own_kind, kind) else kind
        try:
            return kind(*args)
        except Exception:  # a kind that wants other arguments: the test asks for its kind only
            return kind.__new__(kind)

    def _call_back(self, number: Any = None, args: Any = None, kwargs: Any = None, printed: Any = "", *_: Any) -> None:
        _show(printed)
        if _expect(int, number) not in range(len(self.functions)):
            raise BadMessage(f"there is no function {number!r:.40}")
        values, named = decode(args, self._resolve), decode(kwargs, self._resolve)
        try:
            result = self.functions[number](*_expect(list, values), **_expect(dict, named))
            answer = ["returned", encode(result, self._refer)]
        except Unsupported:
            raise
        except Exception as error:
            base = next(kind for kind in type(error).__mro__ if vars(builtins).get(kind.__name__) is kind)
            answer = ["raised", base.__name__, encode((str(error),), self._refer)]
        self._send(answer)

    def _send(self, message: Any) -> None:
        try:
            tell(self.link, message)
        except OSError as error:
            self._end(error)

    def _end(self, error: BaseException) -> NoReturn:
        self.gone = True
        raise Gone(f"{type(error).__name__}: {error}") from None

    def _refer(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            if value._session is not self:
                raise Gone("it belongs to a program that has ended")
            return ["object", value._number]
        kind: Any = value
        if isinstance(value, type) and vars(builtins).get(kind.__name__) is value:
            return ["builtin", kind.__name__]
        for number, kind in self.errors.items():
            if value is kind:
                return ["object", number]
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if callable(value) and module in sys.stdlib_module_names and _found(module, name) is value:
            return ["global", module, name]
        if callable(value):
            self.functions.append(value)
            return ["callback", len(self.functions) - 1]
        raise Unsupported(
            f"the test gives the program a {type(value).__name__} of its own; "
            "give plain values, or objects that the program made"
        )

    def _resolve(self, tag: str, data: list[Any]) -> Any:
        if tag == "object" and len(data) == 3:
            number, kind, base = data
            if self.only_plain and not base:
                raise BadMessage(f"the program gave {kind!r:.40} where only plain data is allowed")
            if base:
                return self._stand_in(_expect(int, number), _expect(str, kind), _expect(str, base))
            return Remote(self, _expect(int, number), _expect(str, kind), "")
        if tag == "callback" and len(data) == 1 and _expect(int, data[0]) in range(len(self.functions)):
            return self.functions[data[0]]
        kind = vars(builtins).get(data[0]) if tag == "builtin" and data and isinstance(data[0], str) else None
        if not isinstance(kind, type):
            raise BadMessage(f"no value has the tag {tag!r:.40}")
        return kind

    def _stand_in(self, number: int, kind: str, base: str) -> type[BaseException]:
        """The class here that stands for an exception class of the program."""
        if number not in self.errors:
            parent = vars(builtins).get(base)
            if not (isinstance(parent, type) and issubclass(parent, BaseException)):
                raise BadMessage(f"{base!r:.40} is no exception")
            self.errors[number] = type("ProgramError", (parent,), {"__doc__": kind})
        return self.errors[number]


def _found(module: str, name: str) -> Any:
    """What stands under a dotted name in a module of Python, or None: a bound method or a partial has no such name."""
    try:
        return operator.attrgetter(name)(sys.modules[module])
    except (AttributeError, KeyError):
        return None


def _expect(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise BadMessage(f"{value!r:.80} where {kind.__name__} is needed")
    return value


def _show(printed: Any) -> None:
    if printed:
        sys.stdout.write(_expect(str, printed))
