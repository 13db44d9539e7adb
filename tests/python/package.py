"""What the tests of the Python package share: the package itself, unpacked from the wheel that the build has packed, a
daemon for each test, and a model.
"""

import atexit
import glob
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("KVTIER_BINARY_DIR", ROOT / "build" / "release"))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cli_world  # noqa: E402
import junit  # noqa: E402

SECONDS_MAX = 60  # that any program may take
UNAVAILABLE_AFTER = 10.0  # no daemon of a test that lives is silent for so long, on whatever machine


def wheel():
    found = glob.glob(str(BUILD / "python" / "kvtier-*.whl"))
    assert len(found) == 1, f"not one wheel in {BUILD}/python: {found}"
    return found[0]


def _unpack():
    """The folder with the package. Processes that a test starts use their parent's: some of them end without cleaning up."""
    if _UNPACKED_BY_PARENT in os.environ:
        return os.environ[_UNPACKED_BY_PARENT]
    directory = tempfile.TemporaryDirectory(prefix="kvtier-python-")
    atexit.register(directory.cleanup)
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(directory.name)
    os.environ[_UNPACKED_BY_PARENT] = directory.name
    return directory.name


_UNPACKED_BY_PARENT = "KVTIER_TEST_PACKAGE"
_UNPACKED = _unpack()
sys.path.insert(0, _UNPACKED)
import kvtier  # noqa: E402

CHUNK_TOKENS = 4
KEY_BYTES, VALUE_BYTES = 5000, 12288  # not equal, and one no multiple of a checksum's piece
GEOMETRY = kvtier.ModelGeometry(
    name="small", revision="1", data_type="u8", chunk_tokens=CHUNK_TOKENS,
    planes=[kvtier.Plane("0.k", KEY_BYTES), kvtier.Plane("0.v", VALUE_BYTES, layer=0)],
    recompute=[kvtier.RecomputeTime(0, 0.01), kvtier.RecomputeTime(4096, 0.02)])
PLANE_BYTES = (KEY_BYTES, VALUE_BYTES)


def content(key, plane):
    """The bytes of a block follow from its name, so that a reader can tell one from another."""
    size = PLANE_BYTES[plane]
    return ((key + bytes([plane])) * (size // 17 + 1))[:size]


def store(client, model, keys, first=0, last_token_count=None):
    """Stores keys[first:], all planes."""
    wanted = keys[first:]
    with client.reserve(model, parent=keys[first - 1] if first else None, chunks=len(wanted)) as reservation:
        reservation.put([(chunk, plane, content(key, plane)) for chunk, key in enumerate(wanted) for plane in (0, 1)])
        return reservation.commit_keys(wanted, last_token_count)


def fetch(lease, keys):
    """Fetches all that is leased into fresh memory, and compares it."""
    memory = {(chunk, plane): bytearray(PLANE_BYTES[plane]) for chunk in range(lease.chunks) for plane in (0, 1)}
    result = lease.get([(*block, buffer) for block, buffer in memory.items()])
    result.raise_if_failed()
    for (chunk, plane), buffer in memory.items():
        assert buffer == content(keys[chunk], plane), f"chunk {chunk}, plane {plane} has other bytes"
    return result


def matched(arguments):
    """How many chunks a client of its own finds; a function that processes started by multiprocessing can import."""
    socket, tokens = arguments
    with kvtier.connect(socket) as client:
        model = client.register_model(GEOMETRY)
        return client.lookup(model, model.prefix_keys(tokens), lease=False).chunks


def run_script(script, *args, expect=0):
    """Runs Python code in a process of its own; returns what it printed. It has the package and this module."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([_UNPACKED, os.path.dirname(__file__)]),
                   "PYTHONDONTWRITEBYTECODE": "1"}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", script, *args], env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          timeout=SECONDS_MAX)
    seconds = time.monotonic() - began
    assert done.returncode == expect, f"exit status {done.returncode} after {seconds:.1f} s, not {expect}:\n{done.stdout}"
    return done.stdout


class DaemonCase(unittest.TestCase):
    """A kvtierd, a client of it, and the model registered, for each test."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="kvtier-python-")
        self.addCleanup(directory.cleanup)
        self.world = cli_world.World(directory.name)
        self.world.start(cli_world.SMALL)
        self.addCleanup(self.world.stop)
        self.client = self.connect()
        self.model = self.client.register_model(GEOMETRY)

    def connect(self, **options):
        client = kvtier.connect(self.world.socket, **{"unavailable_after": UNAVAILABLE_AFTER, **options})
        self.addCleanup(client.close)
        return client

    def pause(self):
        """From its return on the daemon says nothing, though it keeps its sockets."""
        self.world.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.go_on)
        os.waitid(os.P_PID, self.world.process.pid, os.WSTOPPED)

    def go_on(self):
        self.world.process.send_signal(signal.SIGCONT)

    def keys(self, chunks, seed=1):
        return self.model.prefix_keys(range(seed, seed + chunks * CHUNK_TOKENS))


def main(name):
    """Runs every test of the calling module, each as one case of its report."""
    report = junit.Report(name)
    cases = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])

    def each(suite):
        for item in suite:
            if isinstance(item, unittest.TestSuite):
                yield from each(item)
            else:
                yield item

    def check(case):
        result = unittest.TestResult()
        case.run(result)
        problems = [text for _, text in result.failures + result.errors]
        assert not problems, "\n".join(problems)
        assert not result.skipped and not result.expectedFailures, "these tests are not to be skipped"

    for case in each(cases):
        report.run(case.id().replace("__main__.", ""), check, case)
    return report.finish()
