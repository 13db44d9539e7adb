"""Proves that messages in the making are bounded: a client that opens many streams, sends all but the last byte
of a large message on each, and stops, does not make the daemon take the memory for all of them, and others are
served meanwhile. It speaks HTTP/2 itself, since a library would finish its messages.
"""

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ["KVTIER_SOURCE_DIR"], "tests", "support"))
import junit  # noqa: E402

BIN = os.environ["KVTIER_BIN_DIR"]
CONNECTIONS = 8
STREAMS = 8  # a connection; what the server allows
MESSAGE_BYTES = 4 << 20
# 8 threads of 4 MiB are the quota; memory is taken in larger steps than that.
GROWTH_MAX_BYTES = 128 << 20
SECONDS_MAX = 60

DATA, HEADERS, RESET, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
ACK, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


HEADERS_OF_CALL = (header(b":method", b"POST") + header(b":scheme", b"http")
                   + header(b":path", b"/kvtier.v1.KvCache/Attach") + header(b":authority", b"kvtierd")
                   + header(b"te", b"trailers") + header(b"content-type", b"application/grpc"))


class Connection:
    """Sends as much of each stream's message as flow control allows."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.received = b""
        self.window, self.initial_window = 65535, 65535
        self.stream_window, self.left = {}, {}
        self.resets, self.closed = 0, False
        self.out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
        for stream in range(1, 2 * STREAMS, 2):
            self.out += frame(HEADERS, END_HEADERS, stream, HEADERS_OF_CALL)
            self.stream_window[stream] = 0
            self.left[stream] = MESSAGE_BYTES + 5 - 1

    def step(self):
        """Returns whether anything is left to send."""
        self.fill()
        readable, writable, _ = select.select([self.socket], [self.socket] if self.out else [], [], 0.01)
        try:
            if writable:
                self.out = self.out[self.socket.send(self.out):]
            if readable:
                bytes_read = self.socket.recv(1 << 16)
                self.closed = not bytes_read
                self.received += bytes_read
        except OSError:
            self.closed = True
        self.read_frames()
        return not self.closed and any(self.left.values())

    def fill(self):
        for stream in self.left:
            if len(self.out) > 1 << 20:
                return
            size = min(self.window, self.stream_window[stream] + self.initial_window, self.left[stream], 16384)
            if size <= 0:
                continue
            body = b"\0" * size
            if self.left[stream] == MESSAGE_BYTES + 5 - 1:
                body = b"\0" + struct.pack(">I", MESSAGE_BYTES) + body[5:]
            self.out += frame(DATA, 0, stream, body)
            self.window -= size
            self.stream_window[stream] -= size
            self.left[stream] -= size

    def read_frames(self):
        while len(self.received) >= 9:
            end = 9 + int.from_bytes(self.received[:3], "big")
            if len(self.received) < end:
                return
            kind, flags = self.received[3], self.received[4]
            stream = int.from_bytes(self.received[5:9], "big")
            payload, self.received = self.received[9:end], self.received[end:]
            if kind == SETTINGS and not flags & ACK:
                for at in range(0, len(payload), 6):
                    name, value = struct.unpack(">HI", payload[at:at + 6])
                    if name == INITIAL_WINDOW_SIZE:
                        self.initial_window = value
                self.out += frame(SETTINGS, ACK, 0)
            elif kind == PING and not flags & ACK:
                self.out += frame(PING, ACK, 0, payload)
            elif kind == WINDOW_UPDATE and stream == 0:
                self.window += int.from_bytes(payload, "big")
            elif kind == WINDOW_UPDATE and stream in self.stream_window:
                self.stream_window[stream] += int.from_bytes(payload, "big")
            elif kind == RESET:
                self.left[stream] = 0
                self.resets += 1


def resident_bytes(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field} of process {pid}")


def check(directory):
    path = os.path.join(directory, "kvtierd.sock")
    ready_read, ready_write = os.pipe()
    # What a sanitizer keeps of freed memory is not the daemon's.
    options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
    daemon = subprocess.Popen(
        [os.path.join(BIN, "kvtierd"), "--socket", path, "--ready-fd", str(ready_write),
         "--set", "limits.rpc_threads_max=8", "--set", "limits.watch_streams_max=4",
         "--set", "memory.segment_bytes=1MiB", "--set",
         "pools=[{name: 'hbm:0', kind: hbm, budget_bytes: 4MiB}, {name: 'dram:0', kind: dram, budget_bytes: 4MiB}]"],
        pass_fds=[ready_write], stderr=subprocess.DEVNULL, env={**os.environ, "ASAN_OPTIONS": options})
    try:
        os.close(ready_write)
        assert os.read(ready_read, 1) == b"r", "kvtierd did not start"
        before = resident_bytes(daemon.pid, "VmRSS")
        connections = [Connection(path) for _ in range(CONNECTIONS)]
        until = time.monotonic() + SECONDS_MAX
        while any([connection.step() for connection in connections]):
            assert time.monotonic() < until, "neither taken nor refused in time"
        growth = resident_bytes(daemon.pid, "VmHWM") - before
        refused = sum(connection.resets + connection.closed for connection in connections)
        print(f"grew by {growth >> 20} MiB of {CONNECTIONS * STREAMS * MESSAGE_BYTES >> 20} MiB, "
              f"{refused} streams or connections refused")
        assert growth < GROWTH_MAX_BYTES, f"grew by {growth >> 20} MiB; at most {GROWTH_MAX_BYTES >> 20} are allowed"
        assert refused > 0, "nothing was refused, so nothing was shown"
        subprocess.run([os.path.join(BIN, "kvtier"), "status", "--socket", path], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            ended = daemon.wait(timeout=60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            raise
        os.close(ready_read)
    assert ended == 0, f"kvtierd ended with {ended}"


def main():
    report = junit.Report("unfinished_messages_test")
    with tempfile.TemporaryDirectory(prefix="kvtier-test-") as directory:
        report.run("messages_in_the_making_are_bounded", check, directory)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
