"""Proves that docs/cli.md lists exactly the fields that `kvtier --json` prints, and that the command keeps its exit codes.

Runs every subcommand against a daemon of its own in a temporary directory and compares field paths both ways. A documented
field below a list or map that is empty in this run (no GPU, say) counts as there.
"""

import json
import os
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cli_world  # noqa: E402
import junit  # noqa: E402

MAPS = {"status": ["counters"], "get": ["bytes_by_pool"],
        "bound": ["series.share", "series.room_s_per_gib", "series.occupancy_bytes", "links", "room",
                  "policies", "policies.*.hit_rate_by_tier", "policies.*.bytes_by_link"],
        "plan": ["points[].set", "points[].links", "points[].room", "points[].policies",
                 "points[].policies.*.hit_rate_by_tier", "points[].policies.*.bytes_by_link"],
        "sim": ["policies", "policies.*.hit_rate_by_tier", "policies.*.bytes_by_link", "policies.*.tiers", "policies.*.planes[]",
                "policies.*.ports"],
        "replay": ["hits_by_tier", "bytes_by_link", "errors_by_code", "first_errors"]}  # fields whose names are data


def documented():
    """{command: set of field paths} from the tables behind the `<!-- fields: NAME -->` marks."""
    fields = {}
    for mark in re.finditer(r"<!-- fields: (\w+) -->\n((?:\|.*\n)+)", (ROOT / "docs/cli.md").read_text()):
        rows = re.findall(r"^\| `([^`]+)` \|", mark.group(2), re.MULTILINE)
        assert len(rows) == len(set(rows)), f"{mark.group(1)}: a field is listed twice"
        fields[mark.group(1)] = set(rows)
    return fields


def paths(value, maps, prefix=""):
    """(paths of all leaves, paths of empty lists and maps)"""
    leaves, empty = set(), set()
    if isinstance(value, dict):
        is_map = prefix.rstrip(".") in maps
        if not value:
            empty.add(prefix + "*" if is_map else prefix.rstrip("."))
        for key, item in value.items():
            more = paths(item, maps, prefix + ("*" if is_map else key) + ".")
            leaves |= more[0]
            empty |= more[1]
    elif isinstance(value, list):
        list_prefix = prefix.rstrip(".") + "[]."
        if not value:
            empty.add(list_prefix)
        for item in value:
            more = paths(item, maps, list_prefix)
            leaves |= more[0]
            empty |= more[1]
    else:
        leaves.add(prefix.rstrip("."))
    return leaves, empty


class DocumentedWorld(cli_world.World):
    def compare(self, name, *args, socket=True):
        output, _ = self.run(*args, "--json", socket=socket)
        real, empty = paths(json.loads(output), MAPS.get(name, []))
        listed = documented()[name]
        missing = sorted(real - listed)
        assert not missing, f"docs/cli.md does not list these fields of {name}: {missing}"
        gone = sorted(field for field in listed - real
                      if not any(field == e or field.startswith(e.rstrip("*")) for e in empty))
        assert not gone, f"`kvtier {name} --json` does not print these fields of docs/cli.md: {gone}"


def main():
    report = junit.Report("cli_docs")
    with tempfile.TemporaryDirectory(prefix="kvtier-cli-") as directory:
        world = DocumentedWorld(directory)
        source = world.directory / "file"
        source.write_bytes(os.urandom(700_001))
        try:
            def no_daemon():
                for args in (["status"], ["pools"], ["blocks"], ["put", str(source)], ["get", "x", "-o", "y"],
                             ["drain"]):
                    _, text = world.run(*args, rc=3)
                    assert world.socket in text, text

            def usage():
                for args in ([], ["nonsense"], ["put"], ["get", "x"], ["bench"], ["pools", "--bogus"],
                             ["put", str(source), "--chunk-bytes", "1"],
                             ["put", str(source), "--chunk-bytes", "7 apples"], ["drain", "--timeout", "-1"]):
                    world.run(*args, rc=2, socket=False)

            def help_is_there():
                for args in ([], ["status"], ["pools"], ["blocks"], ["put"], ["get"], ["drain"], ["bench"],
                             ["replay"], ["trace"], ["trace", "generate"], ["trace", "info"], ["bound"], ["bound", "verify"],
                             ["sim"], ["plan"], ["report"]):
                    assert "--help" in world.run(*args, "--help", socket=False)[0]
                for figure in ("rpc", "copy", "engine", "index"):
                    assert "Ceiling:" in world.run("bench", figure, "--help", socket=False)[0]

            def get_is_put():
                for data, chunk in ((source.read_bytes(), "4KiB"), (b"", "256KiB"), (b"x" * 4096, "4096")):
                    world.run("put", "-", "--name", "n", "--chunk-bytes", chunk, "--replace", stdin=data)
                    target = world.directory / "got"
                    world.run("get", "n", "-o", str(target))
                    assert target.read_bytes() == data, "other bytes came back"
                    target.unlink()

            def names_are_taken():
                world.run("put", str(source), "--name", "taken")
                _, text = world.run("put", str(source), "--name", "taken", rc=1)
                assert "--replace" in text, text

            def nothing_half_written():
                world.run("get", "never put", "-o", str(world.directory / "none"), rc=1)
                world.run("put", str(world.directory / "no such file"), rc=1)
                # More than the pools hold: refused, and nothing of it stays.
                small = ["--set-budget", "hbm:0=64MiB", "--set-budget", "dram:0=64MiB"]
                world.run("pools", *small)
                _, text = world.run("put", "-", "--name", "big", stdin=b"b" * (200 << 20), rc=1)
                assert "room" in text, text
                world.run("get", "big", "-o", str(world.directory / "none"), rc=1)
                assert not list(world.directory.glob("none*")), "a failed get left a file"
                world.run("put", str(source), "--name", "small again")

            def progress():
                _, text = world.run("put", str(source), "--replace", "--progress")
                assert "100 %" in text, text

            def refused():
                _, text = world.run("put", str(source), rc=1)
                assert "draining" in text, text

            def bounds():
                attention, requests = str(world.directory / "steps.kvattn"), str(world.directory / "requests.jsonl")
                certificate = str(world.directory / "certificate")
                world.run("trace", "generate", "--kind", "attention", "--steps", "3", "--prompt-tokens", "640", "-o",
                          attention, socket=False)
                world.run("trace", "generate", "--kind", "chat", "--requests", "20", "-o", requests, socket=False)
                world.compare("trace_attention", "trace", "info", attention, socket=False)
                world.compare("trace_requests", "trace", "info", requests, socket=False)
                problem = ["--machine", "gh200", "--model", "llama-3.1-8b", "--trace", attention]
                world.compare("bound", "bound", *problem, "--certificate", certificate, socket=False)
                world.compare("verify", "bound", "verify", certificate, *problem, socket=False)
                world.compare("sim", "sim", *problem, "--policy", "lru,min", "--set", "compute=1PFLOP/s", socket=False)
                world.compare("plan", "plan", "--machine", "gh200", "--model", "llama-3.1-8b", "--trace", requests, "--vary",
                              "dram=4GiB,8GiB", "--time-limit", "2s", socket=False)

            report.run("fields of traces and bounds, without a daemon", bounds)
            report.run("without a daemon: exit code 3 and the socket's name", no_daemon)
            report.run("wrong usage: exit code 2", usage)
            report.run("every command has help, every figure its ceiling", help_is_there)
            if report.run("a daemon starts", world.start):
                report.run("get gives what put took", get_is_put)
                report.run("a name that is taken", names_are_taken)
                report.run("progress", progress)
                report.run("fields of status", world.compare, "status", "status")
                report.run("fields of pools", world.compare, "pools", "pools", "--set-budget", "dram:0=512MiB")
                report.run("fields of put", world.compare, "put", "put", str(source), "--replace")
                report.run("fields of blocks", world.compare, "blocks", "blocks")
                report.run("fields of get", world.compare, "get", "get", "file", "-o", str(world.directory / "out"))
                for figure in ("rpc", "copy", "engine", "index"):
                    report.run(f"fields of bench {figure}", world.compare, "bench", "bench", figure, "--quick")
                trace = str(world.directory / "trace.jsonl")
                world.run("trace", "generate", "--kind", "chat", "--requests", "20", "-o", trace, socket=False)
                report.run("fields of replay", world.compare, "replay", "replay", "--trace", trace, "--speed", "max")
                report.run("what fails leaves nothing", nothing_half_written)
                report.run("fields of drain", world.compare, "drain", "drain")
                report.run("a drained daemon refuses", refused)
        finally:
            world.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
