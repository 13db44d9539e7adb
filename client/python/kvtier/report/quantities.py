"""Numbers with a unit: how they are shown to people, and how a page carries their digits. And names, which may be long."""

import html

NAME_CHARACTERS_MAX = 200  # of a name as it is shown
_TIMES = ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZES = tuple((1024 ** power, unit) for power, unit in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")))

_COUNTS = tuple((1000 ** power, prefix) for power, prefix in enumerate("kMGTPE", 1))


def _digits(value, digits=4):
    """Four significant digits, never as a power of ten where people can read it otherwise."""
    if value == 0 or 1e-4 <= abs(value) < 10 ** digits:
        return f"{value:.{digits}g}"
    return f"{value:,.0f}" if 10 ** digits <= abs(value) < 1e12 else f"{value:.4g}"


def name_text(name):
    """A name of a result as a page shows it: what is between the ends of a long one is left out."""
    half = NAME_CHARACTERS_MAX // 2
    return name if len(name) <= NAME_CHARACTERS_MAX else f"{name[:half]}…{name[-half:]}"


def seconds_text(value):
    if value == 0:
        return "0 s"
    factor, unit = next(((f, u) for f, u in _TIMES if abs(value) >= f), _TIMES[-1])
    if unit in ("h", "min") and abs(value) < 10 * factor:  # 83.21 s says more than 1.387 min
        factor, unit = (60, "min") if unit == "h" else (1, "s")
    return f"{_digits(value / factor)} {unit}"


def bytes_text(value):
    factor, unit = next(((f, u) for f, u in _SIZES if abs(value) >= f), (1, "bytes"))
    return f"{_digits(value / factor)} {unit}"


def byte_rate_text(value):
    return f"{bytes_text(value)}/s"


def operations_text(value):
    factor, prefix = next(((f, p) for f, p in reversed(_COUNTS) if abs(value) >= f), (1, ""))
    return f"{_digits(value / factor)} {prefix}FLOP"


def operation_rate_text(value):
    return f"{operations_text(value)}/s"


def share_text(value):
    return f"{_digits(100 * value)} %"


def count_text(value):
    if isinstance(value, int):
        return f"{value:,}" if value < 10 ** 12 else f"{value:.4g}"
    return _digits(value)


class Quantity:
    """A number of the JSON and the text for it; with no number, a dash."""

    def __init__(self, value, text):
        self.value, self._text = value, text

    def text(self):
        return "–" if self.value is None else self._text(self.value)

    def html(self):
        if self.value is None:
            return "–"
        return f'<data value="{self.value!r}">{html.escape(self._text(self.value))}</data>'


def seconds(value):
    return Quantity(value, seconds_text)


def size(value):
    return Quantity(value, bytes_text)


def byte_rate(value):
    return Quantity(value, byte_rate_text)


def operations(value):
    return Quantity(value, operations_text)


def operation_rate(value):
    return Quantity(value, operation_rate_text)


def share(value):
    return Quantity(value, share_text)


def count(value):
    return Quantity(value, count_text)
