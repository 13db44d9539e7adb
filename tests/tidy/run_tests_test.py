"""Proves that scripts/test ends as it promises whatever happens to it: a command that hangs is killed at its limit,
an error of the run itself, or an output that nobody reads, loses neither the last line nor the cleaning up.
Each case runs in a process of its own, with a temporary directory as the source tree.
"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import junit  # noqa: E402

SECONDS_MAX = 60
SETUP = """
import argparse, os, pathlib, subprocess, sys
sys.path.insert(0, sys.argv[1])
import leftovers, run_tests
root = pathlib.Path(sys.argv[2])
run_tests.ROOT, run_tests.RESULTS = root, root / "build" / "test-results"
os.chdir(root)

class Run(run_tests.Run):
    def build(self, preset, targets=()):
        return work(self)

run = Run(argparse.Namespace(jobs=1, filter=None, all=False))
(root / "watched").write_text(run.watch.directory)
"""
RUN = "sys.exit(run.run())\n"


def python(directory, script, **options):
    return subprocess.run([sys.executable, "-c", script, os.path.join(ROOT, "scripts"), directory], text=True,
                          stderr=subprocess.PIPE, timeout=SECONDS_MAX, check=False,
                          env={**os.environ, "TMPDIR": directory, "CI": ""}, **options)


def check_limit(directory, command):
    """Status 124 soon after the limit of one second, and no process left."""
    done = python(directory, SETUP + f"""
status, tail, seconds = run.execute(["bash", "-c", {command!r}], "hangs", 1, None)
assert status == 124, (status, tail)
assert 1 <= seconds < 20, seconds
assert "no end after 1 s" in tail[-1], tail
assert run.watch.processes(grace_seconds=0.1) == []
run.watch.close()
""", stdout=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def check_status_after_closed_output(directory):
    done = python(directory, SETUP + """
status, _, _ = run.execute(["bash", "-c", "echo a; exec >&- 2>&-; exit 7"], "ends", 20, None)
assert status == 7, status
run.watch.close()
""", stdout=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def check_reason_shown(directory):
    done = python(directory, SETUP + """
import re
run.execute(["printf", "  FAILED  case  (1.2 s)\\nwhy\\na_test.cc:7: Failure\\nExpected\\n"], "fails", 20,
            re.compile("FAILED|Failure$"))
run.execute(["printf", "passed\\nnoise\\n"], "passes", 20, re.compile("FAILED|Failure$"))
run.watch.close()
""", stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert "why" in done.stdout and "Expected" in done.stdout, done.stdout
    assert "noise" not in done.stdout, done.stdout


# What the run does -> how many cases fail by it. The orphan is a leftover, and so is the file.
ORPHAN = """
def work(run):
    subprocess.run(["bash", "-c", "setsid tail -f /dev/null & disown"], check=True)
    open(os.path.join(run.watch.directory, "forgotten"), "w").close()
"""
ERRORS = {
    "nothing": ("    return False\n", 2),
    "an_exception": ("    raise OSError(28, 'No space left on device')\n", 3),
    "an_interrupt": ("    raise KeyboardInterrupt\n", 3),
    "results_removed": ("    import shutil; shutil.rmtree(run_tests.RESULTS)\n", None),
    "a_result_that_cannot_be_written": ("    os.mkdir(run_tests.RESULTS / 'leftovers.xml')\n", None),
}


def check_error(directory, text, failed):
    done = python(directory, ORPHAN + text + SETUP + RUN, stdout=subprocess.PIPE)
    last = done.stdout.splitlines()[-1] if done.stdout else ""
    match = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", last)
    assert match, done.stdout + done.stderr
    assert done.returncode == 1, done.returncode
    assert "tail -f /dev/null" in done.stdout and "forgotten" in done.stdout, done.stdout
    if failed is not None:
        assert int(match.group(2)) == failed, done.stdout
    check_nothing_left(directory)


def check_nothing_left(directory):
    with open(os.path.join(directory, "watched"), encoding="utf-8") as file:
        watched = file.read()
    assert not os.path.exists(watched), os.listdir(watched)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert directory not in running, running


def check_reader_gone(directory):
    """`scripts/test | head -1`: it runs to its end."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = python(directory, "def work(run):\n    for _ in range(9): run.say('x' * 9999)\n"
                      "    (root / 'done').touch()\n" + SETUP + RUN, stdout=write)
    finally:
        os.close(write)
    assert os.path.exists(os.path.join(directory, "done")), done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    assert done.returncode == 0, (done.returncode, done.stderr)
    check_nothing_left(directory)


def check_no_start(directory):
    """Not even the directory for results can be made."""
    with open(os.path.join(directory, "build"), "w", encoding="utf-8"):
        pass
    script = SETUP.split("class Run")[0] + """
sys.argv[1:] = []
run_tests.os.chdir = lambda path: None
sys.exit(run_tests.main())
"""
    done = python(directory, script, stdout=subprocess.PIPE)
    assert done.stdout.endswith("\n0 passed, 1 failed, 0 skipped\n"), done.stdout + done.stderr
    assert done.returncode == 1, done.returncode


def check_usage(name):
    """What people call is what --help is about, whichever program answers."""
    done = subprocess.run([os.path.join(ROOT, "scripts", name), "--help"], capture_output=True, text=True, check=False,
                          timeout=SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: scripts/{name}"), done.stdout[:200]


def main():
    report = junit.Report("run_tests_test")

    def case(name, function, *args):
        with tempfile.TemporaryDirectory(prefix="kvtier-run-") as directory:
            report.run(name, function, directory, *args)

    case("hangs", check_limit, "exec tail -f /dev/null")
    case("closes_its_output_and_hangs", check_limit, "exec >/dev/null 2>&1; exec tail -f /dev/null")
    case("closes_its_output_and_hangs_in_a_child", check_limit, "exec >/dev/null 2>&1; tail -f /dev/null & wait")
    case("closes_its_output_and_ends", check_status_after_closed_output)
    case("says_why_something_failed", check_reason_shown)
    for name, (text, failed) in ERRORS.items():
        case(f"ends_well_after_{name}", check_error, text, failed)
    case("reader_gone", check_reader_gone)
    case("no_start", check_no_start)
    for name in ("build", "check", "demo", "format", "setup", "test"):
        report.run(f"usage_of_{name}", check_usage, name)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
