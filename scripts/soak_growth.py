"""What a soak requires of the figures it took: nothing grows while the load stays the same, and nothing is left when it ends.

Growth is that of the median of the last third of the samples over the one of the middle third: a third of the time lies
between, in which 30 minutes with the default options kill some 300 clients. What each of them leaves behind counts 300 times.
"""

import statistics

MIB = 1 << 20
# What is watched: name in a sample, title, and what it may differ by. Workers that are killed, stopped and started again
# make the numbers go up and down; memory is given back to the system late, if at all, so None is --memory-mib. Open sections,
# clients over the limit and retired bytes are not here: a client that is stopped inside a section raises them for as long as
# it stands still, whenever that is. Those of clients that are gone are found when no client is left.
WATCHED = [
    ("anonymous_bytes", "memory of its own", None),
    ("resident_bytes", "memory with pools", None),
    ("open_files", "files but segments", 8),
    ("shared_mappings", "shared mappings but segments", 4),
    ("threads", "threads", 8),
    ("sessions", "sessions", 4),
    ("shared_clients", "clients of shared memory", 4),
]
# What stands above as None, unless somebody knows better: a run of seconds ends before the allocator's caches are full.
MEMORY_MORE_BYTES_MAX = 4 * MIB
# 0 in the sample after the load.
GONE_WHEN_IDLE = ("sessions", "leases", "reservations", "retired_bytes", "shared_clients", "shared_sections",
                  "shared_clients_over_limit")
# Left after the load, beside what was there before it.
IDLE_MORE_MAX = {"open_files": 8, "shared_mappings": 0}
SAMPLES_MIN = 9
# Reads that came by stream although memory is shared: of chunks that are not in the index, or whose client had no room for
# another mapping.
STREAM_SHARE_MAX = 0.01


def growth(samples, memory_more_bytes_max=MEMORY_MORE_BYTES_MAX):
    """[(title, before, after, allowed, ok)]"""
    third = len(samples) // 3
    rows = []
    for name, title, more in WATCHED:
        before = statistics.median(sample[name] for sample in samples[third:2 * third])
        after = statistics.median(sample[name] for sample in samples[-third:])
        allowed = before + (memory_more_bytes_max if more is None else more)
        rows.append((title, before, after, allowed, after <= allowed))
    return rows


def problems(samples, idle_before, idle_after, report, memory_more_bytes_max=MEMORY_MORE_BYTES_MAX):
    """Sentences; none: the soak was good. `idle_...` are samples without load, `report` is the sum of the replays'."""
    found = []
    if len(samples) < SAMPLES_MIN:
        found.append(f"only {len(samples)} samples were taken; {SAMPLES_MIN} are needed to see growth")
    else:
        found += [f"{title} grew from {before:.0f} to {after:.0f}; up to {allowed:.0f} is allowed"
                  for title, before, after, allowed, ok in growth(samples, memory_more_bytes_max) if not ok]
    found += [f"{idle_after[name]} {name.replace('_', ' ')} were left after the load" for name in GONE_WHEN_IDLE if idle_after[name] != 0]
    found += [f"{idle_after[name]} {name.replace('_', ' ')} but segments are there after the load, {idle_before[name]} were before; "
              f"{more} more are allowed" for name, more in IDLE_MORE_MAX.items() if idle_after[name] > idle_before[name] + more]
    found += [f"the replays counted {report[name]} {name}" for name in ("corrupt", "damaged", "unplayed") if report[name] != 0]
    if report["failures"]:
        found.append(f"workers died by themselves: {report['failures'][:3]}")
    by_stream, by_memory = report["transport"]["stream"], report["transport"]["shared_memory"]
    if by_stream > STREAM_SHARE_MAX * (by_stream + by_memory):
        found.append(f"{by_stream} blocks were read by stream, {by_memory} by shared memory, which is what this is about")
    found += [f"there were no {name.replace('_', ' ')}: it proves nothing"
              for name in ("kills", "group_kills", "stops", "verified", "stored") if report[name] == 0]
    return found
