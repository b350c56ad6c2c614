"""Run a test in a session of its own, which a program can only answer.

The test's session has its own built-ins, and what the program defines never enters it. A call of the program's function
runs in the program's session, and its plain value comes back. So an object that says to equal everything has nobody to
say it to. An instance or a function of the program is a handle in the test: its attributes and methods are the
program's, and it equals only itself.

This file is imported in the sandbox's outer process alone.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any, Final

from pydantic_monty import (
    ClassInstance,
    CollectString,
    MontyClassProxy,
    MontyError,
    MontySession,
    MontyStdTypeProxy,
)

from grpo_colab.errors import one_line
from grpo_colab.sandbox.plain import OWN_INSTANCE, PLAIN, doubtful_texts, refusal

CROSSING: Final = (100_000, 20, 1_000_000)  # items, depth and characters of a value that goes from program to test
CROSSING_BITS: Final = 1_000_000
READING_S: Final = 0.25  # of CPU time, to read such a value
ALL_READING_S: Final = 1.0  # of it, to read all that a program answers, beside its own time
LEAST_S: Final = 0.02  # of it, in which any small value can be read
CALL_S: Final = 0.0005  # of CPU time that one call from test to program may cost beside the program's own
MOST_CALLS: Final = 10_000
_KINDS: Final[frozenset[type]] = PLAIN.union(
    (set, frozenset, bytes, complex, type(...), type, date, datetime, timedelta, timezone, time_of_day, Decimal),
    (MontyClassProxy, MontyStdTypeProxy),
)
_A_FUNCTION: Final = re.compile(r"<(function|bound method) .* at 0x[0-9a-f]+>")  # as it leaves the test's session
_CHANGES: Final = (list, dict, set)
_ITERABLE: Final = ("range", "dict_keys", "dict_values", "dict_items")
TRUTH: Final = (  # of an instance: the interpreter itself asks none of these
    "(lambda o: o.__bool__() if __e('hasattr(o, \"__bool__\")', {{'o': o}}) else "
    "o.__len__() > 0 if __e('hasattr(o, \"__len__\")', {{'o': o}}) else True)({})"
)
# What the tests' sessions have beside the built-ins. What is run inside of `map` cannot ask the program.
GLUE: Final = """
def _map(function, *columns):
    return [function(*row) for row in zip(*columns)]
def _filter(function, items):
    return [item for item in items if (item if function is None else function(item))]
def _order(items, key, reverse=False):
    items = list(items)
    keys = [item if key is None else key(item) for item in items]
    return [items[i] for i in sorted(range(len(items)), key=lambda i: keys[i], reverse=reverse)]
def _least(*items, key, default=()):
    items = items[0] if len(items) == 1 else items
    return min(items, default=default) if not items else _order(items, key)[0]
def _most(*items, key, default=()):
    items = items[0] if len(items) == 1 else items
    return max(items, default=default) if not items else _order(items, key, True)[0]
def _call(function, *given, **named):
    value = function(*given, **named)
    _put([*given, *named.values()], _changed(function))
    return value
class _Later:
    def __init__(self, function, given, named):
        self.function, self.given, self.named, self.done = function, given, named, []
    def get(self):
        if not self.done:
            self.done.append(self.function(*self.given, **self.named))
        return self.done[0]
def _awaited(value):
    if type(value) is _Later:
        return value.get()
    if not _theirs(value):
        raise TypeError('it cannot be awaited')
    return _await_of(value)
def _gather(*given):
    return _Later(lambda: [_awaited(one) for one in given], (), {})
def _task(value):
    return _Later(_awaited, (value,), {})
def _is(name, function, value, *kinds):
    for kind in kinds:
        if _is_of(name, value, kind) if _theirs(kind) else function(value, kind):
            return True
    return False
def _lift(index, given, plain_from):
    value = _lift_there(index, given, plain_from)
    _put(given, _changed(index))
    return value
def _put(given, changes):
    for index, new in changes:
        old = given[index]
        old.clear()
        old.extend(new) if isinstance(old, list) else old.update(new)
def _method(owner, name, *given, **named):
    value = _method_of(owner, name, given, named)
    _put([*given, *named.values()], _changed(owner))
    return value
def _theirs(value):
    return type(value).__name__ == 'ProgramValue'
def _text(name, function, value):
    if not _theirs(value):
        return function(value)
    if name == 'len':
        return _method_of(value, '__len__', [], {})
    return _truth(value) if name == 'bool' else _text_of(name, value)
def _truth(value):
    if _theirs(value):
        value = _truth_of(value)
        return _theirs(value) or bool(value)
    return value
def _each(value):
    return _text_of('list', value) if _theirs(value) else value
def _shown(name, value):
    return _text_of(name, value) if _theirs(value) else repr(value) if name == 'repr' else str(value)
def _both(form, function, left, right):
    return _both_of(form, left, right) if _theirs(left) and _theirs(right) else function(left, right)
def _is_type(value, kind):
    return _type_of(value, kind) is True
def _items(function, value, **named):
    return function(_text_of('list', value) if _theirs(value) else value, **named)
def _item(value, key):
    return _item_of(value, key) if _theirs(value) else value[key]
def _assign(owner, name, new):
    if _theirs(owner):
        _set(owner, name, new)
    else:
        setattr(owner, name, new)
def _assign_item(owner, key, new):
    if _theirs(owner):
        _set_item(owner, key, new)
    else:
        owner[key] = new
"""


class Ended(Exception):
    """The program broke a limit, or gave what cannot leave its session: whatever the test makes of that, it is over."""


class ProgramValue:
    """An instance or a function of the program, as the test's session gives it back."""

    def __init__(self, name: str, proxy: Any) -> None:
        self.name, self.proxy = name, proxy


class _Handle(ClassInstance):
    """What the test's session sees of a `ProgramValue`: each attribute and each call asks the program."""

    def __init__(self, referee: Referee, value: ProgramValue) -> None:
        super().__init__(value, lazy_attrs="all", allowed_methods="all")
        self.referee = referee

    def method_allowed(self, name: str) -> bool:
        return True

    def call_method(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.referee.call(self.value, "" if name == "__call__" else f".{name}", args, kwargs)

    def lookup_lazy_attrs(self, name: str) -> Any:
        if not name.isidentifier():  # it may be the program's word, and is to be no source
            raise AttributeError(f"no attribute {name[:80]!r}")
        return self.referee.ask(f"{{}}.{name}", [self.value])


class Referee:
    """Answer a test's questions with what a program says, within the limits of one run."""

    def __init__(
        self,
        program: MontySession,
        limit_s: float,
        lifted: Sequence[str],
        shared: str,
        trusted: Any,
        out: CollectString,
        clock: Callable[[], float],
    ) -> None:
        self.program, self.limit_s, self.lifted, self.shared = program, limit_s, lifted, shared
        self.trusted, self.printed = trusted, out  # the built-in eval, which the program cannot redefine
        self.clock = clock  # CPU time of the program's process, and of this one, as a busy machine is no fault
        self.began = clock()
        self.ended: tuple[str, str] | MontyError | None = None  # kind and message, or what the program died of
        self.calls, self.names, self.wrapped = 0, 0, 0
        self.handed = ""  # the type of an instance that the test has seen
        self.changes: tuple[Any, list[tuple[int, Any]]] = (None, [])

    def lookup(self) -> dict[str, Callable[..., Any]]:
        """Return what the test's glue calls."""
        return {
            "_now": lambda name: self.ask(name, []),
            "_lift_there": self._lift,
            "_await_of": lambda value: self.ask("__i.run({})", [value], "import asyncio as __i\n"),
            "_is_of": lambda name, value, kind: self.ask(
                f"__e('{name}(a, b)', {{{{'a': {{}}, 'b': {{}}}}}})", [value, kind]
            ),
            "_changed": self._changed,
            "_text_of": lambda name, value: self.ask(f"__e('{name}(a)', {{{{'a': {{}}}}}})", [value]),
            "_both_of": lambda form, left, right: self.ask(form, [left, right]),
            "_type_of": lambda value, kind: self.ask("__e('type(a) is b', {{'a': {}, 'b': {}}})", [value, kind]),
            "_truth_of": lambda value: self.ask(TRUTH, [value]),
            "_method_of": lambda value, name, given, named: self.call(value, f".{name}", given, named),
            "_set": lambda value, name, new: self.ask(f"setattr({{}}, {name!r}, {{}})", [value, new]),
            "_item_of": lambda value, key: self.ask("{}[{}]", [value, key]),
            "_set_item": lambda value, key, new: self.ask(
                "(lambda o, k, v: o.__setitem__(k, v))({}, {}, {})", [value, key, new]
            ),
        }

    def bind(self, names: dict[str, str]) -> dict[str, Any]:
        """Return handles of the program's functions and classes that a test calls, by the test's own names for them."""
        return {here: _Handle(self, ProgramValue(there, None)) for here, there in names.items()}

    def call(self, value: ProgramValue, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not all(map(str.isidentifier, kwargs)):  # they may be the program's words, and are to be no source
            raise TypeError("keywords must be identifiers")
        slots = ["{}"] * len(args) + [f"{name}={{}}" for name in kwargs]
        before = [self._inward(item) if type(item) in _CHANGES else None for item in (*args, *kwargs.values())]
        result = self.ask(f"{{}}{method}({', '.join(slots)})", [value, *args, *kwargs.values()])
        self.changes = (value, self._changes(before, 1))
        return result

    def ask(self, form: str, given: Sequence[Any], first: str = "") -> Any:
        """Evaluate `form` in the program's session, its slots filled with `given`, and return what the test may see."""
        inputs: dict[str, Any] = {"__e": self.trusted} if "__e(" in form else {}
        slots = []
        for index, item in enumerate(given):
            if isinstance(item, ProgramValue) and item.proxy is None:
                slots.append(item.name)
            else:
                inputs[f"__a{index}"] = self._inward(item)
                slots.append(f"__a{index}")
        value = self._feed(f"{first}__v = {form.format(*slots)}\n__v", inputs)
        return value if type(value) in (bool, float, type(None)) else self._outward(value)

    def _feed(self, source: str, inputs: dict[str, Any]) -> Any:
        if self.ended is not None:
            raise Ended
        self.calls += 1
        left_s = self.limit_s + ALL_READING_S + CALL_S * self.calls - (self.clock() - self.began)
        if self.calls > MOST_CALLS:
            self._end("time", f"the test asks the program more than {MOST_CALLS} times")
        if left_s <= 0:
            self._end("time", "the test's calls of the program took too long")
        signal.setitimer(signal.ITIMER_PROF, min(READING_S, left_s + LEAST_S))
        try:
            return self.program.feed_run(source, inputs=inputs, print_callback=self.printed)
        except MontyError as error:
            inner = error.exception() if hasattr(error, "exception") else None
            if inner is None or hasattr(error, "timed_out") or isinstance(inner, TimeoutError | MemoryError):
                self.ended = error
                raise Ended from None
            raise inner from None
        except TypeError as error:  # a key or a member of a set that has no hash here
            return self._end("result", f"the result has {error}")

    def _end(self, kind: str, message: str) -> Any:
        self.ended = (kind, message)
        raise Ended

    def _inward(self, value: Any) -> Any:
        """Return what the program's session knows a test's value as."""
        if isinstance(value, ProgramValue):
            if value.proxy is None:
                self._end("unsupported", "a test hands one of the program's functions over inside of another value")
            return value.proxy
        if isinstance(value, MontyClassProxy):
            self._end("unsupported", f"{OWN_INSTANCE} {value.name[:80]}: make it in the call that hands it over")
        if type(value) is str and _A_FUNCTION.match(value):
            self._end("unsupported", "a test hands a function over that is no name: write it in the call, or a lambda")
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(map(self._inward, value))
        return {key: self._inward(item) for key, item in value.items()} if type(value) is dict else value

    def _outward(self, value: Any) -> Any:
        """Return what the test's session may see of the program's `__v`."""
        named = {kind for kind in (type(value),) if issubclass(kind, tuple)}
        if why := refusal(value, *CROSSING, kinds=_KINDS | named, max_bits=CROSSING_BITS):
            self._end("result", why)
        doubtful = doubtful_texts(value, "v")
        if not doubtful:
            return self._kept(value)
        if doubtful[500:]:
            self._end("result", "the result has too many texts that look like objects")
        kinds = self._trusted(f"[type(x).__name__ for x in [{', '.join(doubtful)}]]")
        if set(kinds) <= {"str"}:
            return self._kept(value)
        if doubtful != ["v"]:
            self._end("result", f"the result has a value of type {kinds}")
        (kind,) = kinds
        if kind in _ITERABLE or kind.endswith("iterator"):
            self._feed("__v = __e('list(v)', {'v': __v})", {"__e": self.trusted})
            return tuple(self._outward(self._feed("__v", {})))
        return _Handle(self, ProgramValue(self._name(), None))

    def _name(self) -> str:
        """Give the program's `__v` a name that stays, so that it lives as long as the test does."""
        self.names += 1
        self._feed(f"__h{self.names} = __v", {})
        return f"__h{self.names}"

    def _kept(self, value: Any) -> Any:
        """Return a value with handles for the instances in it."""
        before, self.wrapped = self.wrapped, 0
        found = self._wrapped(value)
        if self.wrapped:
            self._name()
        self.wrapped = before
        return found

    def _trusted(self, expression: str) -> Any:
        """Evaluate `expression` of `v` with the interpreter's own built-ins."""
        return self._feed(f"__e({expression!r}, {{'v': __v}})", {"__e": self.trusted})

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, MontyClassProxy):
            self.handed = f"class {value.name[:80]}"
            self.wrapped += 1
            return _Handle(self, ProgramValue("", value))
        if type(value) in (list, tuple):
            return type(value)(map(self._wrapped, value))
        if type(value) is dict:
            return {key: self._wrapped(item) for key, item in value.items()}
        return value

    def _lift(self, index: int, given: list[Any], plain_from: int) -> Any:
        if plain_from >= 0 and any(map(_holds_instance, given[plain_from:])):
            self._end("unsupported", "a test hands the program's own instance to a function of the test's")
        if self.shared:
            shared, self.shared = self.shared, ""
            self._feed(shared, {})
        before = [self._inward(item) if type(item) in _CHANGES else None for item in given]
        result = self.ask(self.lifted[index], given)
        self.changes = (index, self._changes(before, 0))
        return result

    def _changes(self, before: list[Any], start: int) -> list[tuple[int, Any]]:
        """Return which of the lists, dictionaries and sets handed over the program has changed, and to what."""
        found = []
        for index, old in enumerate(before):
            if type(old) in _CHANGES:
                new = self._feed(f"__a{index + start}", {})
                if refusal(new, *CROSSING, kinds=_KINDS, max_bits=CROSSING_BITS) == "" and new != old:
                    found.append((index, self._wrapped(new)))
        return found

    def _changed(self, function: Any) -> list[tuple[int, Any]]:
        called, changes = self.changes
        self.changes = (None, [])
        return changes if called is function or (type(called) is int and called == function) else []


def _holds_instance(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_instance, value)) or any(map(_holds_instance, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_instance, value))
    return isinstance(value, ProgramValue) and value.proxy is not None


def examine(
    referee: Referee, open_session: Callable[[], Any], state: bytes, source: str, names: dict[str, str]
) -> tuple[str, str] | MontyError | None:
    """Run a test's `source`, and return why it failed, or None. Anything else that ends it is raised."""
    try:
        with open_session() as court:
            court.load_session(state)
            court.feed_run(
                f"{source}\nNone",
                inputs=referee.bind(names),
                external_lookup=referee.lookup(),
                print_callback=referee.printed,
            )
    except Ended:
        return referee.ended
    except MontyError as error:
        met = error.exception()
        if referee.ended is None and referee.handed and isinstance(met, AssertionError | TypeError):
            # of two of them only the interpreter's lack can be the cause
            return "unsupported" if str(met).count(ProgramValue.__name__) > 1 else "result", (
                f"the test got an instance of the program's {referee.handed}, which equals only itself: "
                f"compare its attributes, or what its methods return ({one_line(met)})"
            )
        return referee.ended or error
    return referee.ended
