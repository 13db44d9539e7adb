"""A kvtierd of a test's own in a temporary directory, and `kvtier` run against it."""

import json
import os
import pathlib
import select
import signal
import subprocess
import time

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BIN = pathlib.Path(os.environ.get("KVTIER_BIN_DIR", ROOT / "build/release/bin"))
SECONDS_MAX = 60  # that anything may take

SMALL = """memory: {segment_bytes: 1MiB, reserve_bytes: 0, huge_pages: false}
pools:
  - {name: 'hbm:0', kind: hbm, budget_bytes: 32MiB}
  - {name: 'dram:0', kind: dram, budget_bytes: 64MiB}
"""


def until(condition, what):
    """The first true value of condition(), asked again and again; every caller's condition runs a program or reads a file."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {SECONDS_MAX} s: {what}"


class Running(subprocess.Popen):
    """Does not outlive its with-block, however that ends."""

    def __exit__(self, *error):
        if self.poll() is None:
            self.kill()
        super().__exit__(*error)


class World:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.socket = str(self.directory / "kvtierd.sock")
        self.process = None

    def start(self, config=None):
        read_end, write_end = os.pipe()
        more = []
        if config is not None:
            path = self.directory / "kvtierd.yaml"
            path.write_text(config)
            more = ["--config", str(path)]
        with open(self.directory / "kvtierd.log", "wb") as log:
            self.process = subprocess.Popen(
                [BIN / "kvtierd", "--socket", self.socket, "--ready-fd", str(write_end), *more],
                stdout=log, stderr=log, pass_fds=[write_end])
        os.close(write_end)
        ready, _, _ = select.select([read_end], [], [], SECONDS_MAX)
        byte = os.read(read_end, 1) if ready else b""
        os.close(read_end)
        assert byte == b"r", f"kvtierd did not start: {(self.directory / 'kvtierd.log').read_text()[-2000:]}"

    def stop(self, number=signal.SIGTERM):
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def command(self, *args, socket=True):
        return [str(BIN / "kvtier"), *args] + (["--socket", self.socket] if socket else [])

    def run(self, *args, rc=0, socket=True, stdin=b""):
        """(stdout, stderr); an error is one line, unless it is of usage."""
        command = self.command(*args, socket=socket)
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=300)
        text = done.stderr.decode(errors="replace")
        assert done.returncode == rc, f"{command}: exit code {done.returncode}, not {rc}: {text}"
        if rc not in (0, 2):
            assert len(text.strip().splitlines()) == 1, f"{command}: not one line of error: {text!r}"
        return done.stdout.decode(errors="replace"), text

    def json(self, *args):
        return json.loads(self.run(*args, "--json")[0])

    def popen(self, *args, socket=True, **options):
        """Runs on; stdin, stdout and stderr are pipes unless the options say otherwise."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return Running(self.command(*args, socket=socket), **{**pipes, **options})
