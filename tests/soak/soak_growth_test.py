"""Proves that a soak cannot end with `soak: ok` when something grew, was left or did not happen: a good run is accepted, one
in which a client stood still inside a section as well, and each way of spoiling it, alone, is named. What a client that is killed would leave behind in the daemon is seen within 30
minutes at the rate of kills that scripts/soak has: 64 KiB of any memory, and, at a tenth of that rate as well, a descriptor or
a shared mapping, used or not.
"""

import copy
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "tests", "support"), os.path.join(ROOT, "scripts")]
import junit  # noqa: E402
import soak_growth  # noqa: E402

MIB = 1 << 20
SAMPLES = 60
# In 30 minutes: two groups, of each a worker every 4 s.
KILLS = 900
NOISE = random.Random(1)


def sample(i):
    """Of a daemon that warms up and then goes up and down, its clients killed, stopped and started again."""
    clients = NOISE.randint(2, 5)
    return {"sessions": clients, "leases": i % 3, "reservations": 0, "open_files": 40 + 4 * clients + NOISE.randint(0, 3),
            "shared_mappings": 1 + clients, "threads": 20 + NOISE.randint(0, 6), "shared_clients": clients,
            "shared_sections": NOISE.randint(0, 2), "shared_clients_over_limit": NOISE.randint(0, 1),
            "anonymous_bytes": (20 + min(i, 10)) * MIB + NOISE.randint(0, MIB),
            "resident_bytes": (100 + min(i, 15)) * MIB + NOISE.randint(0, 2 * MIB), "retired_bytes": NOISE.randint(0, 4) * 65536}


def good():
    idle = dict.fromkeys(sample(0), 0) | {"open_files": 15, "shared_mappings": 1}
    report = dict.fromkeys(("corrupt", "damaged", "unplayed"), 0) | {
        "failures": [], "kills": 9, "group_kills": 4, "stops": 8, "verified": 5, "stored": 3,
        "transport": {"shared_memory": 1000, "stream": 10}}
    return {"samples": [sample(i) for i in range(SAMPLES)], "idle_before": dict(idle), "idle_after": dict(idle), "report": report}


GOOD = good()


def problems(spoil=lambda run: None):
    run = copy.deepcopy(GOOD)
    spoil(run)
    return soak_growth.problems(**run)


def grow(by, of=SAMPLES):
    """Every figure named grows by so much, `of` times over the run."""
    def spoil(run):
        for i, one in enumerate(run["samples"]):
            for name, more in by.items():
                one[name] += i * of // SAMPLES * more
    return spoil


def put(part, name, value):
    def spoil(run):
        run[part][name] = value
    return spoil


SPOILED = {
    "memory": (grow({"anonymous_bytes": MIB // 3}), ["memory of its own grew"]),
    "memory with pools": (grow({"resident_bytes": MIB // 2}), ["memory with pools grew"]),
    "threads": (grow({"threads": 1}), ["threads grew"]),
    "sessions": (grow({"sessions": 1}), ["sessions grew"]),
    "clients": (grow({"shared_clients": 1}), ["clients of shared memory grew"]),
    "a file a kill": (grow({"open_files": 1}, KILLS), ["files but segments grew"]),
    "a file every tenth kill": (grow({"open_files": 1}, KILLS // 10), ["files but segments grew"]),
    "64 KiB a kill": (grow({"shared_mappings": 1, "resident_bytes": 65536}, KILLS),
                      ["memory with pools grew", "shared mappings but segments grew"]),
    "64 KiB of its own a kill": (grow({"anonymous_bytes": 65536, "resident_bytes": 65536}, KILLS),
                                 ["memory of its own grew", "memory with pools grew"]),
    "64 KiB a kill, never touched": (grow({"shared_mappings": 1}, KILLS), ["shared mappings but segments grew"]),
    "64 KiB every tenth kill, one page of it touched": (grow({"shared_mappings": 1, "resident_bytes": 4096}, KILLS // 10),
                                                        ["shared mappings but segments grew"]),
    "few samples": (lambda run: run["samples"].__delitem__(slice(8, None)), ["only 8 samples"]),
    "a session": (put("idle_after", "sessions", 1), ["1 sessions were left"]),
    "a lease": (put("idle_after", "leases", 2), ["2 leases were left"]),
    "a reservation": (put("idle_after", "reservations", 3), ["3 reservations were left"]),
    "quarantine": (put("idle_after", "retired_bytes", 4096), ["4096 retired bytes were left"]),
    "a client": (put("idle_after", "shared_clients", 1), ["1 shared clients were left"]),
    "a section": (put("idle_after", "shared_sections", 1), ["1 shared sections were left"]),
    "a client over the limit": (put("idle_after", "shared_clients_over_limit", 1), ["1 shared clients over limit were left"]),
    "files of clients": (put("idle_after", "open_files", 24), ["24 open files but segments are there"]),
    "a page of a client": (put("idle_after", "shared_mappings", 2), ["2 shared mappings but segments are there"]),
    "wrong bytes": (put("report", "corrupt", 1), ["counted 1 corrupt"]),
    "damaged bytes": (put("report", "damaged", 2), ["counted 2 damaged"]),
    "no worker left": (put("report", "unplayed", 2), ["counted 2 unplayed"]),
    "a crash": (put("report", "failures", [{"pid": 1}]), ["workers died by themselves"]),
    "another way in": (put("report", "transport", {"shared_memory": 1000, "stream": 11}), ["11 blocks were read by stream"]),
    "streams only": (put("report", "transport", {"shared_memory": 0, "stream": 5}), ["5 blocks were read by stream, 0 by"]),
    "nobody killed": (put("report", "kills", 0), ["no kills"]),
    "no group killed": (put("report", "group_kills", 0), ["no group kills"]),
    "nobody stopped": (put("report", "stops", 0), ["no stops"]),
    "nothing read": (put("report", "verified", 0), ["no verified"]),
    "nothing stored": (put("report", "stored", 0), ["no stored"]),
}


def main():
    report = junit.Report("soak_growth")

    def accepted():
        assert problems() == [], problems()

    def accepted_with_a_stopped_client():
        def spoil(run):
            for one in run["samples"][2 * SAMPLES // 3:]:
                one["retired_bytes"] += 68 * MIB
                one["shared_sections"] += 20
                one["shared_clients_over_limit"] += 3

        assert problems(spoil) == [], problems(spoil)

    def named(spoil, wanted):
        found = problems(spoil)
        assert len(found) == len(wanted) and all(text in line for text, line in zip(wanted, found)), found

    report.run("a good run", accepted)
    report.run("a client stopped inside a section for a third of the run", accepted_with_a_stopped_client)
    for name, (spoil, wanted) in SPOILED.items():
        report.run(name, named, spoil, wanted)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
