"""The KV of a prompt through kvtier: fetches the chunks that some worker stored before, computes and stores the others.

    usage: reuse.py TEXT, with KVTIER_SOCKET naming the daemon's socket

The "engine" is a stand-in that takes its KV from a hash; run it twice, and the second run computes nothing.
"""

import hashlib
import sys

import kvtier

CHUNK_TOKENS, CHUNK_BYTES = 16, 64 * 1024
GEOMETRY = kvtier.ModelGeometry(name="my-model", revision="1", data_type="bf16", chunk_tokens=CHUNK_TOKENS,
                                planes=[kvtier.Plane("kv", bytes_per_chunk=CHUNK_BYTES)])


def compute(tokens, chunk):
    """The engine's own work: KV follows from all tokens up to the end of the chunk."""
    prefix = str(tokens[:(chunk + 1) * CHUNK_TOKENS]).encode()
    return hashlib.shake_128(prefix).digest(CHUNK_BYTES)


def prefill(client, tokens):
    """Returns the KV of each whole chunk of the prompt, and how many of them were fetched."""
    kv = [bytearray(CHUNK_BYTES) for _ in range(len(tokens) // CHUNK_TOKENS)]
    keys, known = [], 0
    try:
        model = client.register_model(GEOMETRY)
        keys = model.prefix_keys(tokens)[:len(kv)]
        with client.lookup(model, keys) as lease:
            lease.get([(chunk, 0, kv[chunk]) for chunk in range(lease.chunks)]).raise_if_failed()
            known = lease.chunks
    except kvtier.Error as error:
        print(f"recomputing: {error}")
    for chunk in range(known, len(kv)):
        kv[chunk][:] = compute(tokens, chunk)
    try:
        if keys[known:]:
            with client.reserve(model, parent=keys[known - 1] if known else None, chunks=len(kv) - known) as room:
                room.put([(at, 0, block) for at, block in enumerate(kv[known:])])
                room.commit_keys(keys[known:])
    except kvtier.Error as error:
        print(f"not stored: {error}")
    return kv, known


def main():
    tokens = list(sys.argv[1].encode())
    with kvtier.connect() as client:
        kv, known = prefill(client, tokens)
    assert kv == [compute(tokens, chunk) for chunk in range(len(kv))]
    print(f"{known} of {len(kv)} chunks fetched")


if __name__ == "__main__":
    main()
