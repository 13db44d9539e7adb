"""Builds kvtier and runs its tests; scripts/test calls it after installing what is missing.

The last line of output is `N passed, N failed, N skipped`; the exit status is 1 if anything failed, 2 for a
wrong argument. Results and logs are in build/test-results.
"""

import argparse
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import leftovers  # noqa: E402
import sum_results  # noqa: E402
from sum_results import junit  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "test-results"
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:check_initialization_order=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
# Labels of tests that a plain run leaves to --all. Instrumented builds have fewer (cmake/kvtier_targets.cmake).
SLOW_LABELS = "install|kills|model"
BUILD_SECONDS_MAX = 45 * 60
CTEST_SECONDS_MAX = 30 * 60
# GoogleTest's and junit.py's line of a failed expectation, and how many of those after it, which say
# what failed, are shown.
FAILURE = re.compile(r"Failure$|^ *FAILED  ")
LINES_OF_FAILURE = 8
LINE_CHARACTERS_MAX = 300


def tell(text):
    """Prints, as long as somebody reads: a run whose reader went away goes on, and cleans up."""
    try:
        print(text, flush=True)
    except OSError:  # a closed pipe or terminal
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Run:
    """One test run: its phases, in order, and what they reported."""

    def __init__(self, args):
        self.args = args
        self.start = time.monotonic() - float(os.environ.get("KVTIER_SETUP_SECONDS", 0))
        self.jobs = args.jobs
        self.phases = []
        shutil.rmtree(RESULTS, ignore_errors=True)
        RESULTS.mkdir(parents=True)
        self.watch = leftovers.Watch()
        self.leftover = junit.Report("leftovers")

    def say(self, text):
        tell(f"[{time.monotonic() - self.start:5.0f}s] {text}")

    def plan(self, name, kind):
        """Phases are written down before they run, so that one that vanishes is missed."""
        self.phases.append({"name": name, "kind": kind})
        (RESULTS / "phases.json").write_text(json.dumps(self.phases))

    def execute(self, command, log_name, seconds_max, show, environment=None):
        """Runs a command in a session of its own; returns (exit status, last lines, seconds).

        Everything it prints goes to a log; lines matching `show` are also shown, with what follows a failure,
        and otherwise the last one every 20 s. At `seconds_max` it is killed, with status 124.
        """
        began = shown = time.monotonic()
        following = 0
        lines, tail, status = queue.Queue(), [], None
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace",
                                   env={**os.environ, **(environment or {})}, start_new_session=True)

        def read():
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        try:
            with open(RESULTS / f"{log_name}.log", "w", encoding="utf-8") as log:
                while True:
                    now = time.monotonic()
                    if now - began > seconds_max:
                        tail.append(f"killed: no end after {seconds_max} s")
                        status = 124
                        break
                    try:
                        line = lines.get(timeout=1)
                    except queue.Empty:
                        # A child that outlives the command may hold the pipe; it is a leftover.
                        if process.poll() is not None:
                            break
                        line = ""
                    if line is None:  # it has closed its output, and may go on without
                        try:
                            process.wait(timeout=max(0.0, began + seconds_max - now))
                        except subprocess.TimeoutExpired:
                            continue
                        break
                    if line:
                        log.write(line)
                        log.flush()
                        tail = tail[-59:] + [line.rstrip()]
                    if line and show and (following > 0 or show.search(line)):
                        self.say(line.rstrip()[:LINE_CHARACTERS_MAX])
                        following = LINES_OF_FAILURE if FAILURE.search(line) else following - 1
                        shown = now
                    elif now - shown > 20:
                        self.say(f"  ... {tail[-1][:120] if tail else 'no output yet'}")
                        shown = now
        finally:
            if status is not None or process.poll() is None and sys.exc_info()[0] is not None:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            ended = process.wait()
        return status if status is not None else ended, tail, time.monotonic() - began

    def checked(self, name, command, seconds_max, show=None, environment=None):
        """A phase that is one case: the command succeeds."""
        self.plan(name, "report")
        self.say(f"{name}: {' '.join(command)}")
        status, tail, seconds = self.execute(command, name, seconds_max, show, environment)
        report = junit.Report(name)
        failure = None
        if status != 0:
            failure = f"exit status {status}: {' '.join(command)}\n" + "\n".join(tail)
            tell("\n".join(tail))
        report.add(name, seconds, failure)
        report.write(str(RESULTS / f"{name}.xml"))
        self.say(f"{name}: {'FAILED' if failure else 'ok'} in {seconds:.0f} s (log: {self.log(name)})")
        return failure is None

    def reporting(self, name, command, seconds_max, show):
        """A phase that writes its own JUnit file, to the path in KVTIER_JUNIT."""
        self.plan(name, "report")
        xml = RESULTS / f"{name}.xml"
        self.say(f"{name}: {' '.join(command)}")
        status, tail, seconds = self.execute(command, name, seconds_max, show,
                                             {"KVTIER_JUNIT": str(xml)})
        try:
            failed = junit.count(str(xml))[1]
        except ValueError:
            failed = 0
        if status != 0 and not failed:
            tell("\n".join(tail))
            report = junit.Report(name)
            report.add(name, seconds, f"exit status {status}\n" + "\n".join(tail))
            report.write(str(xml))
        self.say(f"{name}: {'ok' if status == 0 else 'FAILED'} in {seconds:.0f} s (log: {self.log(name)})")

    def log(self, name):
        return (RESULTS / f"{name}.log").relative_to(ROOT)

    def build(self, preset, targets=()):
        environment = {"KVTIER_JOBS": str(self.jobs)}
        return self.checked(f"build-{preset}", ["scripts/build", preset, *targets], BUILD_SECONDS_MAX,
                            environment=environment)

    def ctest(self, preset, selection):
        """Runs the build's tests that the selection (ctest arguments) names."""
        build = ROOT / "build" / preset
        shutil.rmtree(build / "test-results", ignore_errors=True)
        (build / "Testing" / "Temporary" / "LastTestsFailed.log").unlink(missing_ok=True)
        base = ["ctest", "--test-dir", str(build), *selection]
        if self.args.filter:
            base += ["-R", self.args.filter]
        listing = subprocess.run(base + ["--show-only=json-v1"], capture_output=True, text=True,
                                 check=False)
        try:
            empty = not json.loads(listing.stdout)["tests"]
        except (ValueError, KeyError):
            empty = False  # not readable: the sum says so
        if self.args.filter and empty:
            self.say(f"{preset}: no test matches {self.args.filter}")
            return
        self.plan(preset, "ctest")
        (RESULTS / f"{preset}.listing.json").write_text(listing.stdout)
        command = base + ["--parallel", str(min(self.jobs, 4)), "--output-on-failure", "--no-tests=error",
                          "--output-junit", str(RESULTS / f"{preset}.ctest.xml")]
        self.say(f"{preset}: {' '.join(command)}")
        show = re.compile(r"^\s*\d+/\d+ Test|\*\*\*|^\[  FAILED  \]|FAILED|Failure$|ERROR: |SUMMARY: ")
        status, tail, seconds = self.execute(command, preset, CTEST_SECONDS_MAX, show,
                                             {**SANITIZER_OPTIONS, **self.watch.environment()})
        if status == 124:
            tell("\n".join(tail))
        self.say(f"{preset}: ctest ended with {status} in {seconds:.0f} s (log: {self.log(preset)})")
        self.note_leftovers(preset)

    def note_leftovers(self, after):
        for kind, found in (("processes", self.watch.processes()), ("files", self.watch.files())):
            failure = f"left behind by {after}:\n" + "\n".join(found) if found else None
            self.leftover.add(f"{after}: no {kind} left behind", failure=failure)
            if failure:
                self.say(failure)

    def everything(self):
        """The phases after Release, cheap ones first."""
        if not self.args.filter:
            self.reporting("format", ["python3", "scripts/check_sources.py", "format"], 300,
                           re.compile("^FAILED"))
            self.reporting("clang-tidy", ["python3", "scripts/check_sources.py", "tidy", "--changed",
                                          "--jobs", str(self.jobs)], 15 * 60,
                           re.compile("^clang-tidy:|FAILED"))
        if self.build("tsan", ["kvtier_tests"]):
            self.ctest("tsan", [])
        if self.build("asan", ["kvtier_tests", "kvtier_programs"]):
            self.ctest("asan", [])

    def run(self):
        problem = None
        try:
            self.plan("leftovers", "report")
            if self.build("release"):
                self.ctest("release", [] if self.args.all else ["-LE", SLOW_LABELS])
            if self.args.all:
                self.everything()
        except KeyboardInterrupt:
            problem = "interrupted: what came after was not run"
        except Exception:  # whatever went wrong here: it is counted, and cleaned up after
            problem = f"the run itself failed, and what came after was not run\n{traceback.format_exc()}"
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self.finish([problem] if problem else [])

    def finish(self, problems):
        """Cleans up, and ends with the sum whatever fails on the way."""
        def attempt(step, *arguments):
            try:
                return step(*arguments)
            except Exception:  # the next step is tried all the same
                problems.append(f"the end of the run failed\n{traceback.format_exc()}")
                return None

        attempt(self.note_leftovers, "the whole run")
        attempt(self.leftover.write, str(RESULTS / "leftovers.xml"))
        attempt(self.watch.close)
        total = attempt(sum_results.sum_directory, str(RESULTS)) or sum_results.Total()
        if self.args.filter and not any(phase["kind"] == "ctest" for phase in self.phases):
            problems.append(f"no test was run; filter: {self.args.filter}")
        for problem in problems:
            total.fail(problem)
        self.say(f"done; results and logs in {RESULTS}")
        for problem in total.problems:
            tell(f"FAILED  {problem}")
        tell(total)
        return 1 if total.failed else 0


def interrupt(_signal, _frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/test", description=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true",
                        help="also ASan+UBSan, TSan, fuzzers, clang-tidy on what changed, format, the "
                             "installed package, the model of read sections")
    parser.add_argument("--filter", metavar="REGEX", help="only the tests whose CTest name matches (no format, no "
                             "clang-tidy)")
    parser.add_argument("--jobs", type=int,
                        default=int(os.environ.get("KVTIER_JOBS", 0)) or len(os.sched_getaffinity(0)),
                        help="compilers at a time, and tests, of these at most 4; default: KVTIER_JOBS, else one "
                             "per processor")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs is {args.jobs}, below 1")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    os.chdir(ROOT)
    try:
        run = Run(args)
    except (Exception, KeyboardInterrupt):
        tell(f"FAILED  the run could not start\n{traceback.format_exc()}\n0 passed, 1 failed, 0 skipped")
        return 1
    return run.run()


if __name__ == "__main__":
    sys.exit(main())
