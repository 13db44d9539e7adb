"""Finds, and removes, what tests leave behind: processes, shared memory, sockets and files.

Watch() makes this process the one that orphans are handed to, so whatever the tests started and did not
end is found among its descendants; processes of others are never touched.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time

_PR_SET_CHILD_SUBREAPER = 36
# Where a daemon or a test could put something that outlives it, beside the temporary directory.
_SHARED_PLACES = ("/dev/shm", "/run/kvtier", "/run/user", "/tmp")
# Directories of this kind belong to another test run, which watches over them itself.
_TEMPORARY_PREFIX = "kvtier-test."


def descendants():
    """{pid: command line} of every process below this one, zombies left out."""
    children, names = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                head, tail = file.read().rsplit(")", 1)
            with open(f"/proc/{entry}/cmdline", encoding="utf-8", errors="replace") as file:
                command = file.read().replace("\0", " ").strip() or head.split("(", 1)[1]
        except OSError:
            continue  # ended meanwhile
        state, parent = tail.split()[:2]
        children.setdefault(int(parent), []).append(int(entry))
        if state not in "ZX":
            names[int(entry)] = command
    found, pending = {}, [os.getpid()]
    while pending:
        for pid in children.get(pending.pop(), []):
            pending.append(pid)
            if pid in names:
                found[pid] = names[pid]
    return found


def _kvtier_entries():
    found = set()
    for place in _SHARED_PLACES:
        try:
            names = os.listdir(place)
        except OSError:
            continue
        everything = place == "/run/kvtier"
        found.update(os.path.join(place, name) for name in names
                     if (everything or "kvtier" in name) and not name.startswith(_TEMPORARY_PREFIX))
    return found


def _untracked_files():
    """Files in the source tree that git neither tracks nor ignores; only CI is alone in its tree."""
    if os.environ.get("CI") != "true":
        return set()
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "--others", "--exclude-standard"],
                            capture_output=True, text=True, check=False)
    return set(listed.stdout.splitlines()) if listed.returncode == 0 else set()


class Watch:
    """From construction to close(); environment() is what the tests run with."""

    def __init__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        self._before = _kvtier_entries()
        self._untracked = _untracked_files()
        self.directory = tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX)
        self._runtime = os.path.join(self.directory, "run")
        os.mkdir(self._runtime, 0o700)

    def environment(self):
        return {"TMPDIR": self.directory, "TEST_TMPDIR": self.directory,
                "XDG_RUNTIME_DIR": self._runtime}

    def processes(self, grace_seconds=2.0):
        """Waits a little for what is about to end, kills the rest and returns its command lines."""
        deadline = time.monotonic() + grace_seconds
        while True:
            self._reap()
            found = descendants()
            if not found or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.kill(found)
        return [f"process {pid}: {command[:200]}" for pid, command in sorted(found.items())]

    def kill(self, found=None):
        for _ in range(100):  # what is killed may have started more meanwhile
            for pid in found or {}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._reap()
            found = descendants()
            if not found:
                return
            time.sleep(0.02)

    @staticmethod
    def _reap():
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    def files(self):
        """Names what is new since the last call, and empties the temporary directory. What lies outside
        it is named and left: it cannot be told from what another program made meanwhile."""
        found = [os.path.join(place, name) for place in (self.directory, self._runtime)
                 for name in os.listdir(place) if os.path.join(place, name) != self._runtime]
        for path in found:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        elsewhere, untracked = _kvtier_entries(), _untracked_files()
        found += elsewhere - self._before
        found += untracked - self._untracked
        self._before, self._untracked = elsewhere, untracked
        return sorted(found)

    def close(self):
        """Removes the temporary directory with whatever is in it."""
        shutil.rmtree(self.directory, ignore_errors=True)
