"""Proves that scripts/test cannot be fooled: a runner that crashes, hangs, is missing, reports nothing or half
a file is counted as failed. Real CTest runs small runners in a temporary directory.
"""

import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "tests", "support"), os.path.join(ROOT, "scripts")]
import junit  # noqa: E402
import sum_results  # noqa: E402

PASS = '<testcase name="a" status="run" result="completed"/>'
FAIL = '<testcase name="b" status="run"><failure message="no"/></testcase>'
SKIP = '<testcase name="c" status="run" result="skipped"><skipped message="no device"/></testcase>'
ROOT_ONLY = ('<testcase name="r" status="run" result="skipped"><skipped message="a_test.cc:34&#x0A;needs root, to run '
             'clients as other users"/></testcase>')
OFF = '<testcase name="d" status="notrun" result="suppressed"/>'


def xml(*cases):
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


# runner -> (what it writes, how it ends, (passed, failed, skipped) expected)
RUNNERS = {
    "passes": (xml(PASS, PASS, SKIP, OFF), "exit 0", (2, 0, 2)),
    "fails": (xml(PASS, FAIL), "exit 1", (1, 1, 0)),
    "fails_but_exits_0": (xml(PASS, FAIL), "exit 0", (1, 1, 0)),
    "passes_but_exits_1": (xml(PASS), "exit 1", (1, 1, 0)),
    "passes_but_crashes": (xml(PASS), "kill -SEGV $$", (1, 1, 0)),
    "crashes": (None, "kill -SEGV $$", (0, 1, 0)),
    "writes_nothing": (None, "exit 0", (0, 1, 0)),
    "writes_half": (xml(PASS, PASS)[:40], "exit 0", (0, 1, 0)),
    "writes_no_xml": ("ok", "exit 0", (0, 1, 0)),
    "writes_other_xml": ("<html/>", "exit 0", (0, 1, 0)),
    "runs_no_case": (xml(), "exit 0", (0, 1, 0)),
    "hangs": (None, "exec tail -f /dev/null", (0, 1, 0)),
    "passes_then_hangs": (xml(PASS), "exec tail -f /dev/null", (1, 1, 0)),
}


def quote(text):
    return f"[==[{text}]==]"


def make_project(directory, names, missing=False):
    """A CTest directory, as CMake would have left it, with a shell script for each runner."""
    lines = []
    for name in names:
        text, ending, _ = RUNNERS[name]
        path = os.path.join(directory, f"{name}.xml")
        script = os.path.join(directory, f"{name}.sh")
        with open(script, "w", encoding="utf-8") as file:
            if text is not None:
                file.write(f"printf %s {chr(39)}{text}{chr(39)} > {path}\n")
            file.write(ending + "\n")
        lines.append(f"add_test({name} /bin/bash {quote(script)} {quote('--gtest_output=xml:' + path)})")
        lines.append(f"set_tests_properties({name} PROPERTIES TIMEOUT 2)")
    if missing:
        path = os.path.join(directory, "absent.xml")
        lines.append(f"add_test(absent {quote(os.path.join(directory, 'absent'))})")
        lines.append(f"set_tests_properties(absent PROPERTIES ENVIRONMENT {quote('KVTIER_JUNIT=' + path)})")
    with open(os.path.join(directory, "CTestTestfile.cmake"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def run_ctest(directory):
    base = ["ctest", "--test-dir", directory]
    listing = subprocess.run(base + ["--show-only=json-v1"], capture_output=True, text=True, check=True)
    with open(os.path.join(directory, "x.listing.json"), "w", encoding="utf-8") as file:
        file.write(listing.stdout)
    subprocess.run(base + ["-j4", "--output-junit", os.path.join(directory, "x.ctest.xml")],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    write_phases(directory, [{"name": "x", "kind": "ctest"}])


def write_phases(directory, phases):
    with open(os.path.join(directory, "phases.json"), "w", encoding="utf-8") as file:
        json.dump(phases, file)


def sums(directory):
    total = sum_results.sum_directory(directory)
    return (total.passed, total.failed, total.skipped), total.problems


def check_each_runner(found, problems, name):
    expected = RUNNERS[name][2]
    assert found == expected, f"{name}: {found}, expected {expected}: {problems}"
    assert bool(problems) == bool(expected[1]), problems


def check_all_runners_together(directory):
    make_project(directory, RUNNERS, missing=True)
    run_ctest(directory)
    found, problems = sums(directory)
    expected = tuple(sum(r[2][i] for r in RUNNERS.values()) + (1 if i == 1 else 0) for i in range(3))
    assert found == expected, f"{found}, expected {expected}: {problems}"
    for name, (_, _, (_, failed, _)) in RUNNERS.items():
        assert any(f"x/{name}:" in p for p in problems) == bool(failed), (name, problems)
    assert any("x/absent:" in p for p in problems), problems
    done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "sum_results.py"), directory],
                          capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1]
    assert last == "%d passed, %d failed, %d skipped" % expected, last
    assert done.returncode == 1, done.returncode


def check_old_results_alone_do_not_pass(directory):
    """CTest's own file is missing, as if it had been killed: what lies there is not believed."""
    make_project(directory, ["passes"])
    run_ctest(directory)
    os.unlink(os.path.join(directory, "x.ctest.xml"))
    found, problems = sums(directory)
    assert found == (2, 1, 2) and problems, (found, problems)


def check_missing_list_of_runners(directory):
    write_phases(directory, [{"name": "x", "kind": "ctest"}])
    assert sums(directory)[0] == (0, 1, 0), sums(directory)


def check_missing_report(directory):
    write_phases(directory, [{"name": "format", "kind": "report"}])
    assert sums(directory)[0] == (0, 1, 0), sums(directory)


def check_missing_phases(directory):
    assert sums(directory)[0] == (0, 1, 0), sums(directory)


def check_no_runner_matches(directory):
    make_project(directory, [])
    run_ctest(directory)
    assert sums(directory)[0] == (0, 1, 0), sums(directory)


def check_all_passed(directory):
    make_project(directory, ["passes"])
    run_ctest(directory)
    done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "sum_results.py"), directory],
                          capture_output=True, text=True, check=False)
    assert done.stdout == "2 passed, 0 failed, 2 skipped\n" and done.returncode == 0, done


def check_root_only(directory, ci, expected):
    """A test that needs root may be skipped by a user, and not by CI, which would never run it."""
    path = os.path.join(directory, "x.xml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(xml(PASS, SKIP, ROOT_ONLY, ROOT_ONLY))
    write_phases(directory, [{"name": "x", "kind": "report"}])
    done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "sum_results.py"), directory],
                          capture_output=True, text=True, env={**os.environ, "CI": ci}, check=False)
    assert done.stdout.splitlines()[-1] == "%d passed, %d failed, %d skipped" % expected, done.stdout
    assert done.returncode == bool(expected[1]), done.returncode
    assert ("has to run this as root: r, r" in done.stdout) == bool(expected[1]), done.stdout


def check_report_survives_strange_output(directory):
    report = junit.Report("strange")
    report.add("escape codes", failure="\x1b[31mred\x1b[0m & <tags> \x00")
    report.add("fine")
    path = os.path.join(directory, "strange.xml")
    report.write(path)
    assert junit.count(path) == (1, 1, 0), junit.count(path)


def main():
    report = junit.Report("sum_results_test")

    def case(name, function, *args):
        with tempfile.TemporaryDirectory(prefix="kvtier-sums-") as directory:
            report.run(name, function, directory, *args)

    with tempfile.TemporaryDirectory(prefix="kvtier-sums-") as directory:
        make_project(directory, RUNNERS)
        run_ctest(directory)
        ended = sum_results.endings(os.path.join(directory, "x.ctest.xml"))
        for name, path in sum_results.expected_runners(os.path.join(directory, "x.listing.json")):
            total = sum_results.Total()
            sum_results.sum_runner(total, name, path, ended.get(name))
            report.run(f"runner_{name}", check_each_runner,
                       (total.passed, total.failed, total.skipped), total.problems, name)
    case("all_runners_together", check_all_runners_together)
    case("old_results_alone_do_not_pass", check_old_results_alone_do_not_pass)
    case("missing_list_of_runners", check_missing_list_of_runners)
    case("missing_report", check_missing_report)
    case("missing_phases", check_missing_phases)
    case("no_runner_matches", check_no_runner_matches)
    case("all_passed", check_all_passed)
    case("needs_root", check_root_only, "", (1, 0, 3))
    case("needs_root_in_ci", check_root_only, "true", (1, 2, 1))
    case("report_survives_strange_output", check_report_survives_strange_output)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
