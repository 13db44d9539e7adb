"""Proves that `kvtier` ends with the exit code and the words that docs/cli.md promises: for a wrong command line, an output
that is full, a daemon that drains, is not there, or does not know the user, and for budgets that cannot be.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cli_world  # noqa: E402
import junit  # noqa: E402

COMMANDS = "status, pools, blocks, put, get, bench, replay, trace, bound, sim, plan, report or drain"
ADMIN_ONLY = ("segments", "retired_bytes", "mean_run_length", "moved_in_blocks")


def tenant(name, uid):
    return f"tenants: [{{name: {name}, uids: [{uid}]}}]\n"


class Cases:
    def __init__(self, world):
        self.world = world

    def usage(self):
        """No daemon runs: what was noticed only after connecting would have exit code 3."""
        problem = ("--trace", "t", "--machine", "h100-sxm", "--model", "llama-3.1-8b")
        wrong = {
            (): f"a subcommand is needed: {COMMANDS}",
            ("nonsense",): f'"nonsense" is no subcommand of kvtier: there are {COMMANDS}',
            ("bench",): "a subcommand is needed: rpc, copy, engine, index, bound or sim",
            ("trace",): "a subcommand is needed: generate or info",
            ("trace", "generate"): "--kind is required",
            ("trace", "generate", "--kind", "poem"): "poem",
            ("trace", "generate", "--kind", "chat", "--requests", "0"): '--requests is "0"; a whole number from 1 to 10000000',
            ("trace", "generate", "--kind", "chat", "--turns", "-1"): '--turns is "-1"; a whole number from 1 to 10000',
            ("trace", "generate", "--kind", "chat", "--steps", "3"): "--steps is not for --kind chat",
            ("trace", "generate", "--kind", "attention", "--turns", "3"): "--turns is not for --kind attention",
            ("trace", "generate", "--kind", "attention", "--read-share", "1.5"):
                '--read-share is "1.5"; a number from 0.001 to 1 with up to 3 decimals',
            ("trace", "generate", "--kind", "attention", "--drift", "nan"): '--drift is "nan"; a number from 0 to 4',
            ("trace", "info"): "FILE is required",
            ("bound",): "--trace is required, or --instance",
            ("bound", "--trace", "t", "--machine", "m"): "--model is required, or --instance",
            ("bound", "--instance", "i", "--machine", "m"): "--machine is of a trace, and --instance is given",
            ("bound", "--trace", "t", "--mode", "fast"): "fast",
            ("bound", "--time-limit", "0"): '--time-limit is "0"; a time from 1ms',
            ("bound", "--instance", "i", "--policies", "lru"): "--policies is of a trace, and --instance is given",
            ("bound", *problem, "--policies", "lru,best"): '--policies has "best"; none, or one or more of lru, ',
            ("bound", *problem, "--policies", "none,lru"): '--policies has "none"',
            ("bound", *problem, "--policies", ""): '--policies has ""',
            ("bound", *problem, "--policies", "lru,lru"): "--policies has lru twice",
            ("bound", *problem, "--dram", ""): "--dram has 0 bytes",
            ("plan", *problem, "--vary", "load=1,2", "--dram", "256"): 'tier.dram.capacity is "256", without a unit; 256GiB is',
            ("bound", *problem, "--dram", "900KB"): 'tier.dram.capacity is "900KB"; a size such as 64GiB or 80GB from 1B to 1PiB is '
                                                    "needed; units are B, kB, MB",
            ("bound", *problem, "--staging", "900KB"): '--staging is "900KB"; a size from 1 B to 1024 TiB is needed: a number of '
                                                       "bytes, or one with KiB, MiB, GiB or TiB",
            ("bound", *problem, "--tiers", ""): "--tiers has an empty name; h100-sxm has hbm, dram",
            ("bound", *problem, "--set", "tier.dram.capcity=1GiB"): ": did you mean tier.dram.capacity?",
            ("bound", *problem, "--set", "model.weights=8GB"): "is no field; a model has layers, ",
            ("bound", *problem, "--dram", "nan"): 'tier.dram.capacity is "nan"; a size such as 64GiB',
            ("bound", *problem, "--set", "link.pcie=-1GB/s"): 'link.pcie is "-1GB/s"; a rate such as',
            ("bound", *problem, "--set", "tier.ssd.capacity=1GiB"): "names no tier",
            ("sim", *problem, "--policy", "lru,lru"): "--policy has lru twice",
            # One spelling is as good as the other.
            ("bound", *problem, "--policy", "best"): '--policies has "best"',
            ("plan", *problem, "--vary", "load=1", "--policy", "best"): '--policies has "best"',
            ("sim", *problem, "--policies", "best"): '--policy has "best"',
            ("sim", *problem, "--policy", "none"): '--policy has "none"; one or more of lru, ',
            ("plan", *problem, "--vary", "dram=1GiB", "--target", "1s"): "--target needs --price",
            ("bound", "verify"): "FILE is required",
            ("bound", "--trace", "t", "verify", "c"):
                "--trace stands before verify; options come after it, as in kvtier bound verify c --trace",
            ("bound", "--json", "verify", "c", "--instance", "i"): "as in kvtier bound verify c --json",
            ("bound", "c", "--instance", "i"): '"c" is no subcommand of kvtier bound: the only one is verify',
            ("verify", "c"): '"verify" comes after bound, as in kvtier bound verify',
            ("bound", "verify", "c"): "--trace is required, or --instance",
            ("replay",): "--trace is required",
            ("replay", "--trace", "t", "--workers", "0"): '--workers is "0"; a whole number from 1 to 256',
            ("replay", "--trace", "t", "--bytes-per-token", "0"): '--bytes-per-token is "0"; a size from 1 B to 1 MiB',
            ("--json", "status"): "--json stands before the subcommand; options come after it, as in kvtier status --json",
            ("status", "--bogus"): "kvtier status has no option --bogus",
            ("status", "--json=maybe"): "--json takes no value",
            ("status", "--socket", "a", "--socket", "b"): "--socket is given more than once",
            ("put", "a", "b"): '"b" is one argument too many for kvtier put',
            ("put", "a", "--name"): "--name needs a value",
            ("put", "-"): "the standard input has no name; give --name NAME",
            ("put", "a", "--name", ""): "--name has 0 bytes; 1 to 1024 are allowed",
            ("put", "a", "--name", "n" * 5000): "--name has 5000 bytes; 1 to 1024 are allowed",
            ("put", "a", "--name", b"\xff\xfe"): "--name is not UTF-8: \"\\xff\\xfe\"",
            ("put", b"folder/\xff"): "the file's own name is not UTF-8: \"\\xff\"; give --name NAME",
            ("put", "a", "--model", b"\xed\xa0\x80"): "--model is not UTF-8",  # a surrogate
            ("get", "a", "-o", "b", "--model", "m" * 120): "--model has 120 bytes; 1 to 119 are allowed",
            ("get", "n" * 1025, "-o", "b"): "NAME has 1025 bytes; 1 to 1024 are allowed",
            ("put", "a", "--chunk-bytes", "1"): '--chunk-bytes is "1"; a size from 4 KiB to 64 MiB is needed',
            ("blocks", "--limit", "0"): '--limit is "0"; a whole number from 1 to ',
            ("blocks", "--limit", "1e3"): '--limit is "1e3"; a whole number from 1 to ',
            ("pools", "--set-budget", "hbm:0"): 'takes POOL=SIZE, for example hbm:0=64MiB, not "hbm:0"',
            ("pools", "--set-budget", "hbm:0=banana"): '"banana" is no size',
            ("bench", "engine", "--planes", "3"): "--blocks is 10000000; a multiple of --planes, 3, is needed",
            ("status", "--socket", ""): "has 0 bytes; a Unix socket's has 1 to 107",
            ("status", "--socket", "s" * 108): "has 108 bytes; a Unix socket's has 1 to 107",
        }
        for value in ("abc", "nan", "inf", "-1", "", "1x", "1e99"):
            wrong["status", "--wait", value] = f'--wait is "{value}"; a time from 0 to 24h, such as 10, 10s or 500ms, is needed'
            wrong["replay", "--trace", "t", "--speed", value] = f'--speed is "{value}"; max or a number from 0.001 to 1000000'
            wrong["drain", "--timeout", value] = f'--timeout is "{value}"; a time from 1ms to 1h'
        wrong["drain", "--timeout", "0.0001"] = '--timeout is "0.0001"; a time from 1ms to 1h'
        for args, wanted in wrong.items():
            command = [os.fsencode(cli_world.BIN / "kvtier"), *map(os.fsencode, args)]
            done = subprocess.run(command, capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
                                  env={**os.environ, "KVTIER_SOCKET": self.world.socket})
            text = done.stderr.decode()
            assert done.returncode == 2, f"{args}: exit code {done.returncode}: {text}"
            assert wanted in text, f"{args}: {text}"
            assert "libprotobuf" not in text and not done.stdout, f"{args}: {text}"
        done = subprocess.run([cli_world.BIN / "kvtier", "status"], capture_output=True, check=False, timeout=60,
                              env={**os.environ, "KVTIER_SOCKET": "s" * 108})
        assert done.returncode == 2, done.stderr

    def files_first(self):
        """What is wrong with a file is said without a daemon."""
        _, text = self.world.run("put", str(self.world.directory), rc=1)
        assert "is a directory" in text, text
        self.world.run("put", str(self.world.directory / "missing"), rc=1)

    def wait_ends(self):
        for time in ("100ms", "0.1"):
            _, text = self.world.run("status", "--wait", time, rc=3)
            assert "nobody answered within 100ms" in text, text

    def full_output(self):
        self.world.run("put", "-", "--name", "file", stdin=b"file")
        for args in (["blocks", "--all", "--json"], ["status"], ["pools"], ["get", "file", "-o", "-"], ["--help"],
                     ["put", "--help"], ["--version"], ["put", "-", "--name", "file", "--replace"]):
            with open("/dev/full", "wb") as full:
                command = self.world.command(*args, socket=args[-1][2:] not in ("help", "version"))
                done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, input=b"file", check=False, timeout=60)
            text = done.stderr.decode()
            assert done.returncode == 1, f"{args}: exit code {done.returncode}: {text}"
            assert "standard output: No space left on device" in text, f"{args}: {text}"

    def closed_output(self):
        """The file that get makes must not take the place of a closed standard output."""
        copy = self.world.directory / "copy"
        command = self.world.command("get", "file", "-o", str(copy))
        done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], check=False, timeout=60, stderr=subprocess.PIPE)
        assert done.returncode == 1, done.stderr
        assert copy.read_bytes() == b"file"

    def budgets(self):
        def now():
            return {pool["name"]: pool["budget_bytes"] for pool in self.world.json("pools")["pools"]}

        before = now()
        for wrong, wanted in (("tape:0=64MiB", 'no pool "tape:0", only hbm:0, dram:0'), ("dram:0=1KiB", "1048576 (a segment)"),
                              ("dram:0=1TiB", "67108864 (its limit)")):
            _, text = self.world.run("pools", "--set-budget", "hbm:0=8MiB", "--set-budget", wrong, rc=1)
            assert wanted in text, text
            assert now() == before, "a budget was changed"
        changed = self.world.json("pools", "--set-budget", "hbm:0=0", "--set-budget", "dram:0=2MiB")
        assert [(c["pool"], c["budget_bytes"]) for c in changed["changed"]] == [("hbm:0", 0), ("dram:0", 2 << 20)]
        assert now() == {"hbm:0": 0, "dram:0": 2 << 20}

    def draining(self):
        self.world.run("drain")
        for args in (["put", "-", "--name", "x"], ["get", "file", "-o", str(self.world.directory / "x")]):
            _, text = self.world.run(*args, rc=1)
            assert "draining" in text, text
        for time in ("10s", "10"):
            assert json.loads(self.world.run("status", "--wait", time, "--json")[0])["draining"]

    def not_an_admin(self):
        pools = self.world.json("pools")["pools"]
        assert pools and all(pool[field] is None for pool in pools for field in ADMIN_ONLY), pools
        titles, first = (re.split(r"  +", line) for line in self.world.run("pools")[0].splitlines()[:2])
        cells = dict(zip(titles, first))
        assert [cells[column] for column in ("retired", "segments", "run")] == ["-", "-", "-"], cells
        _, text = self.world.run("pools", "--set-budget", "hbm:0=8MiB", rc=1)
        assert "admin: true" in text, text
        self.world.run("drain", rc=1)

    def no_tenant(self):
        """Long before the time is up: no waiting mends it."""
        _, text = self.world.run("status", "--wait", "24h", rc=1)
        assert f"refuses connections of uid {os.getuid()}" in text, text


def main():
    report = junit.Report("cli_exit_codes")
    with tempfile.TemporaryDirectory(prefix="kvtier-cli-") as directory:
        world = cli_world.World(directory)
        cases = Cases(world)
        try:
            report.run("wrong usage", cases.usage)
            report.run("files are looked at first", cases.files_first)
            report.run("--wait without a daemon", cases.wait_ends)
            if report.run("a daemon starts", world.start, cli_world.SMALL):
                report.run("a full output", cases.full_output)
                report.run("a closed output", cases.closed_output)
                report.run("budgets are checked before any is set", cases.budgets)
                report.run("a daemon that drains", cases.draining)
            world.stop()
            if report.run("a daemon starts", world.start, cli_world.SMALL + tenant("plain", os.getuid())):
                report.run("a tenant that is no admin", cases.not_an_admin)
            world.stop()
            if report.run("a daemon starts", world.start, cli_world.SMALL + tenant("other", os.getuid() + 1)):
                report.run("a user of no tenant", cases.no_tenant)
        finally:
            world.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
