"""Results of one trace that differ in memory, link speeds or load: what more of each would bring."""

from . import figures
from .parts import Plot, Section, Table, Text, Title
from .quantities import byte_rate, count, name_text, operation_rate, seconds, share, share_text, size

CURVES_MAX = 6  # plots of one kind; the tables have all points
ROWS_DRAWN_MAX = 40
UNSETTLED_GAP = 0.05  # as in the table of kvtier plan
BINDING_TEXT = (
    "Which limit binds: the part of the bound's seconds that is priced on each resource; of a tier's room, what the price of "
    "all of it comes to beside the bound. With one percent more of either, the bound falls by about one percent of that "
    "part, so more of what has nearly none helps nothing.")


class _Point:
    """`setting` is {name: number} of what may differ."""

    def __init__(self, setting, fields):
        self.setting, self.fields = setting, fields

    @property
    def policies(self):
        return self.fields.get("policies", {})


class _Family:
    """Points of one trace, machine and model, under a name for the page."""

    def __init__(self, name, points):
        self.name, self.points = name, points
        names = list({name: None for point in points for name in point.setting})
        self.varied = [n for n in names if len({point.setting.get(n) for point in points}) > 1]


# What results of one family have in common, beside the tiers that they have. The last two are of simulations.
_COMMON = ("trace", "machine", "model", "overrides", "inclusive", "mode", "phase", "requests", "sessions", "block_tokens",
           "staging_bytes", "gpu_memory_bytes", "seed", "settle", "segment_bytes")


def _common(fields):
    """{field: value} of _COMMON; one that is not there is as one that says it was not asked for. Capacities that --set gave
    are in the tiers, too, and there they may differ."""
    common = {name: fields.get(name) or None for name in _COMMON}
    capacities = {text for tier in fields.get("tiers", []) for text in (tier["name"], f"tier.{tier['name']}.capacity")}
    common["overrides"] = " ".join(
        text for text in (common["overrides"] or "").split(" ") if text.partition("=")[0] not in capacities) or None
    return common


def _families(results):
    """(all, those with something that varies): one for each plan, and one for each set of results that differ in the
    capacities of their tiers alone."""
    families, groups = [], {}
    for result in results:
        fields = result.fields
        if result.kind == "plan":
            families.append(_Family(name_text(result.name), [_Point(point["set"], point) for point in fields.get("points", [])]))
            continue
        setting = {tier["name"]: tier["capacity_bytes"] for tier in fields.get("tiers", [])}
        key = (tuple(_common(fields).items()), tuple(setting))
        if setting and fields.get("trace") is not None:
            groups.setdefault(key, []).append(_Point(setting, fields))
    commons = [dict(common) for common, _ in groups]
    differ = [name for name in _COMMON[3:] if len({common[name] for common in commons}) > 1]
    tiers_differ = len({tiers for _, tiers in groups}) > 1
    for common, ((_, tiers), points) in zip(commons, groups.items()):
        names = [name_text(common["trace"] or "no trace"), name_text(common["machine"] or "no machine named"),
                 name_text(common["model"] or "no model named")]
        names += [name_text(field if common[field] is True else f"{field} {common[field]}") for field in differ if common[field]]
        names += [name_text(f"tiers {'+'.join(tiers)}")] if tiers_differ else []
        families.append(_Family(", ".join(names), points))
    return families, [family for family in families if family.varied]


def quantity_of(name):
    """How a setting is shown: capacities are bytes, links and memories bytes a second, loads numbers."""
    if name == "load":
        return count
    if name == "compute":
        return operation_rate
    return byte_rate if name.startswith("link.") or name.endswith(".bandwidth") else size


def _setting_text(name, value):
    text = quantity_of(name)(value).text()
    return f"{text} × load" if name == "load" and value is not None else f"{name_text(name)} {text}"


def _curves(family, axis):
    """(text of all other settings, points ascending along `axis`) for each of their combinations with two values of it."""
    groups = {}
    for point in family.points:
        if axis in point.setting:
            rest = tuple((n, point.setting.get(n)) for n in family.varied if n != axis)
            groups.setdefault(rest, {}).setdefault(point.setting[axis], []).append(point)
    for rest, by_value in groups.items():
        if len(by_value) > 1:
            yield ", ".join(_setting_text(n, v) for n, v in rest), [
                (value, by_value[value]) for value in sorted(by_value)]


def _first(points, read):
    """What the first of the points that has it says: a bound and a simulation of the same memory are two points."""
    return next((value for value in map(read, points) if value is not None), None)


def _policy_series(points, field):
    names = list({name: None for _, same in points for point in same for name in point.policies})
    series = {name: [_first(same, lambda p, n=name: p.policies.get(n, {}).get(field)) for _, same in points] for name in names}
    return {name: values for name, values in series.items() if any(v is not None for v in values)}


def memory_section(results):
    parts, number = [], 0
    everything, families = _families(results)
    for family in families:
        for axis in family.varied:
            for rest, points in _curves(family, axis):
                number += 1
                title = name_text(axis) + (f", with {rest}" if rest else "")
                parts.append(Title(f"{family.name}: {title}" if len(everything) > 1 else title))
                x = [value for value, _ in points]
                rates = _policy_series(points, "hit_rate")
                bound = {name: values for name, values in (
                    (name, [_first(same, lambda p, f=field: p.fields.get(f)) for _, same in points])
                    for name, field in (("lower bound", "lower_bound_s"), ("best feasible", "best_feasible_s")))
                    if any(v is not None for v in values)}
                times = {**bound, **_policy_series(points, "time_s")}
                if number <= CURVES_MAX and (rates or times):
                    parts.append(_plot(axis, x, rates, times))
                for name, series, kind in (("rates", rates, share), ("seconds", times, seconds)):
                    if series:
                        parts.append(Table(f"curve-{number}-{name}", [axis, *series], [
                            [quantity_of(axis)(value), *(kind(values[index]) for values in series.values())]
                            for index, value in enumerate(x)], folded="the hit rates" if series is rates else "the times"))
    if number > CURVES_MAX:
        parts.append(Text(f"Of {number} combinations the first {CURVES_MAX} are plotted."))
    return Section("memory", "Hit rate and time against memory", parts or [Text(
        "Left out: it takes a result of kvtier plan, or several of one trace with other capacities.", missing=True)])


def _plot(axis, x, rates, times):
    styles = {"lower bound": {"linewidth": 2.2}, "best feasible": {"linestyle": "--"}}
    percent = {name: [None if v is None else 100 * v for v in values] for name, values in rates.items()}
    panels = {ylabel: series for ylabel, series in (("hit rate, %", percent), ("seconds", times)) if series}
    return Plot(figures.curves(x, panels, axis, styles, lambda value: quantity_of(axis)(value).text()), f"Hit rates and times against {name_text(axis)}")


def plan_section(results):
    parts = []
    plans = [(number, result) for number, result in enumerate(results, 1) if result.kind == "plan"]
    for number, result in plans:
        points, target, cheapest = (result.fields.get(k) for k in ("points", "target_s", "cheapest"))
        if not points:
            continue
        if len(plans) > 1:
            parts.append(Title(f"{number}. {name_text(result.name)}"))
        if target is not None and cheapest is not None:
            parts.append(Text(f"The cheapest that reaches {seconds(target).text()} is marked."))
        elif target is not None:
            parts.append(Text(f"Nothing here is known to reach {seconds(target).text()}."))
        possible = result.fields.get("cheapest_possible")
        if target is not None and "cheapest_possible" in result.fields:
            parts.append(Text("The bound rules out all of these." if possible is None else "The cheapest that the bound does not "
                              f"rule out: {', '.join(_setting_text(n, v) for n, v in points[possible]['set'].items())}."))
        names = list({name: None for point in points for name in point["set"]})
        policies = list({name: None for point in points for name in point.get("policies", {})})
        parts.append(Table(f"plan-{number}", [*names, "price", "lower bound", "best feasible", "gap", *policies], [
            [*(quantity_of(n)(point["set"].get(n)) for n in names), count(point.get("price")),
             seconds(point.get("lower_bound_s")), seconds(point.get("best_feasible_s")), share(point.get("gap")),
             *(seconds(point.get("policies", {}).get(p, {}).get("time_s")) for p in policies)]
            for point in points], marked=[] if cheapest is None else [cheapest]))
        parts += _notes(points)
        parts += _what_binds(number, names, points)
    return Section("plan", "Variations", parts or [Text("Left out: it takes a result of kvtier plan.", missing=True)])


def _notes(points):
    """What the table cannot say."""
    parts = []
    knowing = list({name: None for point in points for name, policy in point.get("policies", {}).items()
                    if policy.get("knows_future")})
    if knowing:
        parts.append(Text(f"{', '.join(map(name_text, knowing))}: knows the future, as no policy in use can."))
    uncached = [point["uncached_s"] for point in points if point.get("uncached_s") is not None]
    if uncached:
        least, most = seconds(min(uncached)).text(), seconds(max(uncached)).text()
        parts.append(Text(f"Without any cache, with every prompt computed whole: {least if least == most else f'{least} to {most}'}."))
    if any(point.get("gap") is None or point["gap"] > UNSETTLED_GAP for point in points):
        parts.append(Text(f"Where the gap is above {share_text(UNSETTLED_GAP)}, or there is none, bound and best schedule are not "
                          "settled, nor is what binds: a longer --time-limit may help."))
    return parts


def _what_binds(number, names, points):
    def bindings(point):
        return ({name: link["binding"] for name, link in point.get("links", {}).items() if "binding" in link},
                {f"room in {tier}": room["binding"] for tier, room in point.get("room", {}).items() if "binding" in room})

    found = [bindings(point) for point in points]
    links, rooms = (list({name: None for each in found for name in each[kind]}) for kind in (0, 1))
    if not links:
        return [Text("Which resource binds is not in this plan: its points have no links.", missing=True)]
    rows = [", ".join(_setting_text(n, point["set"].get(n)) for n in names) for point in points]
    drawn = [name for name in links if any(each[0].get(name, 0) > 0.001 for each in found)]
    parts = [Text(BINDING_TEXT)]
    if drawn and len(points) <= ROWS_DRAWN_MAX:
        parts.append(Plot(figures.shares(rows, {name: [100 * each[0].get(name, 0) for each in found] for name in drawn},
                                         "% of the bound's seconds"), "Part of the bound priced on each resource"))
    parts.append(Table(f"binds-{number}", ["", *links, *rooms], [
        [row, *(share(on_links.get(name)) for name in links), *(share(in_tiers.get(name)) for name in rooms)]
        for row, (on_links, in_tiers) in zip(rows, found)]))
    return parts
