#!/usr/bin/env python3
"""Computes the golden vectors of chunk_key_test.cc from the description alone (hashlib)."""
import hashlib
import struct

SALT = b"tenant-salt"
FINGERPRINT = bytes(range(32))
ROOT = bytes(16)


def u32(number):
    return struct.pack("<I", number)


def key(form, parent, body, extra=b"", salt=SALT, fingerprint=FINGERPRINT):
    text = (b"kvtier.chunk" + u32(1) + bytes([form]) + u32(len(salt)) + salt + fingerprint +
            parent + body + u32(len(extra)) + extra)
    return hashlib.sha256(text).digest()[:16]


def tokens(numbers):
    return u32(len(numbers)) + b"".join(u32(n) for n in numbers)


def opaque(engine_key):
    return u32(len(engine_key)) + engine_key


def main():
    root = key(1, ROOT, tokens([1, 2, 3, 4]))
    child = key(1, root, tokens([5, 6, 7, 0xFFFFFFFF]))
    vectors = {
        "root": root,
        "child": child,
        "tail": key(1, child, tokens([9, 10])),
        "extra": key(1, ROOT, tokens([1, 2, 3, 4]), b"lora:7"),
        "opaque": key(2, ROOT, opaque(b"engine\0key")),
        "opaque child": key(2, root, opaque(b"engine\0key"), b"image"),
        "other salt": key(1, ROOT, tokens([1, 2, 3, 4]), salt=b""),
        "other model": key(1, ROOT, tokens([1, 2, 3, 4]), fingerprint=bytes(32)),
    }
    for name, value in vectors.items():
        print(f"{name}: {value.hex()}")


if __name__ == "__main__":
    main()
