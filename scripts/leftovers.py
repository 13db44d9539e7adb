"""Finds, and removes, what tests leave behind: processes, shared memory, sockets and files.

Watch() makes this process the one that orphans are handed to, so whatever the tests started and did not
end is found among its descendants; processes of others are never touched. Files count where only this run
writes: in its own temporary directory, which is TMPDIR, HOME and XDG_RUNTIME_DIR for the tests, and in the
source tree. Shared memory counts unless a process of somebody else has it open.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time

_PR_SET_CHILD_SUBREAPER = 36
_SHARED_MEMORY = "/dev/shm"
_SYSTEM_V = "/proc/sysvipc/shm"
_SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


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


def _shared_memory():
    """{name for people: None, or for System V (pid of whoever made it, times attached)}, of this user."""
    found = {}
    try:
        for entry in os.scandir(_SHARED_MEMORY):
            if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                found[entry.path] = None
    except OSError:
        pass  # there is none, or one vanished meanwhile
    try:
        with open(_SYSTEM_V, encoding="utf-8") as file:
            names = file.readline().split()
            for line in file:
                segment = dict(zip(names, map(int, line.split())))
                if segment["uid"] == os.geteuid():
                    found[f"System V shared memory {segment['shmid']}"] = segment["cpid"], segment["nattch"]
    except OSError:
        pass
    return found


def _used_by_others(path):
    """Whether a process that is not below this one has the file open or mapped."""
    own = set(descendants()) | {os.getpid()}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in own:
            continue
        try:
            for number in os.listdir(f"/proc/{entry}/fd"):
                if os.readlink(f"/proc/{entry}/fd/{number}") == path:
                    return True
            with open(f"/proc/{entry}/maps", encoding="utf-8", errors="replace") as maps:
                if any(line.rstrip().endswith(f" {path}") for line in maps):
                    return True
        except OSError:
            continue  # ended, or another user's
    return False


def _left(name, system_v):
    """Whether shared memory that is new since the last look is this run's, whose processes have been ended."""
    if system_v is None:
        return not _used_by_others(name)
    maker, attached = system_v
    return attached == 0 and not os.path.exists(f"/proc/{maker}")


def _source_files(source):
    """Files in the source tree that git neither tracks nor ignores; without git all files outside build/."""
    try:
        listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "--others", "--exclude-standard"],
                                cwd=source, capture_output=True, text=True, errors="replace", check=False)
        if listed.returncode == 0:
            return set(listed.stdout.splitlines())
    except OSError:
        pass  # no git
    found = set()
    for folder, folders, names in os.walk(source):
        top = os.path.relpath(folder, source)
        folders[:] = [f for f in folders if f != "__pycache__" and (top != "." or f not in ("build", ".cache"))]
        found.update(os.path.normpath(os.path.join(top, name)) for name in names)
    return found


class Watch:
    """From construction to close(); environment() is what the tests run with."""

    def __init__(self, source=_SOURCE):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        self._source = source
        self._memory = _shared_memory()
        self._in_source = _source_files(source)
        self.directory = tempfile.mkdtemp(prefix="kvtier-test.")
        # Tests run clients as other users, who have to get through to the sockets below.
        os.chmod(self.directory, 0o711)
        self._runtime = os.path.join(self.directory, "run")
        self._home = os.path.join(self.directory, "home")
        # What libraries keep for the next time, as matplotlib its list of fonts, is not left behind.
        self._caches = os.path.join(self.directory, "caches")
        for place in (self._runtime, self._home, self._caches):
            os.mkdir(place, 0o700)

    def environment(self):
        return {"TMPDIR": self.directory, "TEST_TMPDIR": self.directory, "HOME": self._home,
                "XDG_RUNTIME_DIR": self._runtime, "XDG_CACHE_HOME": self._caches, "MPLCONFIGDIR": self._caches}

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
        """Names what is new since the last call, and empties the temporary directory. What lies outside it
        is named and left: it cannot be told for sure from what a person made meanwhile."""
        kept = (self._runtime, self._home)
        found = [os.path.join(place, name) for place in (self.directory, *kept)
                 for name in os.listdir(place) if os.path.join(place, name) not in (*kept, self._caches)]
        for path in found:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        memory, in_source = _shared_memory(), _source_files(self._source)
        found += [name for name in memory if name not in self._memory and _left(name, memory[name])]
        found += [f"{name} in the source tree" for name in in_source - self._in_source]
        self._memory, self._in_source = memory, in_source
        return sorted(found)

    def close(self):
        """Removes the temporary directory with whatever is in it."""
        shutil.rmtree(self.directory, ignore_errors=True)
