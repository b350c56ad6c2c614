"""Run a test in a session of its own, where a program can only answer questions.

The test's session has its own built-ins, and nothing that the program defines enters it. A call of the program's
function runs in the program's session, and its plain value comes back. So an object that claims to equal everything is
never asked. In the test, an instance or a function of the program is a handle: its attributes and methods are the
program's, and it equals only itself.

`rewards/exams.py` and `rewards/operators.py` rewrite tests so that they call the helpers of `exam_helpers.py` and the
functions of `Referee.lookup`. Only the sandbox's outer process (`worker.py`) imports this file.
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

# The most items, depth and characters of a value that goes from the program to the test, and the bits of its integers.
CROSSING: Final = (100_000, 20, 1_000_000)
CROSSING_BITS: Final = 1_000_000
# Seconds of CPU time.
READING_S: Final = 0.25  # to read one such value
ALL_READING_S: Final = 1.0  # to read all that a program answers, besides the program's own time
LEAST_S: Final = 0.02  # enough to read any small value
CALL_S: Final = 0.0005  # that one call from the test to the program may cost, besides the program's own time
MOST_CALLS: Final = 10_000
MOST_DOUBTFUL: Final = 500  # texts in one value that look like objects
_KINDS: Final[frozenset[type]] = PLAIN.union(
    (set, frozenset, bytes, complex, type(...), type, date, datetime, timedelta, timezone, time_of_day, Decimal),
    (MontyClassProxy, MontyStdTypeProxy),
)
_A_FUNCTION: Final = re.compile(r"<(function|bound method) .* at 0x[0-9a-f]+>")  # as it leaves the test's session
_MUTABLE: Final = (list, dict, set)
_ITERABLE: Final = ("range", "dict_keys", "dict_values", "dict_items")
# Whether an instance is true, by its own methods, which the interpreter itself does not call.
TRUTH: Final = (
    "(lambda o: o.__bool__() if __e('hasattr(o, \"__bool__\")', {{'o': o}}) else "
    "o.__len__() > 0 if __e('hasattr(o, \"__len__\")', {{'o': o}}) else True)({})"
)


class Ended(Exception):
    """Say that the test ends here: a limit is broken, or a value cannot go from one session to the other.

    `Referee.ended` has the reason.
    """


class ProgramValue:
    """An instance or a function of the program, as the test's session hands it back.

    A function, or an object that is no plain data, has a global `name` in the program's session, and None as its
    `proxy`. An instance has a `proxy`, the interpreter's own handle of it, and an empty name.
    """

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
        if not name.isidentifier():  # the program may have made it up, and it must not become source
            raise AttributeError(f"no attribute {name[:80]!r}")
        return self.referee.ask(f"{{}}.{name}", [self.value])


class Referee:
    """Answer a test's questions with what the program gives, within the limits of one run.

    `program` is the program's session, `lifted` and `shared` are the exam's. `trusted` is the built-in `eval`, which
    the program cannot redefine. `out` collects what the test and the program print. `clock` gives the CPU seconds of
    the program's process and of this one, so that a busy machine does not count. `limit_s` bounds these seconds, with a
    margin to read what the program gives.

    After the test, `ended` is the kind and the message of the limit that was broken, or the interpreter's error, or
    None.
    """

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
        self.trusted, self.printed, self.clock = trusted, out, clock
        self.began_s = clock()
        self.ended: tuple[str, str] | MontyError | None = None  # kind and message, or what the program died of
        self.calls = 0
        self.names = 0  # global names that were given to the program's objects, `__h1` and so on
        self.wrapped = 0  # handles made for the value that is being read
        self.handed = ""  # the type of an instance that the test has seen
        # The last call: what was called, and which of its arguments changed to what.
        self.changes: tuple[Any, list[tuple[int, Any]]] = (None, [])

    def lookup(self) -> dict[str, Callable[..., Any]]:
        """Return the functions that the helpers and the rewritten test call, by name."""
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
        """Return handles of the program's functions and classes that a test calls, by the test's names for them."""
        return {here: _Handle(self, ProgramValue(there, None)) for here, there in names.items()}

    def call(self, value: ProgramValue, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the program's `value`, or its `.method`, and return the result.

        Which of the arguments it has changed is noted in `changes`. `method` is "" or has its dot. Raises TypeError for
        a keyword that is no identifier, and what `ask` raises.
        """
        if not all(map(str.isidentifier, kwargs)):  # the program may have made them up; they must not become source
            raise TypeError("keywords must be identifiers")
        slots = ["{}"] * len(args) + [f"{name}={{}}" for name in kwargs]
        before = [self._inward(item) if type(item) in _MUTABLE else None for item in (*args, *kwargs.values())]
        result = self.ask(f"{{}}{method}({', '.join(slots)})", [value, *args, *kwargs.values()])
        self.changes = (value, self._changes(before, 1))
        return result

    def ask(self, form: str, given: Sequence[Any], first: str = "") -> Any:
        """Evaluate an expression in the program's session, and return what the test may see of its value.

        `form` is the expression with slots `{}` for the values `given`; it may call the trusted `eval` as `__e`.
        `first` is source to run before it. The value stays in the program's session as `__v`. Raises what `_feed`
        raises, and Ended for a value that cannot cross.
        """
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
        """Run source in the program's session, with the globals `inputs`, and return the value of its last expression.

        What the program raises is raised here, for the test to catch. Raises Ended where a limit is broken, where the
        test has ended before, and for a value without a hash in this process. A timer is set for each call. Its signal
        kills this process where reading the value takes too long.
        """
        if self.ended is not None:
            raise Ended
        self.calls += 1
        left_s = self.limit_s + ALL_READING_S + CALL_S * self.calls - (self.clock() - self.began_s)
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
        except TypeError as error:  # a key, or a member of a set, that has no hash in this process
            return self._end("result", f"the result has {error}")

    def _end(self, kind: str, message: str) -> Any:
        """Keep this kind of outcome and its message in `ended`, and raise Ended: it never returns."""
        self.ended = (kind, message)
        raise Ended

    def _inward(self, value: Any) -> Any:
        """Return a value of the test's as the program's session takes it.

        Raises Ended for an instance of the test's own class, for a function of the test's, and for one of the program's
        inside another value.
        """
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
        """Return what the test's session may see of `value`, which is `__v` in the program's session.

        Plain data crosses as it is. A range or an iterator becomes a tuple. Any other object becomes a handle. Raises
        Ended for a value that is too large, and for an object within plain data.
        """
        named_tuple = {type(value)} if issubclass(type(value), tuple) else set()
        problem = refusal(value, *CROSSING, kinds=_KINDS | named_tuple, max_bits=CROSSING_BITS)
        if problem:
            self._end("result", problem)
        doubtful = doubtful_texts(value, "v")
        if not doubtful:
            return self._kept(value)
        if len(doubtful) > MOST_DOUBTFUL:
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
        """Give the program's `__v` a lasting global name, so that the object lives as long as the test; return it."""
        self.names += 1
        self._feed(f"__h{self.names} = __v", {})
        return f"__h{self.names}"

    def _kept(self, value: Any) -> Any:
        """Return a value with handles in place of the instances in it, which are then kept alive by a name."""
        before, self.wrapped = self.wrapped, 0
        with_handles = self._wrapped(value)
        if self.wrapped:
            self._name()
        self.wrapped = before
        return with_handles

    def _trusted(self, expression: str) -> Any:
        """Evaluate `expression` with the interpreter's own `eval`, and return its value.

        In it, `v` is the program's `__v`. Raises what `_feed` raises.
        """
        return self._feed(f"__e({expression!r}, {{'v': __v}})", {"__e": self.trusted})

    def _wrapped(self, value: Any) -> Any:
        """Return `value` with a handle in place of each instance in its lists, tuples and dictionaries.

        It counts the handles in `wrapped`, and keeps the class of the last one in `handed`.
        """
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
        """Evaluate a lifted expression in the program's session with the values `given`, and return its value.

        `index` is its place in `lifted`. Values from the index `plain_from` on must be plain: Ended is raised for an
        instance in them. -1 allows instances in all of them. The source `shared` runs before the first expression. What
        the call has changed is noted in `changes`.
        """
        if plain_from >= 0 and any(map(_holds_instance, given[plain_from:])):
            self._end("unsupported", "a test hands the program's own instance to a function of the test's")
        if self.shared:
            shared, self.shared = self.shared, ""
            self._feed(shared, {})
        before = [self._inward(item) if type(item) in _MUTABLE else None for item in given]
        result = self.ask(self.lifted[index], given)
        self.changes = (index, self._changes(before, 0))
        return result

    def _changes(self, before: list[Any], start: int) -> list[tuple[int, Any]]:
        """Return the arguments that the program has changed, as pairs of the index and the new value.

        `before` holds the lists, dictionaries and sets as they were handed over, and None for other arguments. The
        first of them is `__a<start>` in the program's session. A new value that may not cross to the test is left out.
        """
        changes = []
        for index, old in enumerate(before):
            if type(old) not in _MUTABLE:
                continue
            new = self._feed(f"__a{index + start}", {})
            if refusal(new, *CROSSING, kinds=_KINDS, max_bits=CROSSING_BITS) == "" and new != old:
                changes.append((index, self._wrapped(new)))
        return changes

    def _changed(self, function: Any) -> list[tuple[int, Any]]:
        """Return the changes of the last call, as `_changes` gives them, if it was of `function`; else an empty list.

        `function` is the ProgramValue that was called or that has the method, or the index of a lifted expression. The
        changes are forgotten in both cases.
        """
        called, changes = self.changes
        self.changes = (None, [])
        return changes if called is function or (type(called) is int and called == function) else []


def _holds_instance(value: Any) -> bool:
    """Tell whether there is an instance of the program's in a value of the test's; its functions are none."""
    if isinstance(value, dict):
        return any(map(_holds_instance, value)) or any(map(_holds_instance, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_instance, value))
    return isinstance(value, ProgramValue) and value.proxy is not None


def examine(
    referee: Referee, open_session: Callable[[], Any], state: bytes, source: str, names: dict[str, str]
) -> tuple[str, str] | MontyError | None:
    """Run a test, and return why it failed: a kind and a message, or an error of the interpreter's; None for a pass.

    `open_session` opens a session for tests, which starts in `state`. `names` maps the test's names for the functions
    and classes that it calls to the program's. Nothing is raised for what the test or the program does.
    """
    try:
        with open_session() as session:
            session.load_session(state)
            session.feed_run(
                f"{source}\nNone",
                inputs=referee.bind(names),
                external_lookup=referee.lookup(),
                print_callback=referee.printed,
            )
    except Ended:
        return referee.ended
    except MontyError as error:
        raised = error.exception()
        if referee.ended is None and referee.handed and isinstance(raised, AssertionError | TypeError):
            # An error about two instances can only come from an operator that the interpreter lacks.
            kind = "unsupported" if str(raised).count(ProgramValue.__name__) > 1 else "result"
            return kind, (
                f"the test got an instance of the program's {referee.handed}, which equals only itself: "
                f"compare its attributes, or what its methods return ({one_line(raised)})"
            )
        return referee.ended or error
    return referee.ended
