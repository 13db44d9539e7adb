"""Proves that `kvtier bound` and `kvtier bound verify` keep what docs/cli.md and docs/BOUND.md promise: bounds below
schedules, certificates that prove what they say for their own problem and no other, the published golden value, the same
result for any number of threads, and errors that say what is wrong. Traces and problems are made here.
"""

import json
import math
import os
import pathlib
import re
import shutil
import signal
import struct
import sys
import tempfile
import time

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cli_world  # noqa: E402
import junit  # noqa: E402

GOLDEN_SECONDS = 24.59591294822874  # arXiv 2508.13231's best case at 60 % sparsity, computed again from its inputs


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def instance_bytes(tiers, resources, options, classes, phases, blocks):
    """One table of one state, in all tiers; `options` are what an access loads. A block is (class, phase): it lives in
    that phase and is read in it. The layout is that of tiering/bound/instance_file.h."""
    out = b"KVTIERPI" + struct.pack("<IIIIIII", 1, len(tiers), len(resources), 255, 1, len(classes), phases)
    out += struct.pack("<QQ", len(blocks), len(blocks))
    for name, capacity in tiers:
        out += struct.pack("<Q", capacity) + text(name)
    for name, rate in resources:
        out += struct.pack("<Q", rate) + text(name)
    out += struct.pack("<II", 1, 1) + bytes([(1 << len(tiers)) - 1])
    for options_of_list in ([[0] * len(resources)], options):
        out += struct.pack("<I", len(options_of_list))
        for option in options_of_list:
            out += struct.pack(f"<{len(option)}HH", *option, 0)
    for size in classes:
        out += struct.pack("<QQII", size, 0, 0, 1)
    out += struct.pack(f"<{phases * len(resources)}Q", *[0] * (phases * len(resources)))
    for numbers in ([c for c, _ in blocks], [p for _, p in blocks], [p + 1 for _, p in blocks]):
        out += struct.pack(f"<{len(blocks)}I", *numbers)
    out += struct.pack(f"<{len(blocks) + 1}Q", *range(len(blocks) + 1))
    return out + struct.pack(f"<{len(blocks)}I", *[p for _, p in blocks])


def golden_instance():
    """The paper's run: 32 layers, each step reads the weights and 40 % of the tokens so far, 16 KiB each, from GPU memory
    of 4900 GB/s and a link of 450 GB/s at the same time; there is room for everything."""
    sizes = [32 * (162_889_728 + math.ceil(0.4 * (position + 1)) * 16_384) for position in range(31_299, 41_539)]
    classes = sorted(set(sizes))
    blocks = [(classes.index(size), phase) for phase, size in enumerate(sizes)]
    return instance_bytes([("hbm", 1 << 60), ("dram", 1 << 60)],
                          [("hbm", 4_900_000_000_000), ("c2c.to_gpu", 450_000_000_000)],
                          [[1, 0], [0, 1]], classes, len(sizes), blocks)


class Cases:
    def __init__(self, world):
        self.world = world
        self.attention = self.path("steps.kvattn")
        self.requests = self.path("requests.jsonl")

    def path(self, name):
        return str(self.world.directory / name)

    def run(self, *args, rc=0):
        return self.world.run(*args, rc=rc, socket=False)

    def bound(self, *args):
        result = json.loads(self.run("bound", "--json", *args)[0])
        assert result["lower_bound_s"] >= 0, result["lower_bound_s"]
        points = result["progress"]
        assert points and all(a["seconds"] <= b["seconds"] for a, b in zip(points, points[1:])), points
        times = {name: policy["time_s"] for name, policy in result["policies"].items()}
        if times:
            best = min(times, key=times.get)
            assert result["best_feasible_s"] <= times[best], (result["best_feasible_s"], times)
            if result["best_feasible_s"] == times[best]:
                assert result["best_feasible_from"] in times, result["best_feasible_from"]
        # What is best is the same everywhere: a schedule, or a policy's simulation.
        assert points[-1]["best_feasible_s"] == result["best_feasible_s"], (points[-1], result["best_feasible_s"])
        assert points[-1]["lower_bound_s"] == result["lower_bound_s"], (points[-1], result["lower_bound_s"])
        units = {name: link["units"] for name, link in result["links"].items()}
        occupancy = result["series"]["occupancy_bytes"]
        assert list(occupancy) == [tier["name"] for tier in result["tiers"]], occupancy
        if result["best_feasible_simulated"]:
            policy = result["policies"][result["best_feasible_from"]]
            assert policy["time_s"] == result["best_feasible_s"], (policy, result["best_feasible_s"])
            assert units["compute"] > 0 and all(units[name] == policy["bytes_by_link"][name] for name in units if name != "compute"), units
        else:
            assert (None in units.values()) == (result["best_feasible_s"] is None), units
        scheduled = result["best_feasible_s"] is not None and not result["best_feasible_simulated"]
        assert all((tier is not None) == scheduled for tier in occupancy.values()), occupancy
        if result["best_feasible_s"] is not None:
            assert result["best_feasible_s"] >= result["lower_bound_s"], result["best_feasible_s"]
            gap = result["best_feasible_s"] / result["lower_bound_s"] - 1
            assert abs(result["gap"] - gap) < 1e-12, (result["gap"], gap)
        return result

    def error(self, *args):
        output, error = self.run("bound", *args, rc=1)
        assert output == "", output
        return error

    def make_traces(self):
        self.run("trace", "generate", "--kind", "attention", "--steps", "12", "--prompt-tokens", "4096", "-o",
                 self.attention)
        self.run("trace", "generate", "--kind", "chat", "--requests", "120", "-o", self.requests)

    def attention_problem(self, *args):
        # Room in the GPU's memory for about a third of the blocks, beside the weights.
        return ("--trace", self.attention, "--machine", "gh200", "--model", "llama-3.1-8b", "--hbm", "16.24GB", *args)

    def request_problem(self, *args, dram="4GiB"):
        return ("--trace", self.requests, "--machine", "h100-sxm", "--model", "llama-3.1-8b", "--tiers", "dram",
                "--dram", dram, *args)

    def golden(self):
        path, certificate = self.path("golden"), self.path("golden.certificate")
        pathlib.Path(path).write_bytes(golden_instance())
        result = self.bound("--instance", path, "--certificate", certificate, "--time-limit", "15")
        assert abs(result["lower_bound_s"] / GOLDEN_SECONDS - 1) < 1e-10, result["lower_bound_s"]
        # A schedule divides reads in parts of 2^-20, which are that large beside the link's share.
        assert result["gap"] < 1e-5, result["gap"]
        verified = json.loads(self.run("bound", "verify", certificate, "--instance", path, "--json")[0])
        assert verified["lower_bound_s"] == result["lower_bound_s"], verified

    def requests_and_attention(self):
        for problem, phases in ((self.request_problem(), 120), (self.attention_problem(), 12),
                                (self.attention_problem("--phase", "layer"), 12 * 32),
                                (self.attention_problem("--phase", "layer", "--mode", "strict"), 2 * 12 * 32)):
            result = self.bound(*problem, "--time-limit", "20")
            assert result["phases"] == phases, result["phases"]
            assert result["lower_bound_s"] > 0 and result["best_feasible_s"] is not None, problem
            assert result["roofline_s"] <= result["best_feasible_s"], (result["roofline_s"], problem)
            binding = sum(link["binding"] for link in result["links"].values())
            assert abs(binding - 1) < 0.05, result["links"]  # 1 but for what is not converged
            assert list(result["room"]) == [tier["name"] for tier in result["tiers"]], result["room"]
            # More room than there is use for has no price.
            assert all(room["binding"] < 1e-3 for name, room in result["room"].items() if name == "dram" and phases != 120)
            assert result["placed_blocks"] <= result["blocks"], problem

    def more_room_is_no_slower(self):
        bounds = [self.bound(*self.request_problem("--bound-only", dram=size))["lower_bound_s"]
                  for size in ("1GiB", "8GiB", "1TiB")]
        # Each is converged well enough for such steps.
        assert bounds[0] >= bounds[1] * (1 - 1e-3) and bounds[1] >= bounds[2] * (1 - 1e-3), bounds
        assert bounds[0] > bounds[2], bounds

    def certificates(self):
        certificate = self.path("certificate")
        problem = self.attention_problem()
        result = self.bound(*problem, "--certificate", certificate, "--bound-only")
        output, _ = self.run("bound", "verify", certificate, *problem)
        assert "verified: no schedule takes less than" in output and "gh200" in output, output
        assert self.attention in output and "llama-3.1-8b" in output and "in_place" in output, output
        assert "computed only" not in output, output
        verified = json.loads(self.run("bound", "verify", certificate, *problem, "--json")[0])
        assert verified["lower_bound_s"] == result["lower_bound_s"], verified
        for other in (("--requests", "11"), ("--phase", "layer"), ("--tiers", "hbm,dram", "--dram", "100GiB"),
                      ("--set", "link.c2c=100GB/s"), ("--set", "compute=1TFLOP/s")):
            assert "another" in self.error("verify", certificate, *problem, *other), other
        data = pathlib.Path(certificate).read_bytes()
        damaged = self.path("damaged")
        for change in (data[:-1], data + b"x", b"", data[:100], data[:60] + bytes([data[60] ^ 1]) + data[61:]):
            pathlib.Path(damaged).write_bytes(change)
            assert damaged in self.error("verify", damaged, *problem)

    def problems_as_files(self):
        path = self.path("problem")
        made = self.bound(*self.request_problem("--export-instance", path, "--bound-only", "--threads", "1"))
        read = self.bound("--instance", path, "--bound-only", "--threads", "2")
        assert read["lower_bound_s"] == made["lower_bound_s"], (read["lower_bound_s"], made["lower_bound_s"])
        assert read["placed_blocks"] == made["placed_blocks"] and read["phases"] == made["phases"], read["phases"]
        pathlib.Path(path).write_bytes(pathlib.Path(path).read_bytes()[:-1])
        assert path in self.error("--instance", path)

    def policy_is_best(self):
        """Without a search every figure of the best is the simulation's; a schedule that is found is better, or as good."""
        problem = self.request_problem("--policies", "lru,min", "--requests", "60", dram="64GiB")
        simulated = self.bound(*problem, "--bound-only")
        assert simulated["best_feasible_simulated"] and simulated["best_feasible_s"] is not None, simulated["best_feasible_from"]
        found = self.bound(*problem)
        assert found["best_feasible_s"] <= simulated["best_feasible_s"], found["best_feasible_s"]
        output = self.run("bound", *self.request_problem("--policies", "none", "--time-limit", "3s"))[0]
        assert "(searched, from " in output and "not of a policy" in output, output
        assert "(lru, simulated)" in self.run("bound", *problem, "--bound-only")[0]
        # Some schedule may be found in that time, and be slower.
        self.bound(*self.attention_problem("--phase", "layer", "--time-limit", "1ms", "--policies", "static,min"))
        nothing = self.bound(*self.request_problem("--policies", "none", "--bound-only"))
        assert nothing["best_feasible_s"] is None and not nothing["best_feasible_from"], nothing["best_feasible_from"]

    def windows(self):
        """Prices found window by window prove a bound of the whole, about as good as that found at once."""
        at_once, certificate = self.path("at-once.certificate"), self.path("windows.certificate")
        problem = self.request_problem("--requests", "60")
        plain = self.bound(*problem, "--certificate", at_once)
        windowed = self.bound(*problem, "--window", "20", "--certificate", certificate)
        # Other prices, or the option does nothing.
        assert pathlib.Path(at_once).read_bytes() != pathlib.Path(certificate).read_bytes()
        assert plain["lower_bound_s"] * 0.995 < windowed["lower_bound_s"] <= plain["best_feasible_s"], windowed["lower_bound_s"]
        verified = json.loads(self.run("bound", "verify", certificate, *problem, "--json")[0])
        assert verified["lower_bound_s"] == windowed["lower_bound_s"], verified

    def only_files_are_read(self):
        """A pipe would be waited for, and a device read until memory is full."""
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        machine = ("--machine", "gh200", "--model", "llama-3.1-8b")
        for path in (pipe, "/dev/zero"):
            for args in (("--instance", path), ("verify", path, "--instance", path), ("--trace", path, *machine),
                         ("--trace", self.attention, "--machine", path, "--model", "llama-3.1-8b")):
                error = self.error(*args)
                assert f"{path} is a pipe or a device; a file" in error, (args, error)
        os.unlink(pipe)

    def inputs_are_not_written_over(self):
        """Whatever they are called."""
        trace, machine, link = self.path("own.jsonl"), self.path("own.yaml"), self.path("link")
        shutil.copy(self.requests, trace)
        shutil.copy(cli_world.ROOT / "sim/machines/h100-sxm.yaml", machine)
        os.symlink(trace, link)
        problem = ("--trace", trace, "--machine", machine, "--model", "llama-3.1-8b", "--tiers", "dram")
        inputs = {path: pathlib.Path(path).read_bytes() for path in (trace, machine)}
        new = self.path("new")
        for args, wanted in ((("bound", *problem, "--certificate", trace), "is read as well"),
                             (("bound", *problem, "--certificate", link), "is read as well"),
                             (("bound", *problem, "--export-instance", machine), "is read as well"),
                             (("bound", *problem, "--certificate", new, "--export-instance", new), "written twice"),
                             (("sim", *problem, "--policy", "lru", "--hits", trace), "is read as well"),
                             (("report", machine, "-o", machine), "is read as well")):
            _, error = self.run(*args, rc=2)
            assert wanted in error, (args, error)
        assert not os.path.exists(new) and os.path.islink(link)
        assert inputs == {path: pathlib.Path(path).read_bytes() for path in inputs}

    def simulations_leave_nothing(self):
        many, hits = self.path("many.jsonl"), self.path("hits")
        self.run("trace", "generate", "--kind", "chat", "--requests", "3000", "-o", many)
        with self.world.popen("sim", "--trace", many, "--machine", "h100-sxm", "--model", "llama-3.1-8b", "--policy", "sa",
                              "--hits", hits, socket=False) as simulation:
            folder = pathlib.Path(hits).parent
            while not list(folder.glob(".kvtier-*")):
                assert simulation.poll() is None, simulation.communicate()
            simulation.send_signal(signal.SIGINT)
            output, error = simulation.communicate(timeout=cli_world.SECONDS_MAX)
        assert simulation.returncode == 130 and output == b"" and b"interrupted by SIGINT" in error, (output, error)
        assert not list(folder.glob(".kvtier-*")) and not os.path.exists(hits)

    def results_outlive_files(self):
        """What cannot be written is refused before the time limit is spent; where writing fails later the result is printed."""
        began = time.monotonic()
        self.error(*self.request_problem("--time-limit", "1h", "--certificate", self.path("no/such/folder")))
        assert time.monotonic() - began < 30, "refused only after the search"
        output, error = self.run("bound", *self.request_problem("--time-limit", "1s", "--certificate", "/dev/full"), rc=1)
        assert "no schedule takes less than" in output and "/dev/full" in error, (output, error)
        output, error = self.run("sim", *self.request_problem("--policy", "lru", "--hits", "/dev/full"), rc=1)
        assert "phases" in output and "/dev/full" in error, (output, error)

    def progress(self):
        output, error = self.run("bound", *self.request_problem("--progress"))
        assert "computed only where they are read" in output, output
        assert "gap" in error and "bound: " in error, error

    def stopped(self):
        """A signal ends it within what is under way, in whatever it is; the limit alone would let it run for an hour."""
        large = self.path("large.kvattn")
        self.run("trace", "generate", "--kind", "attention", "--steps", "150", "--prompt-tokens", "65536", "-o", large)
        problem = ("--trace", large, "--machine", "gh200", "--model", "llama-3.1-8b", "--hbm", "18GiB", "--policies", "none",
                   "--progress")
        # Half of the time is the bound's: schedules are looked for after ten seconds.
        for limit, stage in (("1h", "sample,"), ("20s", "(min|static|dive|sampled [0-9.]+),")):
            with self.world.popen("bound", *problem, "--time-limit", limit, socket=False) as bound:
                lines = iter(bound.stderr.readline, b"")
                seen = next((line for line in lines if re.search(f" s, {stage}".encode(), line)), None)
                assert seen is not None, f"ended before {stage}"
                bound.send_signal(signal.SIGTERM)
                output, error = bound.communicate(timeout=cli_world.SECONDS_MAX)
            error = error.decode().splitlines()
            assert bound.returncode == 143 and output == b"", (stage, bound.returncode, output, error)
            # Progress is a line a second, and one more at the end.
            assert "interrupted by SIGTERM" in error[-1] and len(error) <= 4, (stage, error)

    def policies_by_default(self):
        """Each has the time limit for itself and is left out beyond it; one that was named is waited for."""
        many = self.path("many.jsonl")
        self.run("trace", "generate", "--kind", "chat", "--requests", "3000", "-o", many)
        problem = ("--trace", many, "--machine", "h100-sxm", "--model", "llama-3.1-8b", "--tiers", "dram", "--dram", "4GiB",
                   "--time-limit", "1ms", "--bound-only")
        output, error = self.run("bound", *problem)
        assert "no schedule takes less than" in output, output
        for policy in ("lru", "min"):
            assert f"{policy} is left out: its simulation takes longer than --time-limit 1ms" in error, error
        output, error = self.run("bound", *problem, "--policies", "lru")
        assert "(lru, simulated)" in output and not error, (output, error)

    def errors(self):
        machine = self.path("machine.yaml")
        pathlib.Path(machine).write_text("name: m\ncompute: .nan\n")
        cut = self.path("cut.kvattn")
        pathlib.Path(cut).write_bytes(pathlib.Path(self.attention).read_bytes()[:-100])
        problem = self.attention_problem()
        for args, needed in (
                (("--machine", machine), f"{machine}:2: compute"),
                (("--machine", "h200"), "there is no machine h200: neither a file nor one of h100-pcie5"),
                (("--model", "llama-3.1-70b"), "the trace is of model \"llama-3.1-8b\""),
                (("--trace", cut), f"{cut}:"),
                (("--trace", self.path("none")), "none"),
                (("--hbm", "1GiB"), "the weights of llama-3.1-8b are 14.95753 GiB, and tier hbm of gh200 has 1 GiB: set a larger one (tier.hbm.capacity=SIZE)"),
                (("--tiers", "hbm,ssd"), "gh200 has no tier ssd"),
                (("--mode", "strict"), "--phase layer"),
                (("--phase", "layer", "--mode", "strict", "--hbm", "16.0605226GB"), "step 0 reads"),
                (("--hbm", "16.07GB", "--dram", "1MiB"), "and the tiers have"),
                (("--certificate", self.path("no/such/folder")), "folder")):
            kept = [word for pair in zip(problem[::2], problem[1::2]) if pair[0] not in args for word in pair]
            error = self.error(*kept, *args)
            assert needed in error, (args, error)
        assert "attention" in self.error(*self.request_problem("--phase", "layer"))


def main():
    report = junit.Report("bound")
    with tempfile.TemporaryDirectory(prefix="kvtier-bound-") as directory:
        cases = Cases(cli_world.World(directory))
        if report.run("traces are made", cases.make_traces):
            report.run("the golden value, to ten digits", cases.golden)
            report.run("requests and attention, in every mode", cases.requests_and_attention)
            report.run("more room is no slower", cases.more_room_is_no_slower)
            report.run("a certificate proves its own problem's bound, and no other's", cases.certificates)
            report.run("a problem as a file, and any number of threads", cases.problems_as_files)
            report.run("a policy that is best", cases.policy_is_best)
            report.run("windows", cases.windows)
            report.run("only files are read", cases.only_files_are_read)
            report.run("inputs are not written over", cases.inputs_are_not_written_over)
            report.run("interrupted simulations leave nothing", cases.simulations_leave_nothing)
            report.run("results outlive files that cannot be written", cases.results_outlive_files)
            report.run("progress shows the gap", cases.progress)
            report.run("a signal ends it at once", cases.stopped)
            report.run("policies that nobody named", cases.policies_by_default)
            report.run("errors say what is wrong", cases.errors)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
