"""The plots. Each function takes plain lists and returns a matplotlib Figure, which tests look into."""

import io
import logging

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

BOUND, FEASIBLE, ROOFLINE = "#14202e", "#2e7d4f", "#9aa4b0"
_NAMED = {"lower bound": BOUND, "best feasible": FEASIBLE, "lru": "#4878b0", "lfu": "#e08a3c", "s3fifo": "#5a9e6f",
          "static": "#8f8f8f", "reactive": "#b0649c", "page": "#8c6d4f", "sa": "#45a8b8", "min": "#c9a227",
          "frequency": "#7a6bb5", "kvtier": "#c8453b"}
_OTHERS = ("#4878b0", "#e08a3c", "#5a9e6f", "#b0649c", "#45a8b8", "#8c6d4f", "#7a6bb5", "#c9a227", "#c8453b", "#8f8f8f")
_WIDTH = 9.6  # inches; the page is about as wide
_LABEL_CHARACTERS_MAX = 36
_STYLE = {
    "font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#8b95a1",
    "axes.grid": True, "grid.color": "#e4e8ee", "axes.axisbelow": True, "axes.titlesize": 10, "axes.titlelocation": "left",
    "legend.frameon": False, "svg.hashsalt": "kvtier", "svg.fonttype": "path", "axes.formatter.limits": (-4, 6),
}


def label(text):
    """`text` as matplotlib shows it as it is: neither mathematics nor control characters, nor as long as it likes."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if len(text) > _LABEL_CHARACTERS_MAX:
        text = text[:_LABEL_CHARACTERS_MAX - 1] + "…"
    text = text.replace("$", r"\$")
    return " " + text if text.startswith("_") else text  # legends leave out what begins with one


def colours(names):
    """One for each name; that of a policy is the same in all plots."""
    left = [c for c in _OTHERS if c not in {_NAMED.get(name) for name in names}] or list(_OTHERS)
    chosen, used = {}, 0
    for name in names:
        if name in _NAMED:
            chosen[name] = _NAMED[name]
        else:
            chosen[name] = left[used % len(left)]
            used += 1
    return chosen


def svg(figure):
    """As SVG; the same figure gives the same bytes."""
    file = io.BytesIO()
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # letters that no font of this machine has
    try:
        with matplotlib.rc_context(_STYLE):
            figure.savefig(file, format="svg", metadata={"Date": None})
    finally:
        logger.setLevel(level)
    return file.getvalue()


def _figure(height, columns=1, **options):
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, **options)[0]
    return figure, axes


def times(bars, marks):
    """Horizontal bars, {name: seconds}, against vertical lines, {name: (seconds, colour, line style)}. They begin at zero, as a
    bar's length is what is seen of it; small differences are in the numbers beside them."""
    with matplotlib.rc_context(_STYLE):
        figure, (axes,) = _figure(0.9 + 0.33 * max(len(bars), 2))
        names = list(bars)
        palette = colours(names)
        drawn = axes.barh(range(len(names)), [bars[n] for n in names], color=[palette[n] for n in names], height=0.66)
        axes.bar_label(drawn, labels=[f" {bars[n]:.4g} s" for n in names], fontsize=8.5)
        axes.set_yticks(range(len(names)), [label(n) for n in names])
        axes.set_ylim(max(len(names), 2) - 0.5, -0.5)
        axes.grid(False, axis="y")
        longest = max([*bars.values(), *(m[0] for m in marks.values()), 1e-9])
        for name, (value, colour, style) in marks.items():
            axes.axvline(value, color=colour, linestyle=style, linewidth=1.6, label=f"{label(name)}: {value:.4g} s")
        axes.set_xlim(0, 1.12 * longest)
        axes.set_xlabel("seconds")
        if marks:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(marks), borderaxespad=0.2)
    return figure


def lines(x, series, xlabel, ylabel, styles=None, markers=True, steps=False, zero=True):
    """{name: [y or None]} over `x`; None is a gap. `styles` has what differs from the rest: {name: {...}}."""
    with matplotlib.rc_context(_STYLE):
        figure, (axes,) = _figure(3.0)
        _draw(axes, x, series, colours(list(series)), styles or {}, markers, steps)
        _finish(axes, x, xlabel, ylabel)
        if zero:
            axes.set_ylim(bottom=0)
        if series:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def curves(x, panels_of, xlabel, styles, tick_text):
    """A panel for each of {ylabel: series as in lines()}, side by side, over the same settings; one legend."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(3.4, len(panels_of))
        palette = colours(list({name: None for series in panels_of.values() for name in series}))
        drawn = {}
        for place, (ylabel, series) in zip(axes, panels_of.items()):
            drawn.update(_draw(place, x, series, palette, styles, True, False))
            _finish(place, x, xlabel, ylabel)
            place.set_ylim(bottom=0)
            if min(x) > 0 and max(x) >= 4 * min(x):
                place.set_xscale("log", base=2)
            place.set_xticks(x)
            place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
            place.xaxis.set_minor_formatter(NullFormatter())
            place.tick_params(axis="x", which="minor", length=0)
            if len(x) > 4:
                place.tick_params(axis="x", rotation=45)
        axes[-1].legend(handles=list(drawn.values()), loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _draw(axes, x, series, palette, styles, markers, steps):
    """{name: its line}"""
    drawn = {}
    for name, values in series.items():
        style = {"color": palette[name], "linewidth": 1.6, **styles.get(name, {})}
        if markers:
            style.update(marker="o", markersize=4)
        if steps:
            style["drawstyle"] = "steps-post"
        drawn[name], = axes.plot(x, [float("nan") if v is None else v for v in values], label=label(name), **style)
    return drawn


def areas(x, series, xlabel, ylabel):
    """Stacked, {name: [y]}, each y lasting until the next x."""
    with matplotlib.rc_context(_STYLE):
        figure, (axes,) = _figure(3.0)
        palette = colours(list(series))
        names = list(series)
        axes.stackplot(x, [series[n] for n in names], labels=[label(n) for n in names], colors=[palette[n] for n in names],
                       step="post", linewidth=0)
        _finish(axes, x, xlabel, ylabel)
        axes.set_ylim(bottom=0)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _finish(axes, x, xlabel, ylabel):
    axes.set_xlabel(label(xlabel))
    axes.set_ylabel(label(ylabel))
    if len(x) > 1 and min(x) < max(x):
        axes.margins(x=0.03)


def shares(rows, series, xlabel):
    """One horizontal bar for each of `rows`, stacked of {name: [share of each row]}."""
    with matplotlib.rc_context(_STYLE):
        figure, (axes,) = _figure(0.9 + 0.33 * max(len(rows), 2))
        palette = colours(list(series))
        before = [0.0] * len(rows)
        for name, values in series.items():
            axes.barh(range(len(rows)), values, left=before, color=palette[name], label=label(name), height=0.66)
            before = [b + v for b, v in zip(before, values)]
        axes.set_yticks(range(len(rows)), [label(r) for r in rows])
        axes.set_ylim(max(len(rows), 2) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.set_xlabel(xlabel)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def panels(rows, columns, text):
    """A panel for each of `columns`, {title: [value of each row or None]}, bars for `rows`; each has a scale of its own,
    whose numbers are shown as text(number)."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(1.0 + 0.3 * max(len(rows), 2), max(len(columns), 1), sharey=True)
        palette = colours(rows)
        for place, (title, values) in zip(axes, columns.items()):
            place.barh(range(len(rows)), [v or 0 for v in values], color=[palette[r] for r in rows], height=0.66)
            place.set_title(label(title))
            most = max([v or 0 for v in values], default=0)
            place.set_xticks([0, most] if most else [0])  # more numbers would not stand beside each other
            place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
            place.grid(False, axis="y")
        axes[0].set_yticks(range(len(rows)), [label(r) for r in rows])
        axes[0].set_ylim(max(len(rows), 2) - 0.5, -0.5)
    return figure
