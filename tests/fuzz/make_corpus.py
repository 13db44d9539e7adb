"""Writes the corpora of the fuzz targets: small inputs that reach each part, and known bad ones.

Deterministic. Files that are there and not written here (what a fuzzer found) stay.
"""

import argparse
import json
import pathlib
import random
import struct

from bound_corpus import bounds

HERE = pathlib.Path(__file__).resolve().parent


# --- protobuf, as much as is needed ---

def varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def fixed64(field, value):
    return varint(field << 3 | 1) + struct.pack("<Q", value)


(ATTACH, HEARTBEAT, DETACH, REGISTER, RESERVE, STORE, COMMIT, ABORT, LOOKUP, RENEW, RELEASE, FETCH, REPORT,
 PREFETCH, FORGET, WATCH, TIME) = range(17)


def record(method, message=b""):
    return struct.pack("<BH", method, len(message)) + message


def plane(name, size, kind=1, required=1, window=0, rank=-1, layer=0):
    message = data(1, name) + number(2, layer) + number(3, kind) + number(4, rank) + number(5, size)
    message += number(6, required)
    return data(7, message + (number(7, window) if window else b""))


def model(planes, name="m", chunk_tokens=4):
    message = data(1, name) + data(2, "1") + data(3, "fp32") + data(4, "v1") + number(6, chunk_tokens)
    return record(REGISTER, data(2, message + b"".join(planes)))


def reserve(parent=b"", chunks=1, planes=()):
    message = (data(3, parent) if parent else b"") + number(4, chunks)
    return record(RESERVE, message + b"".join(number(5, p) for p in planes))


def store(plane_number, size, chunk=0, offset=0):
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    return record(STORE, number(3, chunk) + number(4, plane_number) + number(5, offset) + data(6, content))


def commit_chunk(name, chunk=0, tokens=4, planes=(), checksums=()):
    message = number(1, chunk) + data(2, name) + number(3, tokens)
    message += b"".join(number(4, p) for p in planes) + b"".join(fixed64(5, c) for c in checksums)
    return data(3, message)


def key_name(key):
    return data(1, key)


def token_name(tokens, parent=b"", extra=b""):
    message = (data(1, parent) if parent else b"") + b"".join(number(2, t) for t in tokens)
    return data(2, message + (data(3, extra) if extra else b""))


def opaque_name(engine_key, parent=b""):
    return data(3, (data(1, parent) if parent else b"") + data(2, engine_key))


def key(i):
    return bytes([i]) * 16


PLANES = [plane("k", 512), plane("v", 256, layer=1)]
BEGIN = record(ATTACH, data(1, number(1, 1)) + data(2, "worker") + number(3, 1234)) + model(PLANES)


def put(i, parent=b"", tokens=4):
    return (reserve(parent) + store(0, 512) + store(1, 256)
            + record(COMMIT, commit_chunk(key_name(key(i)), tokens=tokens)))


def lookup(*keys, lease=1, ttl=0):
    return record(LOOKUP, data(3, b"".join(keys)) + number(5, lease) + (number(6, ttl) if ttl else b""))


def requests():
    chain = put(1) + put(2, key(1)) + put(3, key(2))
    found = lookup(key(1), key(2), key(3))
    yield "life", (BEGIN + chain + found + record(FETCH) + record(RENEW, number(3, 5000))
                   + record(REPORT, data(3, number(1, 0) + number(2, 3) + data(3, b"\xff\x80\x01")))
                   + record(PREFETCH, data(3, key(1) + key(2))) + record(RELEASE, number(2, 0))
                   + record(WATCH, number(2, 1) + number(4, 1)) + record(FORGET, data(3, key(2)))
                   + lookup(key(1), key(2), key(3)) + record(HEARTBEAT) + record(DETACH))
    yield "names", (BEGIN + reserve() + store(0, 512) + store(1, 256)
                    + record(COMMIT, commit_chunk(token_name([1, 2, 3, 4])))
                    + reserve(chunks=2) + record(COMMIT, commit_chunk(opaque_name(b"block-7"))
                                                 + commit_chunk(opaque_name(b"block-8"), chunk=1))
                    + record(LOOKUP, data(4, token_name([1, 2, 3, 4])) + number(5, 1)) + record(FETCH)
                    + record(LOOKUP, data(4, opaque_name(b"block-7")) + data(4, opaque_name(b"block-8"))))
    yield "partial-commit", (BEGIN + reserve(planes=[0]) + record(COMMIT, commit_chunk(key_name(key(1)), planes=[0]))
                             + lookup(key(1)) + reserve(planes=[1])
                             + record(COMMIT, commit_chunk(key_name(key(1)))) + lookup(key(1)) + record(FETCH))
    yield "exists", BEGIN + put(1) + put(1) + lookup(key(1))
    yield "tail", BEGIN + put(1) + put(2, key(1), tokens=2) + reserve(key(2)) + lookup(key(1), key(2))
    yield "eviction", BEGIN + b"".join(put(i) for i in range(1, 60)) + lookup(key(1))
    yield "time", (BEGIN + put(1) + lookup(key(1), ttl=100) + record(TIME, b"x" * 20) + record(FETCH)
                   + record(TIME, b"x" * 200) + record(HEARTBEAT) + record(TIME, b"x" * 300))
    yield "kinds", (BEGIN + model([plane("a", 300), plane("w", 300, kind=2, window=7, required=0),
                                   plane("s", 300, kind=3, required=0), plane("i", 64, kind=4, required=0)], "hybrid")
                    + record(RESERVE, number(2, 1) + number(4, 1))
                    + record(COMMIT, commit_chunk(key_name(key(9))))
                    + record(LOOKUP, number(2, 1) + data(3, key(9)) + number(5, 1)) + record(FETCH))
    # Known bad ones: each must be refused by name.
    yield "bad-empty-records", b"".join(record(method) for method in range(17))
    yield "bad-not-protobuf", b"".join(record(method, b"\xff\xff\xff\xff\x07") for method in range(16))
    yield "bad-cut-short", (BEGIN + put(1))[:-9]
    yield "bad-length", BEGIN + struct.pack("<BH", RESERVE, 65535) + b"\x08"
    yield "bad-version", record(ATTACH, data(1, number(1, 9))) + record(ATTACH, data(2, "n" * 200))
    yield "bad-sessions", BEGIN + record(HEARTBEAT, number(1, 77)) + record(DETACH, number(1, 1 << 63))
    yield "bad-many-sessions", record(ATTACH) * 12
    yield "bad-models", BEGIN + b"".join([
        model([]), model(PLANES, name=""), model(PLANES, chunk_tokens=0), model(PLANES, chunk_tokens=1 << 31),
        model([plane("p", 0)]), model([plane("p", 1 << 63)]), model([plane("p", 70000)]),
        model([plane("p", 64), plane("p", 64)]), model([plane("p", 64, kind=9)]), model([plane("p", 64, rank=-7)]),
        model([plane("p", 64, kind=2)]), model([plane("p", 64, required=0)]),
        model([plane(f"p{i}", 64) for i in range(20)]), model([plane("p" * 300, 64)])])
    yield "bad-reserve", BEGIN + b"".join([
        reserve(chunks=0), reserve(chunks=1 << 31), reserve(b"short"), reserve(key(7)), reserve(planes=[2]),
        reserve(planes=[0, 0]), reserve(planes=[1 << 20]), reserve(planes=range(64)), reserve(chunks=100),
        record(RESERVE, number(2, 1 << 31) + number(4, 1)),
        record(RESERVE, number(4, 1) + data(6, number(1, 9))), record(RESERVE, number(4, 1) + data(6, number(3, 1)))])
    yield "bad-store", BEGIN + reserve() + b"".join([
        store(0, 513), store(0, 1, offset=512), store(0, 1, offset=(1 << 64) - 1), store(0, 600, offset=(1 << 64) - 300),
        store(2, 1), store(1 << 16, 1), store(0, 1, chunk=1), record(STORE, number(2, 99)), store(0, 0, offset=512)])
    yield "bad-commit", BEGIN + reserve(chunks=2) + b"".join(record(COMMIT, m) for m in [
        commit_chunk(key_name(key(1)), chunk=1), commit_chunk(key_name(key(1)), chunk=9),
        commit_chunk(key_name(b"short")), commit_chunk(b""), commit_chunk(key_name(bytes(16))),
        commit_chunk(key_name(key(1)), tokens=0), commit_chunk(key_name(key(1)), tokens=5),
        commit_chunk(token_name([1, 2]), tokens=3), commit_chunk(token_name([1, 2, 3, 4], parent=key(8))),
        commit_chunk(key_name(key(1)), planes=[0]), commit_chunk(key_name(key(1)), planes=[7]),
        commit_chunk(key_name(key(1)), checksums=[1]), commit_chunk(key_name(key(1)), checksums=[1, 2]),
        commit_chunk(key_name(key(1)), checksums=[1, 2, 3]), commit_chunk(key_name(key(1))) * 120])
    yield "bad-lookup", BEGIN + put(1) + b"".join([
        lookup(b"short"), lookup(), lookup(*[key(1)] * 101), lookup(key(1), ttl=(1 << 64) - 1),
        record(LOOKUP, data(3, key(1)) + data(4, key_name(key(1)))), record(LOOKUP, data(4, b"")),
        record(LOOKUP, number(2, 5) + data(3, key(1)))])
    yield "bad-lease", BEGIN + put(1) + lookup(key(1)) + b"".join([
        record(FETCH, number(3, 1)), record(FETCH, number(4, (1 << 32) - 1)), record(FETCH, number(5, 9)),
        record(FETCH, number(5, 1 << 20)), record(FETCH, number(2, 12345)), record(RENEW, number(3, (1 << 64) - 1)),
        record(RENEW, number(2, 5)), record(REPORT, data(3, number(1, 9) + data(3, b"\1"))),
        record(REPORT, data(3, number(1, 0) + data(3, b"\1" * 9))), record(REPORT, data(3, b"") * 40),
        record(RELEASE, number(2, 5) * 101), record(RELEASE, number(2, 5))])
    yield "bad-hints", BEGIN + put(1) + b"".join([
        record(FORGET, data(3, b"x")), record(FORGET, number(2, 70000)), record(PREFETCH, data(3, b"y" * 17)),
        record(PREFETCH, data(3, key(1) * 101)), record(WATCH, number(2, 1 << 60) + number(4, 1)),
        record(WATCH, number(3, 9)), record(ABORT, number(2, 3))])


def safetensors():
    def file(header, payload=b""):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + payload

    def tensor(kind, shape, begin, end):
        return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}

    sizes = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
             "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}
    header, at = {}, 0
    for kind, size in sizes.items():
        header[kind.lower()] = tensor(kind, [2, 3], at, at + 6 * size)
        at += 6 * size
    yield "all-types", file(header, bytes(i * 7 % 256 for i in range(at)))
    yield "empty-header", file({})
    yield "metadata", file({"__metadata__": {"format": "pt"}, "a": tensor("F32", [1], 0, 4)}, b"\0\0\x80\x3f")
    yield "scalar", file({"a": tensor("F32", [], 0, 4)}, b"\0\0\x80\x3f")
    yield "no-elements", file({"a": tensor("F32", [0, 5], 0, 0), "b": tensor("BF16", [2], 0, 4)}, b"\0" * 4)
    yield "padded-header", file(b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}   ', b"ab")
    yield "f16-specials", file({"a": tensor("F16", [8], 0, 16)}, struct.pack("<8H", 0, 0x8000, 1, 0x3FF, 0x7BFF, 0x7C00, 0xFC00, 0x7E01))
    good = file({"a": tensor("F32", [2], 0, 8)}, b"\0" * 8)
    yield "bad-nothing", b""
    yield "bad-cut-length", good[:5]
    yield "bad-cut-header", good[:20]
    yield "bad-cut-data", good[:-1]
    yield "bad-data-too-long", good + b"x"
    yield "bad-header-length", struct.pack("<Q", (1 << 64) - 1) + b"{}"
    yield "bad-header-length-limit", struct.pack("<Q", (16 << 20) + 1) + b"{}"
    yield "bad-json", file(b"{{{{")
    yield "bad-json-deep", file(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")
    yield "bad-json-type", file(b"[1,2]")
    yield "bad-utf8", file(b'{"\xff\xfe":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"a")
    yield "bad-twice", file(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"a")
    yield "bad-type", file({"a": tensor("F128", [1], 0, 16)}, b"\0" * 16)
    yield "bad-shape-range", file({"a": tensor("F32", [3], 0, 8)}, b"\0" * 8)
    yield "bad-shape-overflow", file({"a": tensor("F32", [1 << 62, 1 << 62], 0, 8)}, b"\0" * 8)
    yield "bad-shape-zero-overflow", file({"a": tensor("F32", [0, (1 << 64) - 1, 9], 0, 0)})
    yield "bad-shape-negative", file({"a": tensor("F32", [-2], 0, 8)}, b"\0" * 8)
    yield "bad-shape-float", file({"a": tensor("F32", [2.0], 0, 8)}, b"\0" * 8)
    yield "bad-rank", file({"a": tensor("U8", [1] * 9, 0, 1)}, b"a")
    yield "bad-reversed", file({"a": tensor("F32", [2], 8, 0)}, b"\0" * 8)
    yield "bad-beyond", file({"a": tensor("F32", [2], 8, 16)}, b"\0" * 8)
    yield "bad-offset-huge", file({"a": tensor("F32", [2], (1 << 64) - 8, (1 << 64) - 1)}, b"\0" * 8)
    yield "bad-overlap", file({"a": tensor("F32", [2], 0, 8), "b": tensor("F32", [1], 4, 8)}, b"\0" * 8)
    yield "bad-gap", file({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 8, 12)}, b"\0" * 12)
    yield "bad-missing-field", file({"a": {"dtype": "F32", "shape": [1]}}, b"\0" * 4)
    yield "bad-fields", file({"a": 5, "b": {"dtype": 1, "shape": "x", "data_offsets": {}}})


def config():
    yield "empty", ""
    yield "defaults", "{}\n"
    yield "all", """listen: {socket: /tmp/k.sock, socket_mode: 0640, http: "127.0.0.1:9400"}
memory: {segment_bytes: 2MiB, reserve_bytes: 0, huge_pages: false, copy_threads: 2}
pools:
  - {name: "hbm:0", kind: hbm, budget_bytes: 64MiB, numa_node: -1}
  - {name: "dram:0", kind: dram, budget_bytes: 1 GiB, numa_node: 0}
tenants:
  - {name: a, uids: [1, 2], salt: "0123", admin: true, quota_bytes: {"dram:0": 512MiB}}
  - {name: b, uids: [3]}
policy: {name: static, static_share: [0.25, 0.75], moves_in_flight_max: 8, move_bytes_per_second_max: 1GiB}
limits: {chunks_max: 1000, session_timeout_ms: 500ms, lease_ttl_ms: 2m, lease_ttl_max_ms: 1h, retired_share_max: 0.25}
log: {level: debug, format: json}
"""
    yield "comments", "# nothing\nlog:  # of the daemon\n  level: warn\n"
    yield "anchors", "pools: [&p {name: x, kind: dram, budget_bytes: 64MiB}]\n"
    bad = {
        "unknown-field": "memory: {segment_byte: 64MiB}",
        "unknown-section": "network: {}",
        "unit": "memory: {segment_bytes: 64Mib}",
        "unit-negative": "memory: {segment_bytes: -64MiB}",
        "unit-overflow": "memory: {reserve_bytes: 99999999999999999999GiB}",
        "unit-float-overflow": "memory: {reserve_bytes: 1e400}",
        "range-low": "limits: {chunks_max: 0}",
        "range-high": "limits: {planes_max: 9000}",
        "nan": "limits: {retired_share_max: .nan}",
        "share": "policy: {name: static, static_share: [0.5, 0.6]}",
        "policy": "policy: {name: best}",
        "pool-kind": "pools: [{name: a, kind: tape, budget_bytes: 64MiB}]",
        "pool-twice": "pools: [{name: a, kind: dram, budget_bytes: 64MiB}, {name: a, kind: dram, budget_bytes: 64MiB}]",
        "pool-many": "pools: [" + ", ".join("{name: p%d, kind: dram, budget_bytes: 64MiB}" % i for i in range(20)) + "]",
        "tenant-uid-twice": "tenants: [{name: a, uids: [1]}, {name: b, uids: [1]}]",
        "tenant-quota": "tenants: [{name: a, uids: [1], quota_bytes: {nopool: 1GiB}}]",
        "field-twice": "log: {level: info, level: debug}",
        "list-for-map": "log: [1, 2]",
        "map-for-list": "pools: {a: 1}",
        "scalar": "just text",
        "null": "memory: ~",
        "tab": "log:\n\tlevel: info",
        "unclosed": "pools: [{name: a",
        "alias-cycle": "a: &a [*a]",
        "alias-bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\ne: [*d,*d,*d,*d]",
        "merge-key": "log: {<<: {level: info}}",
        "tag": "log: {level: !!binary aGVsbG8=}",
        "documents": "log: {level: info}\n---\nlog: {level: debug}\n",
        "deep": "[" * 3000,
        "deep-block": "".join(" " * i + "a:\n" for i in range(300)),
        "octal": "listen: {socket_mode: 0999}",
        "http": "listen: {http: \"nowhere:99999\"}",
        "nul": "log: {level: \"in\\0fo\"}",
        "long-key": "x" * 5000 + ": 1",
    }
    for name, text in bad.items():
        yield "bad-" + name, text
    yield "bad-utf8", b"log: {level: \xff\xfe}"
    yield "bad-utf16", "log: {level: info}".encode("utf-16")
    yield "bad-bytes", bytes(range(256))


def engine_ops():
    rng = random.Random(1)
    for policy in range(3):
        for size in (40, 300, 1200):
            yield f"random-{policy}-{size}", bytes([policy, rng.randrange(256)]) + rng.randbytes(size)
    # Puts and ticks only; then with moves that fail; then damage that moves and readers find. The first byte of
    # an operation is its kind, see DrawOp in tests/support/block_ops.cc.
    tick, put, fail, damage, lookup, section, budget, forget = 210, 30, 241, 186, 130, 250, 237, 196

    def ops(kinds, count):
        fields = {tick: 1, put: 7, fail: 2, damage: 4, lookup: 6, section: 3, budget: 2, forget: 5}
        out = b""
        for _ in range(count):
            kind = rng.choice(kinds)
            out += bytes([kind]) + rng.randbytes(fields[kind])
        return out

    for policy in range(3):
        yield f"fill-{policy}", bytes([policy, 3]) + ops([put, put, tick], 120)
        yield f"failing-moves-{policy}", bytes([policy, 5]) + ops([put, tick, tick, fail, lookup], 150)
        yield f"damage-{policy}", bytes([policy, 7]) + ops([put, tick, lookup, damage], 150)
        yield f"sections-{policy}", bytes([policy, 11]) + ops([put, tick, lookup, section, forget], 150)
        yield f"budgets-{policy}", bytes([policy, 13]) + ops([put, tick, tick, budget, lookup], 150)


def traces():
    def line(ids="[0, 1]", timestamp="0", length="1000"):
        return f'{{"timestamp": {timestamp}, "input_length": {length}, "output_length": 5, "hash_ids": {ids}}}\n'

    def request(ids="[1, 2]", t="0"):
        return f'{{"t": {t}, "type": "n", "model": "m", "in": 70, "out": 3, "hash_ids": {ids}}}'

    def session(*entries, head='"block_size": 64, "tool_tokens": 64, "system_tokens": 30'):
        return f'{{"id": "s", {head}, "requests": [{", ".join(entries)}]}}'

    agent = '{"t": 5, "type": "subagent", "tool_tokens": 9, "requests": [%s]}'
    yield "lines", line() + line("[0, 1, 2]", "30", "1500") + line("[0, 3]", "10.5") + line("[]", length="0")
    yield "lines-other-blocks", line() + line("[0, 1, 2]", "30")
    yield "session", session(request(), request("[1, 3]", "7.5"), agent % request("[9]"))
    yield "session-global", session(request(), head='"block_size": 1, "hash_id_scope": "global"')
    bad = {"cut-line": line()[:50], "nan": line(timestamp="NaN"), "infinite": line(timestamp="1e999"),
           "far": line(timestamp="1e300"), "before": line(timestamp="-1"), "text-time": line(timestamp='"0"'),
           "length-float": line(length="1.5"), "length-huge": line(length="99999999999999999999"),
           "id-negative": line("[-1]"), "id-float": line("[1.0]"), "id-huge": line("[18446744073709551616]"),
           "id-twice": line("[1, 2, 1]"), "id-text": line('["1"]'), "ids-object": line("{}"), "ids-null": line("null"),
           "deep-line": "[" * 3000, "no-object": "7", "nul": line().replace("0", "\0"), "no-field": "{}",
           "cut-session": session(request())[:80], "block-zero": session(request(), head='"block_size": 0'),
           "block-huge": session(request(), head='"block_size": 4294967296'),
           "tools-negative": session(request(), head='"block_size": 64, "tool_tokens": -64'),
           "tools-huge": session(request(), head='"block_size": 1, "tool_tokens": 1000000000'),
           "requests-object": '{"block_size": 64, "requests": {}}', "request-number": session("5"),
           "t-negative": session(request(t="-1")), "t-missing": session('{"hash_ids": []}'),
           "session-id-twice": session(request("[3, 3]")), "agent-empty": session(agent % ""),
           "id-is-list": session(request()).replace('"s"', "[]"), "requests-twice": session(request())[:-1] + ', "requests": 1}'}
    nested = request()
    for _ in range(12):
        nested = agent % nested
    bad["deep-agents"] = session(nested)
    for name, text in bad.items():
        yield "bad-" + name, text
    yield "bad-utf8", b'{"timestamp": "\xff\xfe"}'


def attention():
    """Without the checksum, which the target appends."""
    def head(planes=1, block_tokens=4, steps=2, prompt_tokens=11, accesses=0, model="m", version=1, provenance="p"):
        numbers = struct.pack("<IIIIQQ", version, planes, block_tokens, steps, prompt_tokens, accesses)
        texts = b"".join(struct.pack("<H", len(text)) + text.encode() for text in (model, provenance))
        return b"KVTATTN\n" + numbers + texts

    def reads(*deltas):
        return bytes([len(deltas)]) + b"".join(map(varint, deltas)) + bytes(range(len(deltas)))

    good = head(planes=2, accesses=6) + reads(0, 0) + reads(1) + reads(0, 1) + reads(2)
    yield "two-planes", good
    yield "nothing-read", head() + reads() + reads()
    yield "long-numbers", head(block_tokens=1, prompt_tokens=100_000, accesses=2) + reads(0, 99_000) + reads()
    bad = {"empty": b"", "magic": b"KVTATTN\r" + good[8:], "version": head(version=2), "cut-head": good[:30],
           "cut-body": good[:-2], "behind-end": good + b"x", "no-planes": head(planes=0), "planes-many": head(planes=1 << 31),
           "steps-many": head(steps=1 << 20), "tokens-many": head(prompt_tokens=1 << 63), "block-zero": head(block_tokens=0),
           "accesses-many": head(accesses=1 << 29) + reads() + reads(), "accesses-fewer": head(accesses=1) + reads() + reads(),
           "block-unborn": head(accesses=1) + reads(2) + reads(), "count-many": head(accesses=9) + bytes([9]) + bytes(40),
           "number-long": head(accesses=1) + b"\x01" + b"\xff" * 9 + b"\x01", "text-long": good[:40] + b"\xff\xff" + good[42:]}
    for name, content in bad.items():
        yield "bad-" + name, content


def specs():
    """Machines, models, and lists of overrides."""
    folder = HERE.parent.parent / "sim"
    machine = (folder / "machines/2xh100-nvlink.yaml").read_text(encoding="utf-8")
    model = (folder / "models/deepseek-v2-lite.yaml").read_text(encoding="utf-8")
    yield "machine", machine
    yield "model", model
    yield "overrides", "link.nvlink=1GB/s\nlink.pcie.from_gpu=1.5GB/s\npeer=1TiB\nmodel.layers=3\nread=in_place\ninclusive=true"
    for number, bad in enumerate(("hbm=0", "hbm=-1GiB", "link.pcie=nan", "link.ssd=1GB/s", "=", "tier..=1", "model.x=1",
                                  "compute=1e300TFLOP/s", "peer=99999999999999999999TiB", "tier.hbm.kind=dram")):
        yield f"bad-override-{number}", bad
    bad = {"no-tiers": machine.replace("tier:", "teer:"), "list": machine.replace("  hbm:", "  - hbm:"),
           "nan": machine.replace("450GB/s", ".nan"), "negative": machine.replace("450GB/s", "-450GB/s"),
           "zero": machine.replace("450GB/s", "0GB/s"), "huge": machine.replace("80GiB", "1" + "0" * 40 + "GiB"),
           "twice": machine + "compute: 1TFLOP/s\n", "link-unused": machine + "  c2c: {to_gpu: 1GB/s, from_gpu: 1GB/s}\n",
           "deep": "a: " + "[" * 500, "alias": "name: &a b\nread: *a\n", "utf16": "\ufeffname".encode("utf-16"),
           "nul": machine.replace("hbm", "h\0m"), "model-zero": model.replace("layers: 27", "layers: 0"),
           "model-float": model.replace("layers: 27", "layers: 2.7"),
           "model-overflow": model.replace("query_heads: 16", "query_heads: 4096").replace("score_dim: 192", "score_dim: 65535"),
           "model-more": model + "experts: 64\n"}
    for name, content in bad.items():
        yield "bad-" + name, content


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=str(HERE / "corpus"))
    args = parser.parse_args()
    for target in (requests, safetensors, config, engine_ops, traces, attention, specs, bounds):
        folder = pathlib.Path(args.out) / target.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in target():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


if __name__ == "__main__":
    main()
