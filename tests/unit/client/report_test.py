"""Proves that `kvtier report` shows the numbers of its JSON, all of them and no others: results with random numbers are
reported, and the page's tables, the texts in them and the plots are compared with them one by one. Results that are
damaged or hostile are refused with the field's name, or shown as text; the page asks the network for nothing.
"""

import base64
import contextlib
import copy
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types
import unittest.mock
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[3]))
BIN = pathlib.Path(os.environ.get("KVTIER_BIN_DIR", ROOT / "build/release/bin"))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import junit  # noqa: E402
import report_samples as samples  # noqa: E402
from report_page import UNITS, Page, check_table, check_texts  # noqa: E402

# The report needs nothing else of the package, whose extension may not be built.
package = sys.modules["kvtier"] = types.ModuleType("kvtier")
package.__path__ = [str(ROOT / "client/python/kvtier")]
from kvtier.report import results  # noqa: E402

HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
SECONDS_MAX = 120


def report(*paths, output="-", rc=0, python=sys.executable, **options):
    done = subprocess.run([BIN / "kvtier", "report", *paths, "-o", output, "--python", python], capture_output=True, text=True,
                          check=False, timeout=SECONDS_MAX, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == rc, f"exit code {done.returncode}: {done.stderr}{done.stdout[:2000]}"
    if rc:
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("kvtier: "), done.stderr
        assert not done.stdout, done.stdout
    return done.stderr if rc else done.stdout


def page_of(directory, *fields):
    paths = []
    for number, each in enumerate(fields):
        paths.append(str(directory / f"result-{number}.json"))
        pathlib.Path(paths[-1]).write_text(json.dumps(each))
    return Page(report(*paths))


def drawn_here(*fields):
    """Without the command around it, and without writing the plots as SVG, which takes longest."""
    from kvtier.report import figures, page
    with unittest.mock.patch.object(figures, "svg", lambda figure: b""):
        return Page(page.render([results.parse_result(f"result-{number}", json.dumps(each))
                                 for number, each in enumerate(fields)]))


def seconds_above(time, bound):
    return time / bound - 1


def check_bound(page, number, fields):
    """All tables of one result of kvtier bound, the `number`-th on the page."""
    policies = sorted(fields["policies"].items(), key=lambda item: item[1]["time_s"])
    bound = fields["lower_bound_s"]
    check_table(page, f"times-{number}", [
        *([title, fields[field], seconds_above(fields[field], bound), None, None, None] for title, field in (
            ("roofline", "roofline_s"), ("lower bound", "lower_bound_s"), ("best feasible", "best_feasible_s"))),
        *([name, p["time_s"], seconds_above(p["time_s"], bound), p["hit_rate"], p["hit_rate_last_half"], p["stall_s"]]
          for name, p in policies)])
    tiers = [tier["name"] for tier in fields["tiers"]]
    check_table(page, f"tiers-{number}", [[name, *(p["hit_rate_by_tier"][tier] for tier in tiers)]
                                          for name, p in fields["policies"].items()])
    check_table(page, f"binding-{number}", [
        *([name, link["binding"], link["units"], link["units_per_second"], link["units"] / link["units_per_second"]]
          for name, link in fields["links"].items()),
        *([f"room in {tier}", room["binding"], None, None, None] for tier, room in fields["room"].items())])
    series = fields["series"]
    check_table(page, f"prices-{number}", [
        [phase, *(v[i] for v in series["share"].values()), *(v[i] for v in series["room_s_per_gib"].values())]
        for i, phase in enumerate(series["phase"])])
    check_table(page, f"occupancy-{number}", [[phase, *(v[i] for v in series["occupancy_bytes"].values())]
                                              for i, phase in enumerate(series["phase"])])
    links = [name for name in fields["links"] if name != "compute"]
    check_table(page, f"traffic-{number}", [
        ["best feasible", *(fields["links"][link]["units"] for link in links)],
        *([name, *(p["bytes_by_link"][link] for link in links)] for name, p in fields["policies"].items())])
    check_table(page, f"progress-{number}", [
        [p["seconds"], p["lower_bound_s"], p["best_feasible_s"],
         None if p["best_feasible_s"] is None else seconds_above(p["best_feasible_s"], p["lower_bound_s"])]
        for p in fields["progress"]])


def numbers_of_a_bound(directory):
    fields = {**samples.bound(seed=1), "best_feasible_simulated": True}
    page = page_of(directory, fields)
    check_bound(page, 1, fields)
    check_table(page, "bounds", [["1", fields["roofline_s"], fields["lower_bound_s"], fields["best_feasible_s"],
                                  f'{fields["best_feasible_from"]}, simulated', fields["gap"], fields["blocks"], fields["seconds"],
                                  fields["peak_bytes"]]])
    check_texts(page)
    whole = next(text for text in page.texts if text.startswith("Without any cache")).rstrip(".").split(" ")
    assert abs(float(whole[-2]) * UNITS[whole[-1]] / fields["uncached_s"] - 1) < 1e-3, whole
    assert len(page.images) == 6, [image["alt"] for image in page.images]


def numbers_of_a_simulation(directory):
    fields = samples.simulation(seed=2)
    page = page_of(directory, fields)
    for number, (name, policy) in enumerate(fields["policies"].items()):
        assert f"the numbers of {name}" in page.texts
        check_table(page, f"steps-1-{number}", [
            [7 * at, step["phases"], step["time_s"] / 7, step["stall_s"] / 7, step["hits"] / 1000]
            for at, step in enumerate(policy["steps"])])
    check_texts(page)


def numbers_of_a_plan(directory):
    fields = samples.plan(seed=3)
    page = page_of(directory, fields)
    policies = list(fields["points"][0]["policies"])
    check_table(page, "plan-1", [
        [*p["set"].values(), p["price"], p["lower_bound_s"], p["best_feasible_s"], p["gap"],
         *(p["policies"][name]["time_s"] for name in policies)] for p in fields["points"]])
    assert page.marked["plan-1"] == [fields["cheapest"]], page.marked
    rows = [row[1:] for row in page.tables["binds-1"][1:]]
    assert [[number for number, _ in row] for row in rows] == [
        [*(link["binding"] for link in p["links"].values()), *(room["binding"] for room in p["room"].values())]
        for p in fields["points"]], rows
    # Curves along dram, one for each load, and along load, one for each size.
    curve = 0
    for axis, other in (("dram", "load"), ("load", "dram")):
        for value in dict.fromkeys(p["set"][other] for p in fields["points"]):
            curve += 1
            points = sorted((p for p in fields["points"] if p["set"][other] == value), key=lambda p: p["set"][axis])
            check_table(page, f"curve-{curve}-rates", [
                [p["set"][axis], *(p["policies"][name]["hit_rate"] for name in policies)] for p in points])
            check_table(page, f"curve-{curve}-seconds", [
                [p["set"][axis], p["lower_bound_s"], p["best_feasible_s"], *(p["policies"][name]["time_s"] for name in policies)]
                for p in points])
    assert f"curve-{curve + 1}-rates" not in page.tables
    check_texts(page)
    fast = {"link.pcie": 5 << 30, "compute": 10 ** 15, "tier.dram.bandwidth": 3 << 30}
    for number, point in enumerate(fields["points"]):
        point["set"] = {name: value * (number + 1) for name, value in fast.items()}
    page = drawn_here(fields)
    assert [text for _, text in page.tables["plan-1"][2][:3]] == ["10 GiB/s", "2 PFLOP/s", "6 GiB/s"], page.tables["plan-1"]
    check_texts(page)


def plans_say_what_tables_cannot(directory):
    plan = samples.plan(seed=21)
    for number, point in enumerate(plan["points"]):
        point.update(gap=0.01, uncached_s=100 + number)

    def said(**changes):
        return " ".join(drawn_here({**plan, **changes}).texts)

    text = said(cheapest=None, cheapest_possible=1)
    assert "Nothing here is known to reach" in text and "does not rule out: dram 64 GiB, 2 × load." in text, text
    assert "min: knows the future" in text and "computed whole: 100 s to 105 s." in text, text
    assert "not settled" not in text and "rules out all" not in text, text
    assert "The bound rules out all of these." in said(cheapest_possible=None)
    without = {name: value for name, value in plan.items() if name != "cheapest_possible"}
    assert "rule" not in " ".join(drawn_here(without).texts)
    assert "rule" not in said(target_s=None, cheapest=None, cheapest_possible=None)
    for gap in (None, 0.06):
        plan["points"][2]["gap"] = gap
        assert "not settled" in said(), gap


def future_is_known_as_the_result_says(directory):
    """Whatever a policy is called."""
    fields = {**samples.bound(seed=19, buckets=3), "lower_bound_s": 50}
    def said(**policies):
        fields["policies"] = {name: {"time_s": time, **({} if knows is None else {"knows_future": knows})}
                              for name, (time, knows) in policies.items()}
        return next(text for text in drawn_here(fields).texts if "quickest" in text or text.startswith("All policies"))

    assert said(min=(60, False), oracle=(55, True)) == (
        "min is the quickest policy that does not know the future, with 60 s. No placement could save more than 16.67 % of that. "
        "oracle, which knows the future, takes 55 s.")
    assert said(oracle=(55, True)).startswith("All policies here know the future. oracle, which")
    assert said(lru=(60, None), min=(55, None)) == (
        "min is the quickest policy here, with 55 s. No placement could save more than 9.091 % of that.")


def several_results(directory):
    """Two sizes of memory make a curve, and each result has tables of its own."""
    first, second = samples.bound(seed=4), samples.bound(seed=5)
    second["tiers"][1]["capacity_bytes"] = 2 * first["tiers"][1]["capacity_bytes"]
    page = drawn_here(second, samples.plan(seed=6), first)
    check_bound(page, 1, second)
    check_bound(page, 3, first)
    tier = first["tiers"][1]["name"]
    last = max(int(name.split("-")[1]) for name in page.tables if name.startswith("curve-"))
    assert page.tables[f"curve-{last}-rates"][0][0] == (None, tier), page.tables[f"curve-{last}-rates"]
    check_table(page, f"curve-{last}-rates", [
        [each["tiers"][1]["capacity_bytes"], *(p["hit_rate"] for p in each["policies"].values())] for each in (first, second)])


def results_of_one_curve_differ_in_memory_alone(directory):
    """Whatever else differs makes another curve, which its title names; a capacity may come from --set as well."""
    def bound(capacity, **changes):
        fields = {**samples.bound(seed=16, buckets=3), **changes}
        fields["tiers"][1]["capacity_bytes"] = capacity
        return fields

    def curves(*fields):
        """(rows of each table of hit rates, titles), without the plots."""
        from kvtier.report import figures, sections
        with unittest.mock.patch.object(figures, "curves", lambda *_: None):
            section = sections.memory_section([results.parse_result("r", json.dumps(each)) for each in fields])
        return ([len(part.rows) for part in section.parts if re.fullmatch(r"curve-\d+-rates", getattr(part, "name", ""))],
                [part.text for part in section.parts if type(part).__name__ == "Title"])

    assert curves(bound(1 << 30), bound(2 << 30))[0] == [2]
    for changes in ({"overrides": "link.pcie=1GB/s"}, {"requests": None}, {"sessions": 2}, {"block_tokens": 16}, {"seed": 1},
                    {"staging_bytes": None}, {"gpu_memory_bytes": None}, {"gpu_memory_bytes": 40 << 30}, {"inclusive": True}, {"mode": "stream"}, {"phase": "layer"}, {"machine": "other"}):
        assert curves(bound(1 << 30), bound(2 << 30, **changes))[0] == [], changes
        found, titles = curves(bound(1 << 30), bound(2 << 30, **changes), bound(4 << 30), bound(8 << 30, **changes))
        assert found == [2, 2], (changes, found)
        (name, value), = changes.items()
        kept = "other" if name == "machine" else name if value is True else f"{name} {samples.bound(seed=16)[name] if value is None else value}"
        assert len(set(titles)) == 2 and sum(kept in title for title in titles) == 1, (changes, titles)
        assert all(title.startswith("conversation.jsonl, ") and title.endswith(": dram") for title in titles), titles
    for setting in ({"settle": True}, {"segment_bytes": 4096}):
        simulated = {**samples.simulation(seed=16, buckets=3), **setting}
        simulated["tiers"][1]["capacity_bytes"] = 2 << 30
        assert curves({**samples.simulation(seed=17, buckets=3), "segment_bytes": None}, simulated)[0] == [], setting
    set_by_option = bound(2 << 30, overrides="compute=1PFLOP/s tier.dram.capacity=2GiB dram=2GiB")
    assert curves(bound(1 << 30, overrides="compute=1PFLOP/s"), set_by_option)[0] == [2]


def long_names_are_cut(directory):
    """Of what is shown, not of what is compared."""
    long = {side: "/" + "d" * 5000 + side + "e" * 5000 + "/t.jsonl" for side in ("left", "right")}
    fields = {side: samples.renamed({**samples.bound(seed=18, buckets=3), "trace": name}, lambda text: text if text in long.values() else
                                    text + "n" * 300) for side, name in long.items()}
    page = drawn_here(*fields.values())
    assert page.tables["results"][1][3][1] == page.tables["results"][2][3][1] == f"{long['left'][:100]}…{long['left'][-100:]}"
    assert max(len(text) for rows in page.tables.values() for row in rows for _, text in row) == 201
    assert max(len(text) for text in page.texts if "nnn" in text or "ddd" in text) < 700
    fields["left"]["tiers"][1]["capacity_bytes"] *= 2
    assert not [name for name in drawn_here(*fields.values()).tables if name.startswith("curve-")]
    fields["right"]["trace"] = long["left"]
    page = drawn_here(*fields.values())
    check_table(page, "curve-1-rates", [
        [each["tiers"][1]["capacity_bytes"], *(p["hit_rate"] for p in each["policies"].values())]
        for each in (fields["right"], fields["left"])])


def plots_show_the_numbers(directory):
    from kvtier.report import figures
    bars = {"lru": 3.5, "min": 1.25}
    axes = figures.times(bars, {"lower bound": (1.125, "k", "-")}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == list(bars.values())
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[1.125, 1.125]]
    # Bars begin at zero, however near to each other they are.
    marks = {"roofline": (60, "k", ":"), "lower bound": (100, "k", "-")}
    near = figures.times({"lru": 104, "min": 101}, marks).axes[0]
    for drawn, most in ((axes, 3.5), (near, 104), (figures.times({"lru": 5}, {}).axes[0], 5)):
        assert drawn.get_xlim()[0] == 0 and drawn.get_xlim()[1] > most and drawn.get_xlabel() == "seconds", drawn.get_xlim()
        assert all(bar.get_x() == 0 for bar in drawn.patches)
    assert [bar.get_width() for bar in near.patches] == [104, 101]
    assert [text.get_text() for text in near.get_legend().get_texts()] == ["roofline: 60 s", "lower bound: 100 s"]
    axes = figures.lines([1, 2, 4], {"a": [0.5, None, 7], "b": [1, 2, 3]}, "x", "y").axes[0]
    first, second = axes.get_lines()
    assert list(first.get_xdata()) == [1, 2, 4] and list(second.get_ydata()) == [1, 2, 3]
    assert first.get_ydata()[0] == 0.5 and first.get_ydata()[1] != first.get_ydata()[1], first.get_ydata()
    left, right = figures.curves([1, 2], {"rate": {"a": [10, 20]}, "s": {"a": [3, 4], "b": [5, 6]}}, "x", {}, str).axes
    assert [list(line.get_ydata()) for line in left.get_lines()] == [[10, 20]]
    assert [list(line.get_ydata()) for line in right.get_lines()] == [[3, 4], [5, 6]]
    assert left.get_lines()[0].get_color() == right.get_lines()[0].get_color()
    axes = figures.shares(["p", "q"], {"a": [25, 50], "b": [75, 50]}, "%").axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 25), (0, 50), (25, 75), (50, 50)]
    panels = figures.panels(["p", "q"], {"a": [5, None], "b": [1, 2]}, str).axes
    assert [[bar.get_width() for bar in panel.patches] for panel in panels] == [[5, 0], [1, 2]]
    axes = figures.areas([0, 10], {"a": [0.25, 0.5], "b": [0.75, 0.5]}, "x", "y").axes[0]
    assert max(y for path in axes.collections[1].get_paths() for _, y in path.vertices) == 1


def page_is_whole_and_the_same_again(directory):
    path = directory / "result.json"
    path.write_text(json.dumps(samples.bound(seed=7)))
    text = report(str(path))
    assert report(str(path)) == text, "the same result gives another page"
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "form", "base"}, page.tags
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text
    for image in page.images:
        root = ET.fromstring(base64.b64decode(image["src"].split(",", 1)[1]))
        for element in root.iter():
            assert not element.tag.endswith(("script", "image", "foreignObject")), element.tag
            for name, value in element.attrib.items():
                assert not name.endswith("href") or value.startswith("#"), f"{name}={value}"


def missing_data_is_said(directory):
    for fields in ({"kind": "bound"}, {"kind": "sim"}, {"kind": "plan", "points": [{"set": {}}]},
                   {"kind": "plan", "points": []}):
        page = drawn_here(fields)
        said = [text for text in page.texts if text.startswith(("Left out", "No policy's time"))]
        assert len(said) >= 7, said
        assert not page.images
    # A bound for which no schedule was looked for, or found.
    alone = samples.bound(seed=15, buckets=3)
    for name in ("best_feasible_s", "gap"):
        alone[name] = None
    for link in alone["links"].values():
        link["units"] = None
    alone["series"]["occupancy_bytes"] = dict.fromkeys(alone["series"]["occupancy_bytes"])
    page = drawn_here(alone)
    assert [text for text in page.texts if "whose best is a schedule" in text] and "occupancy-1" not in page.tables
    check_table(page, "binding-1", [
        *([name, link["binding"], None, link["units_per_second"], None] for name, link in alone["links"].items()),
        *([f"room in {tier}", room["binding"], None, None, None] for tier, room in alone["room"].items())])
    assert [row[0][1] for row in page.tables["traffic-1"][1:]] == list(alone["policies"]), page.tables["traffic-1"]
    everything = drawn_here(samples.bound(seed=8, buckets=3), samples.plan(seed=8), samples.simulation(seed=8, buckets=3))
    assert not [text for text in everything.texts if text.startswith("Left out")]


def any_field_may_be_missing(directory):
    """Without the plots, which take longest: they get lists that are whole, or are not asked for."""
    from kvtier.report import figures, sections
    plots = {name: lambda *_, **__: None for name in ("times", "lines", "curves", "areas", "shares", "panels")}
    patch = unittest.mock.patch.multiple(figures, **plots)
    patch.start()
    for whole in (samples.bound(seed=9, buckets=3), samples.plan(seed=9), samples.simulation(seed=9)):
        seen = set()
        for path in samples.paths(whole):
            shape = tuple("*" if isinstance(step, int) else step for step in path)
            if shape in seen or path == ("kind",):
                continue
            seen.add(shape)
            fields = samples.without(whole, path)
            try:
                result = results.parse_result("damaged", json.dumps(fields))
            except results.InvalidResult as error:
                assert str(error).startswith("damaged: "), error
                continue
            text = "".join(part.html() for section in sections.all_sections([result]) for part in section.parts
                           if type(part).__name__ != "Plot")
            Page(text)
    patch.stop()


def damaged_results_are_refused(directory):
    whole = samples.bound(seed=10, buckets=3)
    refused = 0
    for path in samples.paths(whole):
        for value in (True, -1, "x" * 500, [[]], {"a": "b"}, 10 ** 31, "1"):
            fields = samples.replaced(whole, path, value)
            try:
                results.parse_result("r.json", json.dumps(fields))
            except results.InvalidResult as error:
                refused += 1
                name = next((step for step in path if isinstance(step, str)), "")
                assert str(error).startswith("r.json: ") and name in str(error), f"{path}: {error}"
            else:
                # A gap may be below zero in a result that is wrong; texts may be any.
                assert value is True and path[-1] in ("best_feasible_simulated", "inclusive", "knows_future") or value == -1 and path[-1] == "gap" or (
                    isinstance(value, str) and path[-1] in samples.TEXTS) or value == {"a": "b"} and (
                    path[-2:-1] in (("policies",), ("links",), ("room",))), f"{path}: {value!r} is taken"
    assert refused > 500, refused
    text = json.dumps(whole)
    for damaged, wanted in (
            ("", "line 1, column 1"), ("[]", "field kind is null"), ("{}", "field kind is null"), ("{\"kind\":\"x\"}", '"x"'),
            (text[:-20], "line 1, column"),
            (re.sub(r'"gap": [\d.e-]+', '"gap": NaN', text), "NaN is no JSON"),
            (re.sub(r'"gap": [\d.e-]+', '"gap": -Infinity', text), "-Infinity is no JSON"),
            (re.sub(r'"gap": [\d.e-]+', '"gap": 1e999', text), "gap is Infinity"),
            (re.sub(r'"gap": [\d.e-]+', '"gap": ' + "9" * 5000, text), "r.json: "),
            (re.sub(r'"gap": [\d.e-]+', '"gap": 1, "gap": 2', text), '"gap" is there twice'),
            ("[" * 100_000, "r.json: "), ('{"kind":"bound","x":' + "[" * 100_000, "r.json: ")):
        with contextlib.suppress(results.InvalidResult):
            results.parse_result("r.json", damaged)
            raise AssertionError(f"{damaged[:80]}... is taken")
        try:
            results.parse_result("r.json", damaged)
        except results.InvalidResult as error:
            assert wanted in str(error) and len(str(error)) < 500, f"{damaged[:80]}: {error}"
    for change, wanted in (
            (lambda f: f["series"]["share"]["dram"].pop(), "series.share.dram has 2 numbers, and series.phase 3"),
            (lambda f: f["policies"].update({f"p{i}": {} for i in range(65)}), "policies is {"),
            (lambda f: f["series"].update(phase=list(range(5000))), "a list of at most 4096"),
            (lambda f: f["tiers"].append({"name": "a"}), "tiers[2].capacity_bytes is missing")):
        fields = copy.deepcopy(whole)
        change(fields)
        try:
            results.parse_result("r.json", json.dumps(fields))
        except results.InvalidResult as error:
            assert wanted in str(error), error
        else:
            raise AssertionError(f"taken, without: {wanted}")
    plan = samples.plan(seed=11)
    for field in ("cheapest", "cheapest_possible"):
        (directory / "plan.json").write_text(json.dumps({**plan, field: len(plan["points"])}))
        assert "points" in report(str(directory / "plan.json"), rc=1)


def hostile_names_are_text(directory):
    evil = '<script>alert(1)</script>"\'><img src=x onerror=alert(1)>$\\frac{1}$ \u202e\ud800\x00\n'
    fields = samples.renamed(samples.bound(seed=12, buckets=3), lambda name: f"{name}{evil}")
    plan = samples.renamed(samples.plan(seed=12), lambda name: f"_{name}{evil}")
    page = page_of(directory, fields, plan)
    assert "script" not in page.tags and all(set(image) == {"alt", "src"} for image in page.images)
    assert any("<script>alert(1)</script>" in text for text in page.texts)
    assert len(page.images) > 6


def command_line(directory):
    good = directory / "good.json"
    good.write_text(json.dumps(samples.bound(seed=13, buckets=3)))
    missing = directory / "missing.json"
    assert f"{missing}: No such file" in report(str(missing), rc=1)
    target = directory / "page.html"
    target.write_text("before")
    bad = directory / "bad.json"
    bad.write_text('{"kind": "bound", "gap": "wide"}')
    assert 'gap is "wide"' in report(str(good), str(bad), output=str(target), rc=1)
    assert target.read_text() == "before", "a page was replaced by none"
    assert "no/such/folder" in report(str(good), output=str(directory / "no/such/folder/page.html"), rc=1)
    report(str(good), output=str(target))
    Page(target.read_text())
    assert sorted(path.name for path in directory.iterdir()) == ["bad.json", "good.json", "page.html"]
    huge = directory / "huge.json"
    with open(huge, "wb") as file:
        file.truncate(results.BYTES_MAX + 1)
    assert "64 MiB" in report(str(huge), rc=1)
    for arguments in (["report"], ["report", str(good)], ["report", "-o", "x"], ["report", *[str(good)] * 65, "-o", "x"]):
        done = subprocess.run([BIN / "kvtier", *arguments], capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
        assert done.returncode == 2, f"{arguments}: {done.returncode}: {done.stderr}"


def without_python_or_matplotlib(directory):
    good = directory / "good.json"
    good.write_text(json.dumps(samples.bound(seed=14, buckets=3)))
    bare = directory / "bare python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    assert "python3-matplotlib" in report(str(good), python=str(bare), rc=1, env=environment)
    assert 'no/python' in report(str(good), python="no/python", rc=1)
    assert "no-such-python" in report(str(good), python="no-such-python", rc=1)
    (directory / "text").write_text("no program")
    (directory / "text").chmod(0o755)
    assert "cannot run" in report(str(good), python=str(directory / "text"), rc=1)
    # Nothing of the folder that it is started in is taken for a module.
    (directory / "json.py").write_text("raise SystemExit(9)\n")
    if HAS_MATPLOTLIB:
        report("good.json", cwd=directory)


def main():
    report_file = junit.Report("report_test")
    for case, draws in ((numbers_of_a_bound, True), (numbers_of_a_simulation, True), (numbers_of_a_plan, True), (plans_say_what_tables_cannot, True),
                        (future_is_known_as_the_result_says, True),
                        (several_results, True), (results_of_one_curve_differ_in_memory_alone, True), (long_names_are_cut, True), (plots_show_the_numbers, True), (page_is_whole_and_the_same_again, True),
                        (missing_data_is_said, True), (any_field_may_be_missing, True), (damaged_results_are_refused, False),
                        (hostile_names_are_text, True), (command_line, True), (without_python_or_matplotlib, False)):
        if draws and not HAS_MATPLOTLIB:
            report_file.add(case.__name__, skipped=f"{sys.executable} has no matplotlib (Debian: python3-matplotlib)")
            continue
        with tempfile.TemporaryDirectory(prefix="kvtier-report-") as directory:
            report_file.run(case.__name__, case, pathlib.Path(directory))
    return report_file.finish()


if __name__ == "__main__":
    sys.exit(main())
