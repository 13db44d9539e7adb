"""The kvtierd of a soak, and the figures that are watched of it."""

import json
import os
import re
import select
import subprocess
import urllib.request

START_SECONDS = 60
# Segments small, so that chunks are moved and evicted all the time; limits short, so that stopped workers run into them.
CONFIG = """listen: {http: '127.0.0.1:0'}
memory: {segment_bytes: 1MiB, reserve_bytes: 0, huge_pages: false}
pools:
  - {name: 'hbm:0', kind: hbm, budget_bytes: 32MiB}
  - {name: 'dram:0', kind: dram, budget_bytes: 96MiB}
limits: {session_timeout_ms: 5s, section_ms_max: 500ms}
log: {format: json}
"""
# A mapping of shared memory: address range, permissions, offset, device, inode, name.
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+\s+/memfd:")


class SoakError(Exception):
    pass


class Daemon:
    """Ready once constructed."""

    def __init__(self, processes):
        self.processes = processes
        self.socket = os.path.join(processes.directory, "kvtierd.sock")
        config = os.path.join(processes.directory, "kvtierd.yaml")
        with open(config, "w", encoding="ascii") as file:
            file.write(CONFIG)
        read_end, write_end = os.pipe()
        with open(processes.log("kvtierd"), "wb") as log:
            self.process = processes.start(
                [processes.program("kvtierd"), "--socket", self.socket, "--config", config, "--ready-fd", str(write_end)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[write_end])
        os.close(write_end)
        ready, _, _ = select.select([read_end], [], [], START_SECONDS)
        byte = os.read(read_end, 1) if ready else b""
        os.close(read_end)
        if byte != b"r":
            raise SoakError(f"kvtierd did not start: {processes.last_lines('kvtierd')}")
        with open(processes.log("kvtierd"), encoding="utf-8") as log:
            self.http_port = next(line["port"] for line in map(json.loads, log) if line["event"] == "http is served")

    def metrics(self):
        """{name: the sum over all labels}"""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        sums = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.partition("{")[0]
                sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def sample(self):
        metrics = self.metrics()
        proc = f"/proc/{self.process.pid}"
        with open(f"{proc}/status", encoding="ascii", errors="replace") as file:
            facts = dict(line.split(":", 1) for line in file if ":" in line)
        with open(f"{proc}/maps", encoding="utf-8", errors="replace") as file:
            shared = [int(found[2], 16) - int(found[1], 16) for found in map(MAPPING.match, file) if found]
        segments = int(metrics["kvtier_pool_segments"])
        names = ("sessions", "leases", "reservations", "chunks", "shared_clients", "shared_sections", "shared_clients_over_limit")
        return {**{name: int(metrics[f"kvtier_{name}"]) for name in names},
                "retired_bytes": int(metrics["kvtier_pool_retired_bytes"]),
                "anonymous_bytes": int(facts["RssAnon"].split()[0]) << 10,
                "resident_bytes": int(facts["VmRSS"].split()[0]) << 10, "threads": int(facts["Threads"]),
                # Each segment of a pool is a file and a mapping; how many there are is what the pools' limits are for.
                "open_files": len(os.listdir(f"{proc}/fd")) - segments, "shared_mappings": len(shared) - segments}

    def end(self):
        """Its exit status on SIGTERM."""
        self.process.terminate()
        return self.process.wait(60)
