"""What of results is shown where: each section takes what it needs of them, or says what it would need."""

from itertools import accumulate

from . import figures
from .curves import BINDING_TEXT, memory_section, plan_section
from .parts import Plot, Section, Table, Text, Title
from .quantities import byte_rate, bytes_text, count, name_text, operation_rate, operations, seconds, seconds_text, share, share_text, size

GIB = 1 << 30


def all_sections(results):
    return [section(results) for section in (
        _overview, _times, memory_section, plan_section, _binding, _prices, _occupancy, _traffic, _steps, _progress)]


def memory_text(fields):
    return ", ".join(f"{name_text(tier['name'])} {size(tier['capacity_bytes']).text()}" for tier in fields.get("tiers", []))


def _each(results, has):
    """(number on the page, Result) of those for which `has`."""
    return [(number, result) for number, result in enumerate(results, 1) if has(result)]


def _titled(results, number, result):
    return [Title(f"{number}. {name_text(result.name)}")] if len(results) > 1 else []


def _overview(results):
    inputs = Table("results", ["", "result", "of", "trace", "machine", "model", "memory", "mode", "phases", "accesses"], [
        [str(number), result.name, f"kvtier {result.kind}", *(result.fields.get(k) or "–" for k in ("trace", "machine", "model")),
         memory_text(result.fields) or "–", result.fields.get("mode") or "–", count(result.fields.get("phases")),
         count(result.fields.get("accesses"))]
        for number, result in enumerate(results, 1)])
    bounds = _each(results, lambda r: r.kind == "bound")
    parts = [inputs]
    if bounds:
        parts.append(Table("bounds", ["", "roofline", "lower bound", "best feasible", "found by", "gap", "blocks", "solved in",
                                      "memory it took"], [
            [str(number), seconds(f.get("roofline_s")), seconds(f.get("lower_bound_s")), seconds(f.get("best_feasible_s")),
             _finder(f), share(f.get("gap")), count(f.get("blocks")), seconds(f.get("seconds")),
             size(f.get("peak_bytes"))] for number, f in ((n, r.fields) for n, r in bounds)]))
        parts.append(Text(
            "No schedule, not even one that knows the future, takes less than the lower bound on this trace and machine. "
            "The best feasible schedule shows how near to it one can come; the gap is what is not known between the two. "
            "The roofline is a coarser bound, into which the sizes of memories do not enter."))
    return Section("overview", "Results", parts)


def _finder(fields):
    name = fields.get("best_feasible_from") or "–"
    return f"{name}, simulated" if fields.get("best_feasible_simulated") else name


def _times(results):
    parts = []
    for number, result in _each(results, lambda r: r.kind != "plan"):
        fields, policies = result.fields, result.fields.get("policies", {})
        taken = {name: policy["time_s"] for name, policy in sorted(
            policies.items(), key=lambda item: item[1].get("time_s", 0)) if "time_s" in policy}
        bound, feasible, roofline = (fields.get(k) for k in ("lower_bound_s", "best_feasible_s", "roofline_s"))
        parts += _titled(results, number, result)
        if not taken:
            parts.append(Text("No policy's time is in this result: kvtier bound --policies adds them.", missing=True))
        if taken or bound is not None:
            marks = {name: mark for name, mark in (
                ("roofline", (roofline, figures.ROOFLINE, ":")), ("lower bound", (bound, figures.BOUND, "-")),
                ("best feasible", (feasible, figures.FEASIBLE, "--"))) if mark[0] is not None}
            if taken:
                parts.append(Plot(figures.times(taken, marks), "Time of each policy against the bound"))
                parts.append(Text(_left_to_gain(taken, {name: policies[name].get("knows_future") for name in taken}, bound)))
            rows = [[name, seconds(value), share(value / bound - 1 if bound else None), share(None), share(None), seconds(None)]
                    for name, (value, _, _) in marks.items()]
            rows += [[name, seconds(value), share(value / bound - 1 if bound else None), share(policies[name].get("hit_rate")),
                      share(policies[name].get("hit_rate_last_half")), seconds(policies[name].get("stall_s"))]
                     for name, value in taken.items()]
            parts.append(Table(f"times-{number}", ["", "time", "above the bound", "hit rate", "its last half", "stalled"], rows))
        if fields.get("uncached_s") is not None:
            parts.append(Text(f"Without any cache, with every prompt computed whole, it takes {seconds_text(fields['uncached_s'])}."))
        tiers = {tier: None for policy in policies.values() for tier in policy.get("hit_rate_by_tier", {})}
        if tiers:
            parts.append(Table(f"tiers-{number}", ["hits by tier", *tiers], [
                [name, *(share(policy["hit_rate_by_tier"].get(tier)) for tier in tiers)]
                for name, policy in policies.items() if "hit_rate_by_tier" in policy]))
    return Section("times", "Time against the bound", parts or [_missing("a result of kvtier bound or kvtier sim")])


def _left_to_gain(taken, knows, bound):
    """`taken` is by time. What knows the future is no choice, and is named beside the others; `knows` says of each whether it
    does, or None, as results did that had no such field."""
    knowing = [name for name in taken if knows[name]]
    name, value = next(((n, v) for n, v in taken.items() if not knows[n]), (None, None))
    which = "policy here" if None in knows.values() else "policy that does not know the future"
    known = (f" {name_text(knowing[0])}, which knows the future, takes {seconds_text(taken[knowing[0]])}." if knowing else "")
    if name is None:
        return "All policies here know the future." + known
    text = f"{name_text(name)} is the quickest {which}, with {seconds_text(value)}."
    if bound is None:
        return f"{text} How far that is from the best is not in this result: kvtier bound says it.{known}"
    left = share_text(max(0.0, 1 - bound / value)) if value > 0 else share_text(0)
    return f"{text} No placement could save more than {left} of that.{known}"


def _missing(needed):
    return Text(f"Left out: it takes {needed}.", missing=True)


def _binding(results):
    parts = []
    for number, result in _each(results, lambda r: r.kind != "plan" and r.fields.get("links")):
        links, room = result.fields["links"], result.fields.get("room", {})
        parts += _titled(results, number, result)
        titles = ["", "of the bound's seconds", "best feasible loads", "rate", "alone takes"]
        parts.append(Table(f"binding-{number}", titles, [
            [name, share(link.get("binding")), _load(name, link.get("units")), _rate(name, link.get("units_per_second")),
             seconds(link["units"] / link["units_per_second"]
                     if link.get("units") is not None and link.get("units_per_second") else None)]
            for name, link in links.items()] + [
            [f"room in {tier}", share(entry.get("binding")), share(None), share(None), share(None)]
            for tier, entry in room.items()]))
    if parts:
        parts.insert(0, Text(BINDING_TEXT))
    return Section("binding", "What binds", parts or [_missing("a result of kvtier bound, with its field links")])


def _load(name, value):
    return operations(value) if name == "compute" else size(value)


def _rate(name, value):
    return operation_rate(value) if name == "compute" else byte_rate(value)


def _buckets(series, names):
    """Rows of a table: a group of phases and its number in each of the named lists."""
    return [[count(phase), *(kind(values[index]) for values, kind in names)] for index, phase in enumerate(series["phase"])]


def _of_series(results, name):
    return _each(results, lambda r: r.kind == "bound" and r.fields.get("series", {}).get(name)
                 and r.fields["series"]["phase"])


def _prices(results):
    parts = []
    for number, result in _of_series(results, "share"):
        series = result.fields["series"]
        phases, shares, room = series["phase"], series["share"], series.get("room_s_per_gib", {})
        parts += _titled(results, number, result)
        parts.append(Plot(figures.areas(phases, shares, "phase", "share of the price"), "Price of each resource over time"))
        if room:
            parts.append(Plot(figures.lines(phases, room, "phase", "seconds a GiB", markers=False, steps=True),
                              "Price of each tier's room over time"))
        parts.append(Table(f"prices-{number}", ["from phase", *shares, *(f"room in {tier}, s/GiB" for tier in room)], _buckets(
            series, [(values, share) for values in shares.values()] + [(values, count) for values in room.values()]),
            folded="the numbers"))
    if parts:
        parts.insert(0, Text(
            "What a little more of a resource would be worth, by phase, as the bound's prices say: a resource's share is the "
            "part of a phase's time that it alone decides, and a tier's room costs what a GiB more of it would save there."))
    return Section("prices", "Prices over time", parts or [_missing("a result of kvtier bound, with its field series")])


def _occupancy(results):
    parts = []
    for number, result in _of_series(results, "occupancy_bytes"):
        series = result.fields["series"]
        phases, occupancy = series["phase"], {tier: held for tier, held in series["occupancy_bytes"].items() if held is not None}
        if not occupancy:
            continue
        capacity = {tier["name"]: tier["capacity_bytes"] for tier in result.fields.get("tiers", [])}
        drawn, styles, palette = {}, {}, figures.colours(list(occupancy))
        for tier, values in occupancy.items():
            drawn[tier] = [value / GIB for value in values]
            # A limit that is far above all that is held would press the rest to the ground.
            if tier in capacity and capacity[tier] <= 4 * max([1, *values]):
                drawn[f"{tier}'s capacity"] = [capacity[tier] / GIB] * len(phases)
                styles[f"{tier}'s capacity"] = {"color": palette[tier], "linestyle": ":", "linewidth": 1.2}
                styles[tier] = {"color": palette[tier]}
        parts += _titled(results, number, result)
        parts.append(Plot(figures.lines(phases, drawn, "phase", "GiB", styles=styles, markers=False, steps=True),
                          "Bytes held in each tier over time"))
        parts.append(Table(f"occupancy-{number}", ["from phase", *occupancy],
                           _buckets(series, [(values, size) for values in occupancy.values()]), folded="the numbers"))
    if parts:
        parts.insert(0, Text("What the best feasible schedule holds in each tier."))
    return Section("occupancy", "Occupancy over time", parts or [
        _missing("a result of kvtier bound whose best is a schedule and no policy, with its field series")])


def _traffic(results):
    parts = []
    for number, result in _each(results, lambda r: r.kind != "plan"):
        fields = result.fields
        rows = {name: policy["bytes_by_link"] for name, policy in fields.get("policies", {}).items()
                if policy.get("bytes_by_link")}
        best = {name: link["units"] for name, link in fields.get("links", {}).items()
                if link.get("units") is not None and name != "compute"}
        if best and fields.get("best_feasible_s") is not None:
            rows = {"best feasible": best, **rows}
        links = list({link: None for row in rows.values() for link in row if link != "compute"})
        if not links:
            continue
        parts += _titled(results, number, result)
        names = list(rows)
        for first in range(0, len(links), 4):
            parts.append(Plot(figures.panels(names, {link: [
                rows[name].get(link) for name in names]
                for link in links[first:first + 4]}, bytes_text), "Bytes on each memory and link, by policy"))
        parts.append(Table(f"traffic-{number}", ["", *links],
                           [[name, *(size(row.get(link)) for link in links)] for name, row in rows.items()]))
    return Section("traffic", "Bytes by link", parts or [_missing("bytes_by_link of a policy, or a schedule of kvtier bound")])


def _steps(results):
    parts = []
    for number, result in _each(results, lambda r: r.kind != "plan"):
        policies = {name: [step for step in policy.get("steps", []) if step["phases"] > 0]
                    for name, policy in result.fields.get("policies", {}).items()}
        policies = {name: steps for name, steps in policies.items() if steps}
        if not policies:
            continue
        parts += _titled(results, number, result)
        first = {name: list(accumulate((step["phases"] for step in steps), initial=0))[:-1] for name, steps in policies.items()}
        times = {name: [step["time_s"] / step["phases"] for step in steps] for name, steps in policies.items()}
        hits = {name: [step["hits"] / step["accesses"] if step["accesses"] else None for step in steps]
                for name, steps in policies.items()}
        # All policies of a simulation have the same phases.
        same = {name for name in policies if first[name] == next(iter(first.values()))}
        for values, unit, what in ((times, "seconds a phase", "Time a phase"), (hits, "part that is found", "Hit rate")):
            parts.append(Plot(figures.lines(next(iter(first.values())), {n: v for n, v in values.items() if n in same}, "phase",
                                            unit, markers=False, steps=True), f"{what} of each policy over time"))
        for at, (name, steps) in enumerate(policies.items()):
            parts.append(Table(f"steps-{number}-{at}", ["from phase", "phases", "time a phase", "stalled a phase", "hit rate"], [
                [count(first[name][i]), count(step["phases"]), seconds(times[name][i]), seconds(step["stall_s"] / step["phases"]),
                 share(hits[name][i])] for i, step in enumerate(steps)], folded=f"the numbers of {name_text(name)}"))
    return Section("steps", "Policies over time", parts or [_missing("a result of kvtier sim, with its field steps")])


def _progress(results):
    parts = []
    for number, result in _each(results, lambda r: r.kind == "bound" and r.fields.get("progress")):
        progress = result.fields["progress"]
        feasible = [point.get("best_feasible_s") for point in progress]
        drawn = {"lower bound": [point["lower_bound_s"] for point in progress]}
        if any(value is not None for value in feasible):
            drawn["best feasible"] = feasible
        styles = {"best feasible": {"linestyle": "--"}}
        parts += _titled(results, number, result)
        parts.append(Plot(figures.lines([point["seconds"] for point in progress], drawn, "seconds of solving", "seconds",
                                        styles=styles, markers=len(progress) <= 40, zero=False),
                          "Lower bound and best feasible time against the time of solving"))
        parts.append(Table(f"progress-{number}", ["solving", "lower bound", "best feasible", "gap"], [
            [seconds(point["seconds"]), seconds(point["lower_bound_s"]), seconds(point.get("best_feasible_s")),
             share(point["best_feasible_s"] / point["lower_bound_s"] - 1
                   if point.get("best_feasible_s") is not None and point["lower_bound_s"] else None)]
            for point in progress], folded="the numbers"))
    return Section("progress", "How the gap closed", parts or [_missing("a result of kvtier bound, with its field progress")])
