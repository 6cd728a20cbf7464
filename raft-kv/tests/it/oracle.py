"""Answers, a line for a line, what CPython makes of a JSON request.

["eval", text]           -> ["ok", shown] or ["error", type name]
["equal", left, right]   -> ["ok", left == right] or ["error", type name]

A value is shown as its repr, but with the elements of sets sorted by their reprs, since CPython's own
order follows its hash tables.
"""

import ast
import json
import sys
import warnings

warnings.simplefilter("ignore")


def has_set(value):
    if isinstance(value, set):
        return True
    if isinstance(value, dict):
        return any(map(has_set, value.values()))
    return isinstance(value, (tuple, list)) and any(map(has_set, value))


def show(value):
    if not has_set(value):
        return repr(value)
    if isinstance(value, set):
        return "{" + ", ".join(sorted(map(repr, value))) + "}" if value else "set()"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {show(item)}" for key, item in value.items()) + "}"
    inside = ", ".join(map(show, value))
    if isinstance(value, list):
        return f"[{inside}]"
    return f"({inside},)" if len(value) == 1 else f"({inside})"


for line in sys.stdin:
    kind, *texts = json.loads(line)
    try:
        values = [ast.literal_eval(text) for text in texts]
        answer = ["ok", show(values[0]) if kind == "eval" else values[0] == values[1]]
    except Exception as error:
        answer = ["error", type(error).__name__]
    print(json.dumps(answer), flush=False)
