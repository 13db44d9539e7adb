"""Inputs of the fuzz target for placement problems and their certificates: make_corpus.py writes them."""

import hashlib
import struct

FREE = (0, 0, 0)  # loads of the two memories, recomputations
READ_FAST, READ_SLOW, BOTH = (1, 0, 0), (0, 1, 0), (1, 1, 0)


def instance(phases=4, rates=(8, 2), capacity=(3, 9), lists=None, blocks=((0, 4, (0, 2, 3)), (1, 3, (1,))),
             compute=255, states=(1, 2), tail=b"", base=1, size=3):
    """Two memories; lists[accesses][before][after] are options; blocks are (birth, death, accesses)."""
    lists = lists or [[[[FREE], [BOTH]], [[BOTH], [FREE]]], [[[READ_FAST], [BOTH]], [[BOTH], [READ_SLOW]]]]
    out = b"KVTIERPI" + struct.pack("<7I", 1, 2, len(rates), compute, 1, 1, phases)
    out += struct.pack("<QQ", len(blocks), sum(len(read) for _, _, read in blocks))
    for name, number in zip((b"hbm", b"dram"), capacity):
        out += struct.pack("<QI", number, len(name)) + name
    for name, number in zip((b"f", b"s"), rates):
        out += struct.pack("<QI", number, len(name)) + name
    out += struct.pack("<II", len(states), len(lists) - 1) + bytes(states)
    for before in (row for table in lists for row in table):
        for options in before:
            out += struct.pack("<I", len(options))
            for *loads, recomputations in options:
                out += struct.pack(f"<{len(rates) + 1}H", *loads[:len(rates)], recomputations)
    out += struct.pack("<QQII", size, 5, 0, (1 << len(states)) - 1)
    out += struct.pack("<Q", base) * (phases * len(rates))
    out += b"".join(struct.pack("<I", 0) for _ in blocks)
    out += b"".join(struct.pack("<I", birth) for birth, _, _ in blocks)
    out += b"".join(struct.pack("<I", death) for _, death, _ in blocks)
    first = 0
    for _, _, read in blocks:
        out += struct.pack("<Q", first)
        first += len(read)
    out += struct.pack("<Q", first)
    out += b"".join(struct.pack("<I", phase) for _, _, read in blocks for phase in read)
    return out + tail


def certificate(problem, phases=4, share=(1 << 39, 1 << 39), room=(1 << 20, 0), per_second=1 << 40, claim=0):
    out = b"KVTIERCB" + struct.pack("<I", 1) + hashlib.sha256(problem).digest()
    out += struct.pack("<QIII", per_second, phases, len(share), len(room))
    out += struct.pack("<Qq", claim & (1 << 64) - 1, claim >> 64)
    out += struct.pack(f"<{len(share)}Q", *share) * phases + struct.pack(f"<{len(room)}Q", *room) * phases
    return out + hashlib.sha256(out).digest()


def both(problem, proof=b""):
    return struct.pack("<I", len(problem)) + problem + proof


def bounds():
    plain = instance()
    yield "plain", both(plain, certificate(plain))
    yield "claims-too-much", both(plain, certificate(plain, claim=1 << 90))
    yield "claims-below-zero", both(plain, certificate(plain, claim=-5))
    yield "shares-above-one", both(plain, certificate(plain, share=(1 << 40, 1)))
    yield "room-dear", both(plain, certificate(plain, room=(1 << 60, 1 << 60)))
    yield "no-quanta", both(plain, certificate(plain, per_second=0))
    yield "finest-quanta", both(plain, certificate(plain, per_second=1 << 54))
    yield "other-phases", both(plain, certificate(plain, phases=3))
    yield "another-instance", both(plain, certificate(instance(base=2)))
    yield "cut-certificate", both(plain, certificate(plain)[:-7])
    two = [[[[FREE, (0, 0, 1)]]], [[[READ_FAST, READ_SLOW, (0, 0, 1)]]], [[[(1, 1, 0), (2, 0, 0)]]]]
    flexible = instance(lists=two, states=(3,), blocks=((0, 4, (0, 2, 2)), (3, 4, ())), compute=1)
    yield "several-options", both(flexible, certificate(flexible))
    large = instance(size=1 << 59, rates=(1, 1), base=1 << 62)
    yield "large-numbers", both(large, certificate(large, per_second=1))
    yield "large-numbers-fine-quanta", both(large, certificate(large, per_second=1 << 54))
    yield "no-blocks", both(instance(blocks=()))
    bad = {"tail": instance(tail=b"x"), "rate-zero": instance(rates=(8, 0)), "read-late": instance(blocks=((0, 2, (3,)),)),
           "order": instance(blocks=((0, 4, (3, 1)),)), "born-late": instance(blocks=((4, 4, ()),)), "state": instance(states=(1, 8)),
           "no-way": instance(lists=[[[[], []], [[], []]]] * 2), "no-compute": instance(lists=two, states=(3,)),
           "twice": instance(lists=[[[[FREE, FREE]]]], states=(3,), blocks=((0, 4, ()),)), "bytes-zero": instance(size=0),
           "cut": plain[:77], "version": plain[:8] + b"\2" + plain[9:], "kind": b"X" + plain[1:],
           "counts": plain[:28] + b"\xff" * 24 + plain[52:]}
    for name, problem in bad.items():
        yield "bad-" + name, both(problem)
