"""Hold the source of the helpers that a test's session has besides the built-ins.

`rewards/exams.py` and `rewards/operators.py` rewrite tests to call them. They call the functions of `Referee.lookup`,
such as `_text_of`, which ask the program. A function that the interpreter's own `map`, `filter` or `sorted` calls could
not ask the program, so these are written in Python here.
"""

from __future__ import annotations

from typing import Final

HELPERS: Final = """
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
