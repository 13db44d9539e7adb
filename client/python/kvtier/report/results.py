"""Reads results: JSON of `kvtier bound`, `kvtier sim` and `kvtier plan`, which anybody may have edited.

What a field may be stands in _FIELDS. A field that is missing leaves something out of the page; one that is there and is
not what it has to be is an InvalidResult that names the file and the field. Fields that are not known are left alone.
"""

import json

from .quantities import name_text

BYTES_MAX = 64 << 20
ENTRIES_MAX = 64  # policies, resources, tiers, planes' groups: of anything that gets a line or a column of its own
SERIES_MAX = 4096  # phases' groups, points of progress
POINTS_MAX = 1024
NUMBER_MAX = 1e30
KINDS = ("bound", "sim", "plan")


class InvalidResult(Exception):
    """A file that is no result; the message is one line for people."""


class Result:
    """One file. `fields` is the JSON object, checked: no number and no list is beyond the limits."""

    def __init__(self, name, fields):
        self.name = name
        self.fields = fields

    @property
    def kind(self):
        return self.fields["kind"]


def _name(value, where):
    if not isinstance(value, str):
        raise InvalidResult(f"{where} is {_shown(value)}; a text is needed")


def _number(value, where):
    # True and False are ints to Python; NaN is not within anything.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -NUMBER_MAX <= value <= NUMBER_MAX:
        raise InvalidResult(f"{where} is {_shown(value)}; a number of at most {NUMBER_MAX:.0e} is needed")


def _amount(value, where):
    _number(value, where)
    if value < 0:
        raise InvalidResult(f"{where} is {_shown(value)}; a number from 0 is needed")


def _flag(value, where):
    if not isinstance(value, bool):
        raise InvalidResult(f"{where} is {_shown(value)}; true or false is needed")


def _maybe(check):
    def optional(value, where):
        if value is not None:
            check(value, where)
    return optional


def _list(check, longest):
    def each(value, where):
        if not isinstance(value, list) or len(value) > longest:
            raise InvalidResult(f"{where} is {_shown(value)}; a list of at most {longest} is needed")
        for index, item in enumerate(value):
            check(item, f"{where}[{index}]")
    return each


def _map(check):
    def each(value, where):
        if not isinstance(value, dict) or len(value) > ENTRIES_MAX:
            raise InvalidResult(f"{where} is {_shown(value)}; an object of at most {ENTRIES_MAX} fields is needed")
        for name, item in value.items():
            check(item, f"{where}.{name_text(name)}")
    return each


def _object(fields, needed=()):
    def each(value, where):
        if not isinstance(value, dict):
            raise InvalidResult(f"{where or 'the file'} is {_shown(value)}; an object is needed")
        prefix = f"{where}." if where else ""
        for name in needed:
            if name not in value:
                raise InvalidResult(f"{prefix}{name} is missing")
        for name, check in fields.items():
            if name in value:
                check(value[name], prefix + name)
    return each


def _same_length(check, *names):
    """Lists of one object that belong together."""
    def each(value, where):
        check(value, where)
        lists = {}
        for name in names:
            item = value.get(name, {})
            for key, values in (item.items() if isinstance(item, dict) else [("", item)]):
                if values is not None:
                    lists[f"{where}.{name}" + (f".{key}" if key else "")] = values
        first = next((name for name, values in lists.items() if values), None)
        for name, values in lists.items():
            if len(values) != len(lists[first] if first else []):
                raise InvalidResult(f"{name} has {len(values)} numbers, and {first} {len(lists[first])}")
    return each


def _shown(value):
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


_STEP = ("phases", "time_s", "stall_s", "accesses", "hits")  # of a run of phases, all of them together
_POLICY = _object({
    "knows_future": _flag, "time_s": _amount, "hit_rate": _amount, "hit_rate_last_half": _amount, "hit_rate_by_tier": _map(_amount),
    "bytes_by_link": _map(_amount), "bytes_by_tier": _map(_amount), "stall_s": _amount, "seconds": _amount,
    "hits_by_plane": _list(_amount, SERIES_MAX),
    "steps": _list(_object({name: _amount for name in _STEP}, needed=_STEP), SERIES_MAX),
})
_HEAD = {
    "trace": _name, "machine": _name, "model": _name, "overrides": _name, "inclusive": _flag, "mode": _maybe(_name),
    "phase": _name, "requests": _maybe(_amount), "sessions": _amount, "block_tokens": _maybe(_amount),
    "staging_bytes": _maybe(_amount), "gpu_memory_bytes": _maybe(_amount), "seed": _amount, "settle": _flag, "segment_bytes": _maybe(_amount),
    "tiers": _list(_object({"name": _name, "capacity_bytes": _amount}, needed=("name", "capacity_bytes")), ENTRIES_MAX),
}
_OUTCOME = {
    **_HEAD,
    "lower_bound_s": _amount, "best_feasible_s": _maybe(_amount), "gap": _maybe(_number), "roofline_s": _amount,
    "uncached_s": _maybe(_amount),
    "blocks": _amount, "phases": _amount, "accesses": _amount, "seconds": _amount, "peak_bytes": _amount,
    "best_feasible_from": _maybe(_name), "best_feasible_simulated": _flag, "policies": _map(_POLICY),
    "links": _map(_object({"units": _maybe(_amount), "units_per_second": _amount, "binding": _amount})),
    "room": _map(_object({"binding": _amount})),
}
_SERIES = _same_length(_object({
    "phase": _list(_amount, SERIES_MAX), "share": _map(_list(_amount, SERIES_MAX)),
    "room_s_per_gib": _map(_list(_amount, SERIES_MAX)), "occupancy_bytes": _map(_maybe(_list(_amount, SERIES_MAX))),
}, needed=("phase",)), "phase", "share", "room_s_per_gib", "occupancy_bytes")
_PROGRESS = _list(_object({"seconds": _amount, "lower_bound_s": _amount, "best_feasible_s": _maybe(_amount)},
                          needed=("seconds", "lower_bound_s")), SERIES_MAX)
_POINT = _object({**_OUTCOME, "set": _map(_amount), "price": _maybe(_amount)}, needed=("set",))


def _cheapest(value, where):
    _amount(value, where)
    if not isinstance(value, int):
        raise InvalidResult(f"{where} is {_shown(value)}; the number of a point is needed")


_FIELDS = {
    "bound": _object({**_OUTCOME, "series": _SERIES, "progress": _PROGRESS}),
    "sim": _object(_OUTCOME),
    "plan": _object({
        **_HEAD,
        "vary": _list(_object({"name": _name, "values": _list(_amount, POINTS_MAX)}, needed=("name",)), ENTRIES_MAX),
        "points": _list(_POINT, POINTS_MAX), "target_s": _maybe(_amount), "cheapest": _maybe(_cheapest),
        "cheapest_possible": _maybe(_cheapest),
    }),
}


def _no_constant(text):
    raise InvalidResult(f"{text} is no JSON")


def _no_repeats(pairs):
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise InvalidResult(f"field {_shown(next(n for n in names if names.count(n) > 1))} is there twice")
    return fields


def parse_result(name, text):
    """The Result in `text`, called `name` on the page. InvalidResult says what is wrong, `name` first."""
    try:
        fields = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeats)
        if not isinstance(fields, dict) or fields.get("kind") not in KINDS:
            kind = fields.get("kind") if isinstance(fields, dict) else None
            raise InvalidResult(f"field kind is {_shown(kind)}; a result of `kvtier bound --json`, `kvtier sim --json` or "
                                f"`kvtier plan --json` says {', '.join(KINDS[:-1])} or {KINDS[-1]} there")
        _FIELDS[fields["kind"]](fields, "")
        for field in ("cheapest", "cheapest_possible"):
            if (fields.get(field) or 0) >= max(len(fields.get("points", [])), 1):
                raise InvalidResult(f"{field} is {fields[field]}, and there are {len(fields.get('points', []))} points")
    except InvalidResult as error:
        raise InvalidResult(f"{name}: {error}") from None
    except json.JSONDecodeError as error:
        raise InvalidResult(f"{name}: line {error.lineno}, column {error.colno}: {error.msg}; "
                            "a page is of what kvtier bound, sim or plan printed with --json") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a list in a list in a list
        raise InvalidResult(f"{name}: {error}") from None
    return Result(name, fields)


def read_result(path):
    """The Result in the file at `path`. InvalidResult, or OSError where it cannot be read."""
    with open(path, "rb") as file:
        data = file.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise InvalidResult(f"{path}: it has more than {BYTES_MAX >> 20} MiB, the limit")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidResult(f"{path}: byte {error.start} is not UTF-8") from None
    return parse_result(path, text)
