"""Proves that a soak cannot end with `soak: ok` when something grew, was left or did not happen: a good run is accepted,
and each way of spoiling it, alone, is named.
"""

import copy
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "tests", "support"), os.path.join(ROOT, "scripts")]
import junit  # noqa: E402
import soak_growth  # noqa: E402

MIB = 1 << 20


def sample(i):
    """Of a daemon that warms up and then goes up and down."""
    return {"sessions": 4, "leases": i % 3, "reservations": 0, "open_files": 30 + i % 5, "threads": 20 + i % 3,
            "anonymous_bytes": (20 + min(i, 10)) * MIB + i % 7 * 1000, "resident_bytes": (100 + min(i, 15)) * MIB,
            "retired_bytes": i % 4 * 4096}


def good():
    idle = {**sample(0), "sessions": 0, "leases": 0, "retired_bytes": 0, "open_files": 15}
    return {"samples": [sample(i) for i in range(60)], "idle_before": dict(idle), "idle_after": dict(idle),
            "report": {"corrupt": 0, "damaged": 0, "unplayed": 0, "failures": [], "kills": 9, "verified": 5, "stored": 3}}


def problems(spoil=lambda run: None):
    run = copy.deepcopy(good())
    spoil(run)
    return soak_growth.problems(**run)


def grow(name, by):
    def spoil(run):
        for i, one in enumerate(run["samples"]):
            one[name] += i * by
    return spoil


def put(part, name, value):
    def spoil(run):
        run[part][name] = value
    return spoil


SPOILED = {
    "memory": (grow("anonymous_bytes", MIB // 3), "memory of its own grew"),
    "memory with pools": (grow("resident_bytes", MIB // 2), "memory with pools grew"),
    "files": (grow("open_files", 1), "files but segments grew"),
    "threads": (grow("threads", 1), "threads grew"),
    "retired bytes": (grow("retired_bytes", MIB // 10), "retired bytes grew"),
    "few samples": (lambda run: run["samples"].__delitem__(slice(8, None)), "only 8 samples"),
    "a session": (put("idle_after", "sessions", 1), "1 sessions were left"),
    "a lease": (put("idle_after", "leases", 2), "2 leases were left"),
    "a reservation": (put("idle_after", "reservations", 3), "3 reservations were left"),
    "quarantine": (put("idle_after", "retired_bytes", 4096), "4096 retired bytes were left"),
    "files of clients": (put("idle_after", "open_files", 24), "24 files but segments are open"),
    "wrong bytes": (put("report", "corrupt", 1), "counted 1 corrupt"),
    "damaged bytes": (put("report", "damaged", 2), "counted 2 damaged"),
    "no worker left": (put("report", "unplayed", 2), "counted 2 unplayed"),
    "a crash": (put("report", "failures", [{"pid": 1}]), "workers died by themselves"),
    "nobody killed": (put("report", "kills", 0), "no kills"),
    "nothing read": (put("report", "verified", 0), "no verified"),
    "nothing stored": (put("report", "stored", 0), "no stored"),
    "no report": (lambda run: run.__setitem__("report", None), "the replay failed"),
}


def main():
    report = junit.Report("soak_growth")

    def accepted():
        assert problems() == [], problems()

    def named(spoil, wanted):
        found = problems(spoil)
        assert len(found) == 1 and wanted in found[0], found

    report.run("a good run", accepted)
    for name, (spoil, wanted) in SPOILED.items():
        report.run(name, named, spoil, wanted)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
