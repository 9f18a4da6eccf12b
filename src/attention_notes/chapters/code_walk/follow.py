"""Follow functions while they run, statement by statement."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, FunctionType
from typing import Any

from torch import Tensor

from attention_notes.chapters.code_walk.lines import Statement

RETURN = "returns"  # stands for a name where there is none: what a function returns
Path = tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """A tensor that was met: its name, where in a tuple or a list of that name, its shape."""

    name: str
    path: Path
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Event:
    """A function was entered, or, with a ``statement``, has finished that; ``call`` tells its calls apart."""

    call: int
    function: FunctionType
    statement: Statement | None
    tensors: tuple[Seen, ...]


def follow(plans: Mapping[FunctionType, Sequence[Statement]], run: Callable[[], Any]) -> list[Event]:
    """What some functions bind and return while something runs, in the order in which it happens.

    Only calls of these functions are followed line by line, and of the first of them only its first call. What traced
    before, a debugger or a measurement of coverage, does so again afterwards, whatever happened in between.
    """
    events: list[Event] = []
    by_code = {function.__code__: function for function in plans}
    root, calls = next(iter(by_code)), list[FunctionType]()

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        function = by_code.get(frame.f_code)
        if function is None or (frame.f_code is root and function in calls):
            return None
        calls.append(function)
        return _Call(len(calls), function, plans[function], events).enter(frame)

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        run()
    finally:
        sys.settrace(before)
        _nothing()  # coverage's tracer, which is written in C, takes up its work at the next call
    return events


def _nothing() -> None:
    pass


class _Call:
    """One call of a function, which Python tells of every line that comes next."""

    def __init__(self, number: int, function: FunctionType, plan: Sequence[Statement], events: list[Event]) -> None:
        self.number, self.function, self.events = number, function, events
        self.lines = {line: part for part in plan for line in range(part.first, part.last + 1)}
        self.current: Statement | None = None

    def enter(self, frame: FrameType) -> "_Call":
        code = frame.f_code
        stars = bool(code.co_flags & 4) + bool(code.co_flags & 8)  # *args and **kwargs
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + stars]
        self._record(frame, None, {name: frame.f_locals[name] for name in names})
        return self

    def __call__(self, frame: FrameType, event: str, arg: Any) -> "_Call":
        if event == "line":
            statement = self.lines.get(frame.f_lineno)
            if statement is not self.current:  # otherwise a further line of the same statement
                self._finish(frame)
                self.current = statement
        elif event == "return":
            self._finish(frame, {RETURN: arg})
        elif event == "exception" and not issubclass(arg[0], StopIteration):
            self.current = None  # it was not finished
        return self

    def _finish(self, frame: FrameType, returned: Mapping[str, Any] | None = None) -> None:
        if self.current is not None:
            bound = {name: frame.f_locals.get(name) for name in self.current.names}
            self._record(frame, self.current, {**bound, **(returned or {})})

    def _record(self, frame: FrameType, statement: Statement | None, values: Mapping[str, Any]) -> None:
        tensors = tuple(seen for name, value in values.items() for seen in _tensors(name, value))
        self.events.append(Event(self.number, self.function, statement, tensors))


def _tensors(name: str, value: Any, path: Path = ()) -> Iterator[Seen]:
    if isinstance(value, Tensor):
        yield Seen(name, path, tuple(value.shape))
    elif isinstance(value, tuple | list):
        for i, part in enumerate(value):
            yield from _tensors(name, part, (*path, i))
