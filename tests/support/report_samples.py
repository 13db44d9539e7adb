"""Results as `kvtier bound`, `kvtier sim` and `kvtier plan` print them, with random numbers: they measure nothing."""

import copy
import random

TEXTS = ("trace", "machine", "model", "overrides", "mode", "phase", "best_feasible_from", "name")
_POLICIES = ("lru", "lfu", "min")
_LINKS = ("compute", "hbm", "dram", "dram.pcie.to_gpu")
_TIERS = ("hbm", "dram")


def _head(rng):
    return {"trace": "conversation.jsonl", "machine": "h100", "model": "llama", "overrides": "", "inclusive": False,
            "mode": "in_place", "phase": "request", "requests": 100, "sessions": 1, "block_tokens": 512, "staging_bytes": 1 << 30,
            "gpu_memory_bytes": 80 << 30, "seed": 0,
            "tiers": [{"name": tier, "capacity_bytes": (place + 1) << 36} for place, tier in enumerate(_TIERS)],
            "phases": rng.randrange(1, 20000), "accesses": rng.randrange(1, 1 << 40)}


def _policy(rng, knows_future):
    return {"knows_future": knows_future, "time_s": rng.uniform(100, 200), "hit_rate": rng.random(), "hit_rate_last_half": rng.random(),
            "hit_rate_by_tier": {tier: rng.random() for tier in _TIERS},
            "bytes_by_link": {link: rng.randrange(1 << 45) for link in _LINKS}, "stall_s": rng.uniform(0, 0.01)}


def _outcome(rng):
    bound = rng.uniform(50, 90)
    feasible = bound * rng.uniform(1, 1.1)
    return {**_head(rng), "lower_bound_s": bound, "best_feasible_s": feasible, "gap": feasible / bound - 1,
            "roofline_s": bound * rng.random(), "uncached_s": 12.5 * bound, "blocks": rng.randrange(1, 1 << 40), "seconds": rng.uniform(1e-4, 7200),
            "peak_bytes": rng.randrange(1 << 36), "best_feasible_from": "gibbs",
            "best_feasible_simulated": False,
            "links": {link: {"units": rng.randrange(1 << 50), "units_per_second": rng.randrange(1, 1 << 45),
                             "binding": rng.random()} for link in _LINKS},
            "room": {tier: {"binding": rng.random()} for tier in _TIERS},
            "policies": {name: _policy(rng, name == "min") for name in _POLICIES}}


def bound(seed, buckets=40):
    rng = random.Random(seed)
    fields = {"kind": "bound", **_outcome(rng)}
    fields["progress"] = [{"seconds": at + rng.random(), "lower_bound_s": rng.uniform(1, 50),
                           "best_feasible_s": rng.uniform(50, 90) if at > 1 else None} for at in range(buckets)]
    fields["series"] = {"phase": [at * 7 for at in range(buckets)],
                        "share": {link: [rng.random() for _ in range(buckets)] for link in _LINKS},
                        "room_s_per_gib": {tier: [rng.uniform(0, 1e-3) for _ in range(buckets)] for tier in _TIERS},
                        "occupancy_bytes": {tier: [rng.randrange(1 << 36) for _ in range(buckets)] for tier in _TIERS}}
    return fields


def simulation(seed, buckets=40):
    rng = random.Random(seed)
    fields = {"kind": "sim", **_head(rng), "policies": {name: _policy(rng, name == "min") for name in _POLICIES}}
    fields.update(settle=False, segment_bytes=1 << 20)
    for policy in fields["policies"].values():
        policy["seconds"] = rng.random()
        policy["hits_by_plane"] = [rng.randrange(1000) for _ in range(4)]
        policy["steps"] = [{"phases": 7, "time_s": rng.random(), "stall_s": rng.random() / 10,
                            "accesses": 1000, "hits": rng.randrange(1000)} for _ in range(buckets)]
    return fields


def plan(seed):
    rng = random.Random(seed)
    sizes, loads = [1 << 36, 1 << 37, 1 << 40], [1, 2]
    points = [{"set": {"dram": size, "load": load}, "price": rng.uniform(100, 10000), **_outcome(rng)}
              for size in sizes for load in loads]
    return {"kind": "plan", **_head(rng), "vary": [{"name": "dram", "values": sizes}, {"name": "load", "values": loads}],
            "points": points, "target_s": rng.uniform(50, 90), "cheapest": rng.randrange(len(points)),
            "cheapest_possible": rng.choice([None, *range(len(points))])}


def paths(value, prefix=()):
    """Of every field and list item, as the keys that lead to it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*prefix, key)
        yield from paths(item, (*prefix, key))


def without(fields, path):
    fields = copy.deepcopy(fields)
    holder = fields
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return fields


def replaced(fields, path, value):
    fields = copy.deepcopy(fields)
    holder = fields
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return fields


def renamed(value, rename, names_are_data=False):
    """With every text and every name that is data changed by rename()."""
    data = ("policies", "links", "room", "hit_rate_by_tier", "bytes_by_link", "share", "room_s_per_gib", "occupancy_bytes", "set")
    if isinstance(value, dict):
        return {rename(key) if names_are_data else key: renamed(item, rename, not names_are_data and key in data)
                if key != "kind" else item for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, rename) for item in value]
    return rename(value) if isinstance(value, str) else value
