"""Proves that `kvtier plan` prints what docs/cli.md says, that its figures are those of `kvtier bound` and `kvtier sim` at the
same settings, that `kvtier report` takes them, and that what cannot be planned is wrong usage or an error that says why.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[3]))
BIN = pathlib.Path(os.environ.get("KVTIER_BIN_DIR", ROOT / "build/release/bin"))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import junit  # noqa: E402

SECONDS_MAX = 120
GIB = 1 << 30


class Cases:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.trace = str(self.directory / "chat.jsonl")
        self.run("trace", "generate", "--kind", "chat", "--requests", "80", "--seed", "3", "-o", self.trace)
        self.what = ["--trace", self.trace, "--machine", "h100-pcie5", "--model", "llama-3.1-8b", "--tiers", "dram"]
        self.plan = None

    def run(self, *args, rc=0):
        done = subprocess.run([BIN / "kvtier", *args], capture_output=True, text=True, check=False, timeout=SECONDS_MAX,
                              stdin=subprocess.DEVNULL)
        assert done.returncode == rc, f"{args}: exit code {done.returncode}: {done.stderr}{done.stdout[:1000]}"
        return done.stderr if rc else done.stdout

    def json(self, *args):
        return json.loads(self.run(*args, "--json"))

    def table_is_on_the_safe_side(self):
        where = ["plan", *self.what, "--vary", "dram=1GiB..16GiB/5", "--policies", "none", "--time-limit", "720h"]
        points = self.json(*where)["points"]
        rows = [re.split(r"  +", line.strip()) for line in self.run(*where).splitlines() if "GiB" in line]
        assert len(rows) == len(points) == 5, rows
        for (_, bound, best, *_), point in zip(rows, points):
            assert 0 <= 1 - float(bound.split()[0]) / point["lower_bound_s"] < 1e-4, (bound, point["lower_bound_s"])
            assert 0 <= float(best.split()[0]) / point["best_feasible_s"] - 1 < 1e-4, (best, point["best_feasible_s"])

    def fields(self):
        self.plan = self.json("plan", *self.what, "--vary", "dram=2GiB..8GiB/3", "--vary", "load=1..2", "--policies",
                              "lru,min", "--price", "dram=4.5,hbm=100", "--target", "1h", "--time-limit", "5s")
        plan = self.plan
        assert (plan["kind"], plan["target_s"]) == ("plan", 3600), plan
        assert plan["vary"] == [{"name": "dram", "values": [2 * GIB, 4 * GIB, 8 * GIB]}, {"name": "load", "values": [1, 2]}]
        assert [point["set"] for point in plan["points"]] == [
            {"dram": dram * GIB, "load": load} for dram in (2, 4, 8) for load in (1, 2)]
        for point in plan["points"]:
            assert point["price"] == 4.5 * point["set"]["dram"] / GIB + 80 * 100, point["price"]
            assert point["tiers"] == [{"name": "dram", "capacity_bytes": point["set"]["dram"]}], point["tiers"]
            assert 0 < point["lower_bound_s"] <= point["best_feasible_s"] < point["uncached_s"], point
            assert point["uncached_s"] == plan["points"][point["set"]["load"] - 1]["uncached_s"], "it depends on the load alone"
            assert set(point["policies"]) == {"lru", "min"}
            for name, policy in point["policies"].items():
                assert policy["time_s"] >= point["lower_bound_s"], name
            # 1 but for what is not converged.
            assert abs(sum(link["binding"] for link in point["links"].values()) - 1) < 0.2, point["links"]
        # What is best has loaded what is said: as a schedule, or in a simulation here or where there is less.
        simulations = [(policy["time_s"], policy["bytes_by_link"]) for p in plan["points"] for policy in p["policies"].values()]
        for point in plan["points"]:
            units = {name: link["units"] for name, link in point["links"].items()}
            assert None not in units.values() and units["compute"] > 0, units
            assert not point["best_feasible_simulated"] or any(
                time == point["best_feasible_s"] and all(units[n] == loads[n] for n in units if n != "compute")
                for time, loads in simulations), units
        # An hour is enough for all; of those with the largest load the first is the cheapest.
        assert plan["cheapest"] == plan["cheapest_possible"] == 1, plan["cheapest"]
        for more, less in zip(plan["points"][2:], plan["points"]):
            assert more["lower_bound_s"] <= less["lower_bound_s"] and more["best_feasible_s"] <= less["best_feasible_s"]

    def other_commands(self):
        for point in self.plan["points"][::4]:  # of load 1
            assert point["set"]["load"] == 1
            size = ["--dram", str(point["set"]["dram"])]
            bound = self.json("bound", *self.what, *size, "--time-limit", "5s")
            assert abs(bound["lower_bound_s"] / point["lower_bound_s"] - 1) < 0.01, (bound["lower_bound_s"], point)
            for field in ("phases", "blocks", "accesses", "tiers", "uncached_s"):
                assert bound[field] == point[field], field
            simulated = self.json("sim", *self.what, *size, "--policy", "lru,min")
            for field in ("tiers", "gpu_memory_bytes", "inclusive", "mode", "phase", "phases"):
                assert simulated[field] == point[field], (field, simulated[field], point[field])
            simulated = simulated["policies"]
            for name, policy in simulated.items():
                for field in ("time_s", "hit_rate", "hit_rate_by_tier"):
                    assert policy[field] == point["policies"][name][field], (name, field)

    def own_memory(self):
        """Its capacity is said where it is no tier for cache, too: buffers for staging are a part of it."""
        for args, wanted in ((["--tiers", "dram", "--hbm", "40GiB"], 40 * GIB), (["--tiers", "dram", "--set", "hbm=30GiB"], 30 * GIB),
                             (["--tiers", "hbm,dram", "--hbm", "40GiB"], None), (["--hbm", "40GiB"], None)):
            simulated = self.json("sim", *self.what[:-2], *args, "--policy", "lru")
            assert simulated["gpu_memory_bytes"] == wanted, (args, simulated["gpu_memory_bytes"])
        plan = self.json("plan", *self.what, "--vary", "hbm=20GiB,40GiB", "--policies", "none", "--time-limit", "1s")
        assert [point["gpu_memory_bytes"] for point in plan["points"]] == [20 * GIB, 40 * GIB], plan["points"]

    def for_people(self):
        text = self.run("plan", *self.what, "--vary", "dram=2GiB,8GiB", "--policies", "none", "--price", "dram=1", "--target",
                        "1ns", "--time-limit", "2s")
        lines = text.splitlines()
        assert lines[0].split() == ["dram", "price", "bound", "best", "found", "gap", "what", "binds"], lines[0]
        assert lines[1].split()[:3] == ["2", "GiB", "2.00"], lines[1]
        bound = self.json("bound", *self.what, "--dram", "2GiB", "--time-limit", "1s", "--policies", "none")
        assert lines[3] == f"with no cache, every prompt computed whole: {bound['uncached_s']:.5g} s", lines
        text = self.run("bound", *self.what, "--dram", "2GiB", "--time-limit", "1s", "--policies", "none")
        assert re.search(rf"\nevery prompt computed whole  {bound['uncached_s']:.10g} s \(no cache\)\n", text), text
        assert lines[-1] == "cheapest that the bound does not rule out: none of these", lines[-1]

    def too_small(self):
        """The weights do not fit into 10 GiB: such points are left out, and a machine's only link needs no name."""
        what = [*self.what[:-2], "--tiers", "hbm,dram", "--vary", "hbm=10GiB,40GiB", "--policies", "none", "--time-limit", "2s"]
        plan = self.json("plan", *what, "--vary", "link=25,50GB/s")
        assert [point["set"] for point in plan["points"]] == [
            {"hbm": 40 * GIB, "link.pcie": link * 10 ** 9} for link in (25, 50)], plan["points"]
        assert [point["set"] for point in plan["left_out"]] == [
            {"hbm": 10 * GIB, "link.pcie": link * 10 ** 9} for link in (25, 50)], plan["left_out"]
        assert all("the weights of llama-3.1-8b" in point["why"] for point in plan["left_out"]), plan["left_out"]
        text = self.run("plan", *self.what[:-2], "--tiers", "hbm,dram", "--vary", "hbm=10GiB", rc=1)
        assert "hbm 10 GiB is left out" in text and "the weights of" in text.splitlines()[-1], text
        # Bounds need no room for a whole block, policies' engines do.
        what = [*self.what, "--vary", "dram=32MiB,1GiB", "--time-limit", "1s"]
        plan = self.json("plan", *what, "--policies", "lru")
        assert [point["set"]["dram"] for point in plan["points"]] == [GIB], plan["points"]
        assert [point["set"]["dram"] for point in plan["left_out"]] == [GIB >> 5], plan["left_out"]
        assert "one block takes 67108864" in plan["left_out"][0]["why"], plan["left_out"]
        assert len(self.json("plan", *what, "--policies", "none")["points"]) == 2
        text = self.run("plan", *self.what[:2], "--machine", "2xh100-nvlink", *self.what[4:], "--vary", "link=1GB/s", rc=2)
        assert "link.nvlink and link.pcie" in text, text

    def four_ranges(self):
        """Of four ranges that do not say how many values they have there are not too many combinations."""
        vary = [arg for text in ("dram=4..8GiB", "link.pcie=32..64GB/s", "compute=400..800TFLOP/s", "load=1..2") for arg in ("--vary", text)]
        plan = self.json("plan", *self.what, *vary, "--requests", "8", "--policies", "none", "--time-limit", "50ms")
        assert [len(axis["values"]) for axis in plan["vary"]] == [3, 3, 3, 2] and len(plan["points"]) == 54, plan["vary"]
        text = self.run("plan", *self.what, *vary, "--points", "6", rc=1)
        assert "the limit is 256" in text, text

    def report(self):
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise junit.Skip("no matplotlib (Debian: python3-matplotlib)") from error
        result = self.directory / "plan.json"
        result.write_text(json.dumps(self.plan))
        page = self.run("report", str(result), "-o", "-", "--python", sys.executable)
        for point in self.plan["points"]:
            assert f'<data value="{point["lower_bound_s"]!r}">' in page

    def wrong(self):
        for args, wanted in ((("--vary", "dram=fast"), '--vary dram is "fast"'), (("--vary", "dram"), "NAME=VALUES"),
                             ((), "--vary is required"), (("--vary", "dram=1GiB", "--policies", "best"), "--policies"),
                             (("--vary", "dram=1GiB", "--price", "tape=1"), "tape"),
                             (("--vary", "dram=1GiB", "--points", "1"), "--points"),
                             (("--vary", "dram=1GiB", "--dram", "2GiB"), "--dram sets what --vary dram sets"),
                             (("--vary", "dram=1GiB", "--set", "tier.dram.capacity=2GiB"), "--set tier.dram.capacity=2GiB sets"),
                             (("--vary", "load=1", "--dram", "2GiB", "--set", "tier.dram.capacity=2GiB"), "--dram sets what")):
            text = self.run("plan", *self.what, *args, rc=2)
            assert wanted in text, f"{args}: {text}"
        for args, wanted in ((("--vary", "tape=1GiB"), "tape"), (("--vary", "dram=1GiB", "--vary", "dram=2GiB"), "sets what --vary dram sets"),
                             (("--vary", "link.c2c=1GB/s"), "c2c"), (("--vary", "dram=1GiB..2GiB/64", "--vary", "load=1..9"), "the limit is 256: --vary NAME=A..B/3")):
            text = self.run("plan", *self.what, *args, rc=1)
            assert wanted in text, f"{args}: {text}"
        text = self.run("plan", "--trace", str(self.directory / "none"), *self.what[2:], "--vary", "dram=1GiB", rc=1)
        assert "none" in text, text


def main():
    report = junit.Report("plan_command_test")
    with tempfile.TemporaryDirectory(prefix="kvtier-plan-") as directory:
        cases = Cases(directory)
        for case in (cases.fields, cases.other_commands, cases.own_memory, cases.for_people, cases.table_is_on_the_safe_side,
                     cases.too_small, cases.four_ranges, cases.report, cases.wrong):
            report.run(case.__name__, case)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
