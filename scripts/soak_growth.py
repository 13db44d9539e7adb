"""What a soak requires of the figures it took: nothing grows while the load stays the same, and nothing is left when it ends."""

import statistics

MIB = 1 << 20
# What is watched: name in a sample, title, what it may differ by, and a share of it. Workers that are killed and start
# again make descriptors and retired bytes go up and down; memory is given back to the system late, if at all.
WATCHED = [
    ("anonymous_bytes", "memory of its own", None, 0.05),
    ("resident_bytes", "memory with pools", None, 0.05),
    ("open_files", "files but segments", 8, 0.0),
    ("threads", "threads", 8, 0.0),
    ("retired_bytes", "retired bytes", MIB, 0.05),
]
# What stands above as None, unless somebody knows better: a run of seconds ends before the allocator's caches are full.
MEMORY_MORE_BYTES_MAX = 4 * MIB
# Left after the load, beside what was there before it.
IDLE_OPEN_FILES_MORE_MAX = 8
SAMPLES_MIN = 9


def growth(samples, memory_more_bytes_max=MEMORY_MORE_BYTES_MAX):
    """[(title, before, after, allowed, ok)]: the median of the middle third of the samples against that of the last."""
    third = len(samples) // 3
    rows = []
    for name, title, absolute, share in WATCHED:
        before = statistics.median(sample[name] for sample in samples[third:2 * third])
        after = statistics.median(sample[name] for sample in samples[-third:])
        allowed = before + max(memory_more_bytes_max if absolute is None else absolute, share * before)
        rows.append((title, before, after, allowed, after <= allowed))
    return rows


def problems(samples, idle_before, idle_after, report, memory_more_bytes_max=MEMORY_MORE_BYTES_MAX):
    """Sentences; none: the soak was good. `idle_...` are samples without load, `report` is the replay's, or None."""
    found = []
    if len(samples) < SAMPLES_MIN:
        found.append(f"only {len(samples)} samples were taken; {SAMPLES_MIN} are needed to see growth")
    else:
        found += [f"{title} grew from {before:.0f} to {after:.0f}; up to {allowed:.0f} is allowed"
                  for title, before, after, allowed, ok in growth(samples, memory_more_bytes_max) if not ok]
    for name in ("sessions", "leases", "reservations", "retired_bytes"):
        if idle_after[name] != 0:
            found.append(f"{idle_after[name]} {name.replace('_', ' ')} were left after the load")
    if idle_after["open_files"] > idle_before["open_files"] + IDLE_OPEN_FILES_MORE_MAX:
        found.append(f"{idle_after['open_files']} files but segments are open after the load, {idle_before['open_files']} were before; "
                     f"{IDLE_OPEN_FILES_MORE_MAX} more are allowed")
    if report is None:
        found.append("the replay failed")
        return found
    for name in ("corrupt", "damaged", "unplayed"):
        if report[name] != 0:
            found.append(f"the replay counted {report[name]} {name}")
    if report["failures"]:
        found.append(f"workers died by themselves: {report['failures'][:3]}")
    found += [f"the replay had no {name}: it proves nothing" for name in ("kills", "verified", "stored") if report[name] == 0]
    return found
