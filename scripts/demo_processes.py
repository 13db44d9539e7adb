"""The processes of the demo: kvtierd, the workers and the questions to them. One thread; every wait has a deadline."""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import time

# Far more than an idle machine needs: a step that takes longer hangs.
STEP_SECONDS = 120
STOP_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class DemoError(Exception):
    pass


class Processes:
    """Starts processes that end with this one, however it ends."""

    def __init__(self, bin_dir, directory):
        self.bin_dir = bin_dir
        self.directory = directory
        self.started = []

    def program(self, name):
        path = os.path.join(self.bin_dir, name)
        if not os.access(path, os.X_OK):
            raise DemoError(f"{path} is missing; run scripts/demo, which builds it")
        return path

    def start(self, arguments, **options):
        parent = os.getpid()

        def prepare():
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it ended before that was said
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

        # A signal between fork and append would leave a process that nobody knows of.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            process = subprocess.Popen(arguments, preexec_fn=prepare, **options)
            self.started.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return process

    def stop_all(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
        for process in self.started:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                print(f"demo: process {process.pid} does not end", flush=True)

    def log(self, name):
        return os.path.join(self.directory, f"{name}.log")

    def last_lines(self, name, count=5):
        try:
            with open(self.log(name), encoding="utf-8", errors="replace") as file:
                return "".join(f"\n  {line.rstrip()}" for line in file.readlines()[-count:])
        except OSError:
            return ""


class Daemon:
    """kvtierd on a socket in the demo's directory, ready once constructed."""

    def __init__(self, processes, tag, *flags):
        self.processes = processes
        self.socket = os.path.join(processes.directory, "kvtierd.sock")
        ready_read, ready_write = os.pipe()
        try:
            with open(processes.log(tag), "w", encoding="utf-8") as log:
                self.process = processes.start(
                    [processes.program("kvtierd"), "--socket", self.socket, "--ready-fd", str(ready_write), *flags],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[ready_write])
            os.close(ready_write)
            ready_write = None
            with selectors.DefaultSelector() as selector:
                selector.register(ready_read, selectors.EVENT_READ)
                if not selector.select(STEP_SECONDS):
                    raise DemoError(f"kvtierd is not ready after {STEP_SECONDS} s" + processes.last_lines(tag))
            if os.read(ready_read, 1) == b"":
                raise DemoError("kvtierd did not start:" + processes.last_lines(tag))
        finally:
            os.close(ready_read)
            if ready_write is not None:
                os.close(ready_write)

    def ask(self, *arguments):
        """What `kvtier ARGUMENTS --json` answers."""
        process = self.processes.start(
            [self.processes.program("kvtier"), *arguments, "--json", "--socket", self.socket],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output, errors = process.communicate(timeout=STEP_SECONDS)
        if process.returncode != 0:
            raise DemoError(f"kvtier {' '.join(arguments)}: {errors.strip()}")
        return json.loads(output)

    def counter(self, name):
        return self.ask("status")["counters"][name]

    def held(self):
        """(sessions, leases)"""
        status = self.ask("status")
        return status["sessions"], status["leases"]

    def moved_into(self):
        return {pool["name"]: pool["moved_in_blocks"] for pool in self.ask("pools")["pools"]}

    def stop(self):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STEP_SECONDS)


class Worker:
    """A decode_worker whose results are read while it runs. It stops each time it has leased a prefix, and goes on at
    once unless it has `stop_after` results or more: then it stands still, lease in hand."""

    def __init__(self, processes, tag, prompts, flags, stop_after=None, verbose=False):
        self.tag = tag
        self.processes = processes
        self.stop_after = stop_after
        self.results = []
        self.paused = self.ended = False
        self._rest = b""
        arguments = [processes.program("decode_worker"), "--json-lines", "--pause-at", "leased", *flags]
        for prompt in prompts:
            arguments += ["--prompt", prompt]
        with open(processes.log(tag), "w", encoding="utf-8") as log:
            self.process = processes.start(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                           stderr=None if verbose else log)
        os.set_blocking(self.process.stdout.fileno(), False)

    def read(self):
        """Takes what it has printed, without waiting."""
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        if not data:
            self.ended = True
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"paused: "):
                self.paused = True
                if self.stop_after is None or len(self.results) < self.stop_after:
                    self.go_on()
            else:
                self.results.append(json.loads(line))

    def go_on(self, stop_after="as before"):
        if stop_after != "as before":
            self.stop_after = stop_after
        if self.paused:
            self.paused = False
            os.write(self.process.stdin.fileno(), b"\n")

    def check_end(self):
        status = self.process.wait(timeout=STEP_SECONDS)
        if status != 0:
            raise DemoError(f"{self.tag} ended with status {status}" + self.processes.last_lines(self.tag))

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=STEP_SECONDS)
        self.ended = True


def attend(workers, what, condition):
    """Reads what the workers print until condition(worker) holds for each; a worker that ends must have got there."""
    deadline = time.monotonic() + STEP_SECONDS
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            if not worker.ended:
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        while not all(condition(worker) for worker in workers):
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                raise DemoError(f"{what}: not within {STEP_SECONDS} s")
            for key, _ in ready:
                worker = key.data
                worker.read()
                if worker.ended:
                    selector.unregister(worker.process.stdout)
                    worker.check_end()
                    if not condition(worker):
                        raise DemoError(f"{what}: {worker.tag} ended before that")
