"""Proves that `kvtier sim` does what docs/cli.md says: prompt by prompt the hits that naive models of the policies have
on a pinned trace, the same result each time, chunk by chunk the hits that `kvtier replay` has against a real daemon, and
clear errors.
"""

import json
import os
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cli_world  # noqa: E402
import junit  # noqa: E402
import naive_cache  # noqa: E402

# 64 KiB for a block of 512 tokens: one slot, and one of the daemon's smallest segments.
MODEL = """name: tiny
layers: 1
query_heads: 1
kv_heads: 1
head_dim: 32
bytes_per_value: 2
score_dim: 32
value_dim: 32
weight_bytes: 1000
pass_weight_bytes: 1000
active_parameters: 1000
"""
CHUNK = 65536
WEIGHT_BYTES = 16_060_522_496  # of llama-3.1-8b


class Cases:
    def __init__(self, world):
        self.world = world
        self.model = str(world.directory / "tiny.yaml")
        pathlib.Path(self.model).write_text(MODEL, encoding="ascii")

    def trace(self, *args):
        """A generated trace, its prompts cut to whole blocks, 10 ms apart."""
        path = str(self.world.directory / "trace.jsonl")
        self.world.run("trace", "generate", "-o", path, *args, socket=False)
        lines = [json.loads(line) for line in open(path, encoding="ascii")]
        with open(path, "w", encoding="ascii") as file:
            for i, line in enumerate(lines):
                line["timestamp"] = 10 * i
                line["input_length"] = 512 * len(line["hash_ids"])
                file.write(json.dumps(line) + "\n")
        return path, [line["hash_ids"] for line in lines]

    def sim(self, path, policies, *args, rc=0):
        output, error = self.world.run("sim", "--trace", path, "--machine", "h100-pcie5", "--model", self.model,
                                       "--policy", policies, "--json", *args, rc=rc, socket=False)
        return (json.loads(output) if rc == 0 else None), error

    def naive_policies(self):
        for kind, seed, slots in (("agent", 5, 150), ("rag", 6, 40), ("chat", 7, 100)):
            path, ids = self.trace("--kind", kind, "--requests", "250", "--seed", str(seed), "--prefixes", "6")
            # Numbers for prefixes, from 1: tuples of their own would be compared and hashed all the time.
            names = {}
            prompts = [[names.setdefault(tuple(prompt[:i + 1]), len(names) + 1) for i in range(len(prompt))] for prompt in ids]
            report, _ = self.sim(path, "lru,lfu,s3fifo,min", "--tiers", "dram", "--dram", f"{slots * CHUNK}B", "--phases")
            ahead = min(-(-slots // 16), 16)
            hits = {}
            for name, policy in (("lru", naive_cache.Lru()), ("lfu", naive_cache.Lfu()),
                                 ("s3fifo", naive_cache.S3Fifo(slots)), ("min", naive_cache.Min(prompts))):
                simulated = report["policies"][name]
                assert simulated["tiers"]["dram"]["slots"] == slots, simulated["tiers"]
                cache = naive_cache.Cache(policy, slots, ahead)
                naive = [cache.serve(prompt, now) for now, prompt in enumerate(prompts)]
                different = [i for i, pair in enumerate(zip(naive, simulated["phase_hits"])) if pair[0] != pair[1]]
                assert not different, (f"{kind}, {name}: {len(different)} of {len(prompts)} prompts, the first is {different[0]}: "
                                       f"{naive[different[0]]} hits, simulated {simulated['phase_hits'][different[0]]}")
                assert len(naive) == len(simulated["phase_hits"]) and sum(naive) == simulated["hits"]
                assert simulated["dropped_chunks"] > 2 * slots, "the trace fills the tier several times"
                hits[name] = sum(naive)
            assert hits["min"] >= max(hits[name] for name in ("lru", "lfu", "s3fifo")), hits

    def same_result_each_time(self):
        path, _ = self.trace("--kind", "agent", "--requests", "60", "--seed", "1")
        args = (path, "lru,s3fifo,static,min", "--dram", f"{100 * CHUNK}B", "--hbm", f"{40 * CHUNK + 1000}B", "--phases")
        first, second = self.sim(*args)[0], self.sim(*args)[0]
        for report in (first, second):
            for policy in report["policies"].values():
                del policy["seconds"]
        assert first == second
        lru = first["policies"]["lru"]
        assert sum(lru["phase_hits"]) == lru["hits"] and len(lru["phase_times_s"]) == first["phases"] == 60
        assert abs(sum(lru["phase_times_s"]) - lru["time_s"]) < 1e-6 and lru["moves_done"] > 0
        assert abs(sum(lru["hit_rate_by_tier"].values()) - lru["hit_rate"]) < 1e-9

    def same_as_replay(self):
        """The same trace in a daemon with the same pools, which settles between requests: the same line of hits for each."""
        path, prompts = self.trace("--kind", "agent", "--requests", "90", "--seed", "11", "--prefixes", "4")
        longest = max(map(len, prompts))
        hits = {side: self.world.directory / f"{side}.hits" for side in ("sim", "replay")}
        seen = set()
        for policy, hbm, dram, segment in (("lru", 0, longest + 20, 1), ("lfu", 0, longest + 70, 4), ("s3fifo", 0, longest + 20, 1),
                                           ("static", 0, longest + 20, 4), ("lru", 24, longest + 20, 1),
                                           ("lfu", 60, longest, 4), ("s3fifo", 24, longest + 20, 1)):
            sizes = {"hbm": hbm // segment * segment * CHUNK, "dram": dram // segment * segment * CHUNK}
            tiers = [tier for tier in sizes if sizes[tier]]
            report, _ = self.sim(path, policy, "--settle", "--segment", str(segment * CHUNK), "--hits", str(hits["sim"]),
                                 "--tiers", ",".join(tiers), "--dram", f"{sizes['dram']}B", "--hbm", f"{sizes['hbm'] + 2000}B")
            more = ", static_share: [1]" if policy == "static" else ""
            pools = ", ".join(f"{{name: '{tier}:0', kind: {tier}, budget_bytes: {sizes[tier]}}}" for tier in tiers)
            self.world.start(f"memory: {{segment_bytes: {segment * CHUNK}, reserve_bytes: 0, huge_pages: false}}\n"
                             f"pools: [{pools}]\npolicy: {{name: {policy}{more}}}\n")
            output, _ = self.world.run("replay", "--trace", path, "--speed", "max", "--settle", "--hits", str(hits["replay"]), "--json")
            moved = self.world.json("status")["counters"]["moves_done"]
            if policy == "lru" and hbm:
                self.moves_go_on(path, moved)
            self.world.stop()
            replayed, simulated = json.loads(output), report["policies"][policy]
            what = f"{policy}, {sizes}, segments of {segment}"
            lines = [file.read_text().splitlines() for file in hits.values()]
            different = [i for i, pair in enumerate(zip(*lines)) if pair[0] != pair[1]]
            assert len(lines[0]) == len(lines[1]) == len(prompts) and not different, (
                f"{what}: requests {different} differ: {[(lines[0][i], lines[1][i]) for i in different[:3]]}")
            assert list(map(len, lines[0])) == list(map(len, prompts)) and sum(line.count("1") for line in lines[0]) == replayed["hits"]
            assert replayed["refused"] == simulated["refused_chunks"], f"{what}: {replayed['refused']}, {simulated['refused_chunks']}"
            assert moved == simulated["moves_done"], f"{what}: {moved} moves, {simulated['moves_done']}"
            assert simulated["dropped_chunks"] > longest and (moved > 100) == (hbm > 0 and policy != "static"), (what, simulated)
            seen.add(tuple(lines[0]))
        assert len(seen) > 4, "the policies and sizes make a difference"

    def moves_go_on(self, path, moved):
        """Behind a replay that settled the daemon is not held still any more, which would last for a minute."""
        start = time.monotonic()
        self.world.run("replay", "--trace", path, "--speed", "max", "--json")
        cli_world.until(lambda: self.world.json("status")["counters"]["moves_done"] > moved, "the daemon moves blocks again")
        assert time.monotonic() - start < 30, "the daemon was held still"

    def attention(self):
        path = str(self.world.directory / "attention.kvt")
        self.world.run("trace", "generate", "--kind", "attention", "--model", "llama-3.1-8b", "-o", path, socket=False)
        output, _ = self.world.run("sim", "--trace", path, "--machine", "gh200", "--model", "llama-3.1-8b", "--json",
                                   "--policy", "lru,static,reactive,page,sa,min,frequency", "--requests", "4", socket=False)
        layers, _ = self.world.run("sim", "--trace", path, "--machine", "gh200", "--model", "llama-3.1-8b", "--json", "--policy",
                                   "lru", "--requests", "2", "--phase", "layer", "--mode", "strict", "--dram", "4GiB",
                                   "--set", "hbm=18GB", socket=False)
        of_layers = json.loads(layers)
        assert (of_layers["phase"], of_layers["mode"], of_layers["inclusive"]) == ("layer", "strict", False), layers[:500]
        assert of_layers["tiers"] == [{"name": "hbm", "capacity_bytes": 18_000_000_000 - WEIGHT_BYTES},
                                      {"name": "dram", "capacity_bytes": 4 << 30}], of_layers["tiers"]
        _, error = self.sim(path, "lru", "--block-tokens", "64", rc=1)
        assert "--block-tokens is 64, and blocks of" in error and "have 16 tokens" in error, error
        report = json.loads(output)
        assert (report["phase"], report["mode"], report["tiers"][0]["capacity_bytes"]) == (
            "step", "in_place", (96 << 30) - WEIGHT_BYTES), report["tiers"]
        for name, policy in report["policies"].items():
            assert len(policy["planes"]) == 32 and policy["time_s"] > 0, name
            assert sum(tier["read_blocks"] for tier in policy["tiers"].values()) == policy["accesses"] == report["accesses"], name

    def errors(self):
        path, _ = self.trace("--kind", "chat", "--requests", "5")
        _, error = self.sim(path, "lru,best", rc=2)
        assert "best" in error and "lru, lfu, s3fifo" in error, error
        for args, wanted in ((("--set", "model.weight_bytes=90GB"), "83.81903 GiB, and tier hbm of h100-pcie5 has 80 GiB"),
                             (("--tiers", "dram", "--dram", "60KiB"), "one block takes 65536"),
                             (("--tiers", "dram,tape"), "no tier tape"),
                             (("--mode", "strict"), "modes and staging are for attention traces"),
                             (("--phase", "layer"), "layers, modes and staging are for attention"),
                             (("--sessions", "2"), "--sessions is for traces of sessions"),
                             (("--hbm", "1001B"), "tier hbm has 1 bytes for blocks")):
            _, error = self.sim(path, "lru", *args, rc=1)
            assert wanted in error, f"{args}: {error}"
        for args in (("--dram", "4GiB", "--set", "dram=8GiB"), ("--dram", "4GiB", "--set", "tier.dram.capacity=8GiB"),
                     ("--set", "tier.dram.capacity=4GiB", "--set", "dram=8GiB"),
                     ("--set", "link.pcie=5GB/s", "--set", "link.pcie=6GB/s")):
            _, error = self.sim(path, "lru", *args, rc=2)
            assert " sets what " in error, f"{args}: {error}"
        # As slow, and as large, as may be.
        slow, _ = self.sim(path, "lru", "--set", "link.pcie=1MB/s", "--set", "compute=1MFLOP/s", "--dram", "1024TiB")
        assert slow["policies"]["lru"]["time_s"] > 1


def main():
    report = junit.Report("sim")
    with tempfile.TemporaryDirectory(prefix="kvtier-sim-") as directory:
        world = cli_world.World(directory)
        try:
            cases = Cases(world)
            for name in ("naive_policies", "same_result_each_time", "same_as_replay", "attention", "errors"):
                report.run(name, getattr(cases, name))
        finally:
            world.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
