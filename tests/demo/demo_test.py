"""Proves that the demo works on the build under test, that it can fail, and that nothing outlives it: neither when it
ends by itself nor when a signal ends it. Orphans are handed to this process, so that it can wait for them.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
BIN = os.environ.get("KVTIER_BIN_DIR", os.path.join(ROOT, "build", "release", "bin"))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import junit  # noqa: E402

SECONDS_MAX = 240
PR_SET_CHILD_SUBREAPER = 36
ROWS = ["answers given", "answers equal to the run without the daemon", "of these, before the worker was killed",
        "tokens in the shortest answer", "fewest distinct bytes in an answer", "prompt chunks reused",
        "read from dram:0", "read from hbm:0 (emulated)", "blocks moved into dram:0",
        "blocks moved into hbm:0 (emulated)", "bytes of reused chunks that workers copied", "blocks read in place",
        "chunks committed that were computed in place", "moved_between_reads: blocks", "block reads counted of", "sessions and leases before the kill",
        "sessions and leases after it", "chunks of its own found again by the killed worker", "bits flipped",
        "damaged blocks reported as DATA_LOSS", "damaged copies dropped by the daemon",
        "answers before it, after it and once more", "chunks reused once more"]


def start(directory, bin_dir=BIN):
    return subprocess.Popen([sys.executable, os.path.join(ROOT, "scripts", "demo_run.py"), "--bin-dir", bin_dir],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env={**os.environ, "TMPDIR": directory}, start_new_session=True)


def no_process_left(demo):
    """Reaps orphans: those that were killed a moment ago end at once, others run into the alarm."""
    def give_up(_number, _frame):
        try:
            os.killpg(demo.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        raise AssertionError("processes of the demo outlive it")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass
    finally:
        signal.alarm(0)


def check_demo(directory):
    demo = start(directory)
    try:
        output, _ = demo.communicate(timeout=SECONDS_MAX)
    finally:
        demo.kill()
        no_process_left(demo)
    print(output, flush=True)
    lines = output.splitlines()
    assert demo.returncode == 0 and lines[-1:] == ["demo: ok"], f"exit status {demo.returncode}\n{output}"
    for row in ROWS:
        found = [line for line in lines if line.strip().startswith(row)]
        assert len(found) == 1 and found[0].endswith("  ok"), f"row {row!r}: {found}\n{output}"
    # Two daemons were stopped.
    assert sum("daemon's exit status after SIGTERM" in line for line in lines) == 2, output
    assert os.listdir(directory) == [], os.listdir(directory)


def check_failing_demo(directory):
    """Workers that print nothing are no workers; the last line says so."""
    programs = os.path.join(directory, "bin")
    os.mkdir(programs)
    for name in ("kvtierd", "kvtier"):
        os.symlink(os.path.join(BIN, name), os.path.join(programs, name))
    os.symlink("/bin/true", os.path.join(programs, "decode_worker"))
    demo = start(directory, programs)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1, output
    assert output.splitlines()[-1].startswith("demo: FAILED: "), output
    no_process_left(demo)
    assert os.listdir(directory) == ["bin"], os.listdir(directory)


def check_signal(directory, number, status, keeps, when):
    """Sends the signal once the demo has said `when`; what that announces is just about to start."""
    demo = start(directory)
    for line in demo.stdout:
        if when in line:
            break
    demo.send_signal(number)
    demo.stdout.read()
    demo.wait(timeout=30)
    no_process_left(demo)
    assert demo.returncode == status, f"exit status {demo.returncode}, expected {status}"
    assert keeps or os.listdir(directory) == [], os.listdir(directory)


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    report = junit.Report("demo_test")

    def case(name, function, *args):
        with tempfile.TemporaryDirectory(prefix="kvtier-demo-test-") as directory:
            report.run(name, function, directory, *args)

    case("demo_ok", check_demo)
    case("failing_demo", check_failing_demo)
    alone, with_daemon = "without the daemon", "3 workers"
    for number, when in ((signal.SIGHUP, with_daemon), (signal.SIGTERM, alone), (signal.SIGINT, alone)):
        signal.signal(number, signal.SIG_DFL)  # not ignored, as in a shell's background
        case(f"nothing_left_by_{number.name}", check_signal, number, 128 + number, False, when)
    # Nobody can clean up after this one, but the processes go with it.
    case("no_process_left_by_SIGKILL", check_signal, signal.SIGKILL, -signal.SIGKILL, True, with_daemon)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
