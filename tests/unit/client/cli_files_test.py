"""Proves what `kvtier put` and `kvtier get` do to files and to what is stored: a failure or a signal leaves both as they were.

Runs them against a daemon with small pools in a temporary directory, with outputs of every kind (pipes, links, files with a
mode), inputs that fail half way, a daemon that is killed, and signals at points that the test can see.
"""

import os
import pathlib
import select
import signal
import stat
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cli_world  # noqa: E402
import junit  # noqa: E402

DATA = bytes(range(256)) * 1200  # 300 KiB: more than a pipe holds, no whole number of chunks
TRIES = 20  # for a signal that may come too late


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def ends_with(process, rc):
    out, text = process.communicate(timeout=cli_world.SECONDS_MAX)
    assert process.returncode == rc, f"exit code {process.returncode}, not {rc}: {text.decode(errors='replace')}"
    return out, text.decode(errors="replace")


class Cases:
    def __init__(self, world):
        self.world = world
        self.folder = world.directory / "files"
        self.folder.mkdir()

    def chunks(self):
        return self.world.json("status")["chunks"]

    def alone(self, *names):
        """Nothing but these is in the folder, no temporary file above all."""
        there = sorted(path.name for path in self.folder.iterdir())
        assert there == sorted(names), f"in the folder: {there}"
        for path in self.folder.iterdir():
            path.unlink()

    # --- where get writes to ---------------------------------------------------------------------

    def a_pipe_is_written_into(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with self.world.popen("get", "data", "-o", str(pipe)) as get:
            got = b""
            while len(got) < len(DATA):
                ready, _, _ = select.select([reader], [], [], cli_world.SECONDS_MAX)
                part = os.read(reader, len(DATA)) if ready else b""
                assert part, f"only {len(got)} bytes came through the pipe"
                got += part
            ends_with(get, 0)
        os.close(reader)
        assert got == DATA, "other bytes"
        assert stat.S_ISFIFO(os.stat(pipe).st_mode), "the pipe was replaced"
        self.alone("pipe")

    def a_device_is_written_into(self):
        # A terminal of the test's own: were it replaced, nothing of the machine would be harmed.
        keyboard, terminal = os.openpty()
        link = self.folder / "terminal"
        link.symlink_to(os.ttyname(terminal))
        with self.world.popen("get", "text", "-o", str(link)) as get:
            ends_with(get, 0)
        ready, _, _ = select.select([keyboard], [], [], 0)
        assert ready and os.read(keyboard, 100).startswith(b"text"), "not what was stored"
        assert stat.S_ISCHR(os.stat(os.ttyname(terminal)).st_mode), "the terminal was replaced"
        os.close(keyboard)
        os.close(terminal)
        self.alone("terminal")

    def standard_output(self):
        with self.world.popen("get", "data", "-o", "-") as get:
            out, _ = ends_with(get, 0)
        assert out == DATA, "other bytes, or more than the file"
        self.world.run("get", "data", "-o", "-", "--json", rc=2)
        self.alone()

    def links_stay(self):
        for existing in (True, False):
            target, link = self.folder / "target", self.folder / "link"
            if existing:
                target.write_bytes(b"old")
            link.symlink_to("target")
            self.world.run("get", "data", "-o", str(link))
            assert link.is_symlink() and target.read_bytes() == DATA
            self.alone("link", "target")

    def modes(self):
        old, new = self.folder / "old", self.folder / "new"
        old.write_bytes(b"old")
        old.chmod(0o600)
        before = os.umask(0o027)
        try:
            self.world.run("get", "data", "-o", str(old))
            self.world.run("get", "data", "-o", str(new))
        finally:
            os.umask(before)
        assert mode(old) == 0o600, f"the mode of a file that was there became {mode(old):o}"
        assert mode(new) == 0o640, f"a new file has mode {mode(new):o}"
        self.alone("old", "new")

    def a_failed_get_changes_nothing(self):
        old = self.folder / "old"
        old.write_bytes(b"old")
        self.world.run("get", "never put", "-o", str(old), rc=1)
        self.world.run("get", "data", "-o", str(self.folder), rc=1)  # a directory
        self.world.run("get", "data", "-o", str(old / "below"), rc=1)
        if os.geteuid() != 0:  # root may write what it likes
            old.chmod(0o400)
            self.world.run("get", "data", "-o", str(old), rc=1)
        assert old.read_bytes() == b"old"
        self.alone("old")

    def a_reader_that_goes(self):
        with self.world.popen("get", "data", "-o", "-") as get:
            get.stdout.close()
            get.stdout = None
            _, text = ends_with(get, 1)
        assert "cannot write the standard output" in text, text

    # --- what a failed put leaves ----------------------------------------------------------------

    def is_still_stored(self, name, data):
        copy = self.folder / "copy"
        self.world.run("get", name, "-o", str(copy))
        assert copy.read_bytes() == data, f"{name} has other bytes"
        copy.unlink()

    def a_failed_replace_changes_nothing(self):
        before = self.chunks()
        self.world.run("put", str(self.folder), "--name", "data", "--replace", rc=1)
        # A regular file that is opened, and cannot be read.
        _, text = self.world.run("put", "/proc/self/mem", "--name", "data", "--replace", rc=1)
        assert "cannot read the input" in text, text
        self.is_still_stored("data", DATA)
        assert self.chunks() == before, "a failed put left chunks"

    def a_replace_leaves_nothing_of_the_old(self):
        self.world.run("put", "-", "--name", "small", stdin=b"one", rc=0)
        before = self.chunks()
        for size in (5_000_000, 3):  # another number of chunks, and back
            self.world.run("put", "-", "--name", "small", "--chunk-bytes", "4KiB", "--replace", stdin=b"x" * size)
            self.is_still_stored("small", b"x" * size)
        assert self.chunks() == before, "chunks of what was replaced are left"

    def too_much_leaves_nothing(self):
        before = self.chunks()
        _, text = self.world.run("put", "-", "--name", "big", stdin=b"b" * (200 << 20), rc=1)
        assert "room" in text, text
        assert self.chunks() <= before, "a failed put left chunks"
        self.world.run("put", "-", "--name", "data", "--replace", stdin=DATA)  # may have been evicted

    # --- signals ---------------------------------------------------------------------------------

    def put_is_interrupted(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            before = self.chunks()
            with self.world.popen("put", "-", "--name", "data", "--replace", "--chunk-bytes", "4KiB") as put:
                # 1024 chunks are a batch; of the second one there is only the start.
                put.stdin.write(b"s" * (4 << 20) + b"t")
                put.stdin.flush()
                cli_world.until(lambda: self.chunks() >= before + 1024, "chunks of the first batch")
                put.send_signal(number)
                # Its input stays open: what ends it is the signal alone.
                assert put.wait(cli_world.SECONDS_MAX) == 128 + number, put.returncode
                text = put.stderr.read().decode()
            assert "interrupted by SIG" in text, text
            assert self.chunks() == before, "an interrupted put left chunks"
        self.is_still_stored("data", DATA)

    def get_is_interrupted(self):
        # A file of 16 batches: the temporary file is seen long before the end.
        self.world.run("put", "-", "--name", "long", "--chunk-bytes", "4KiB", stdin=b"l" * (24 << 20))
        target = self.folder / "target"
        for _ in range(TRIES):
            target.write_bytes(b"old")
            with self.world.popen("get", "long", "-o", str(target)) as get:
                cli_world.until(lambda: get.poll() is not None or len(os.listdir(self.folder)) > 1, "a temporary file")
                get.send_signal(signal.SIGTERM)
                get.communicate(timeout=cli_world.SECONDS_MAX)
            assert os.listdir(self.folder) == ["target"], f"left: {os.listdir(self.folder)}"
            if get.returncode == 128 + signal.SIGTERM:
                assert target.read_bytes() == b"old"
                break
            assert get.returncode == 0, get.returncode
        else:
            raise AssertionError(f"the signal came too late {TRIES} times")
        self.alone("target")

    def get_without_a_reader_is_interrupted(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with self.world.popen("get", "data", "-o", str(pipe)) as get:
            ready, _, _ = select.select([reader], [], [], cli_world.SECONDS_MAX)
            assert ready, "nothing was written"  # the pipe is full, or will be, as nobody reads on
            get.send_signal(signal.SIGINT)
            _, text = ends_with(get, 128 + signal.SIGINT)
        os.close(reader)
        assert "interrupted by SIGINT" in text, text
        self.alone("pipe")

    def bench_is_interrupted(self):
        scratch = self.world.directory / "scratch"
        scratch.mkdir()
        environment = {**os.environ, "TMPDIR": str(scratch)}
        command = self.world.command("bench", "rpc", "--spawn", socket=False)
        with cli_world.Running(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
            cli_world.until(lambda: list(scratch.glob("*/echo.sock")), "the second child")
            bench.send_signal(signal.SIGINT)
            ends_with(bench, 128 + signal.SIGINT)
        assert not list(scratch.iterdir()), f"left: {list(scratch.iterdir())}"

    def bench_leaves_nothing(self):
        before = self.chunks()
        self.world.run("bench", "rpc", "--quick")
        assert self.chunks() == before, "bench rpc left chunks"

    # --- the daemon goes -------------------------------------------------------------------------

    def the_daemon_goes(self):
        with self.world.popen("put", "-", "--name", "data", "--replace", "--chunk-bytes", "4KiB") as put:
            before = self.chunks()
            put.stdin.write(b"s" * (4 << 20))
            put.stdin.flush()
            cli_world.until(lambda: self.chunks() >= before + 1024, "chunks of the first batch")
            self.world.stop(signal.SIGKILL)
            ends_with(put, 1)  # it did answer: not 3
        self.world.run("put", "-", "--name", "data", stdin=b"x", rc=3)


def main():
    report = junit.Report("cli_files")
    with tempfile.TemporaryDirectory(prefix="kvtier-cli-") as directory:
        world = cli_world.World(directory)
        cases = Cases(world)
        try:
            if report.run("a daemon starts", world.start, cli_world.SMALL):
                world.run("put", "-", "--name", "data", stdin=DATA)
                world.run("put", "-", "--name", "text", stdin=b"text")
                report.run("get writes into a pipe", cases.a_pipe_is_written_into)
                report.run("get writes into a device", cases.a_device_is_written_into)
                report.run("get writes to the standard output", cases.standard_output)
                report.run("get follows symbolic links", cases.links_stay)
                report.run("get keeps modes", cases.modes)
                report.run("a get that fails changes nothing", cases.a_failed_get_changes_nothing)
                report.run("get to a reader that goes", cases.a_reader_that_goes)
                report.run("a replace that fails changes nothing", cases.a_failed_replace_changes_nothing)
                report.run("a replace leaves nothing of the old", cases.a_replace_leaves_nothing_of_the_old)
                report.run("put is interrupted", cases.put_is_interrupted)
                report.run("get is interrupted", cases.get_is_interrupted)
                report.run("get to a full pipe is interrupted", cases.get_without_a_reader_is_interrupted)
                report.run("bench rpc is interrupted", cases.bench_is_interrupted)
                report.run("bench rpc leaves nothing", cases.bench_leaves_nothing)
                report.run("more than there is room for leaves nothing", cases.too_much_leaves_nothing)
                report.run("the daemon goes during a put", cases.the_daemon_goes)
        finally:
            world.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
