#!/usr/bin/env python3
"""Sums what the runners of a test run reported into `N passed, N failed, N skipped`.

usage: scripts/sum_results.py RESULT_DIR

RESULT_DIR/phases.json lists what was to be run, so that a missing answer is seen:
  {"name": "asan", "kind": "ctest"}   asan.listing.json (`ctest --show-only=json-v1`) names the runners and
                                      where each writes its JUnit file; asan.ctest.xml (`--output-junit`)
                                      says how each ended
  {"name": "format", "kind": "report"}  format.xml is its JUnit file

Cases are counted in the JUnit files. A runner is at least one failed case when it crashed, timed out, was
not started, ended with a status other than 0, left no file, half a file, or a file without a case.
With CI=true a case that was skipped because it needs root counts as failed: CI has to run it somewhere.
"""

import json
import os
import sys
import xml.etree.ElementTree as ET

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "support"))
import junit  # noqa: E402

_GTEST_XML = "--gtest_output=xml:"
_JUNIT_VARIABLE = "KVTIER_JUNIT="


_NEEDS_ROOT = "needs root"  # what such a test says when it skips itself


class Total:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.problems = []  # one line each: what failed, and where to look

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def fail(self, problem, cases=1):
        self.failed += cases
        self.problems.append(problem)

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def expected_runners(listing_path):
    """[(name, path of its JUnit file or None)] from `ctest --show-only=json-v1`."""
    with open(listing_path, encoding="utf-8") as file:
        listing = json.load(file)
    runners = []
    for test in listing["tests"]:
        path = None
        for word in test.get("command", []):
            if word.startswith(_GTEST_XML):
                path = word[len(_GTEST_XML):]
        for item in test.get("properties", []):
            if item["name"] == "ENVIRONMENT":
                for entry in item["value"]:
                    if entry.startswith(_JUNIT_VARIABLE):
                        path = entry[len(_JUNIT_VARIABLE):]
        runners.append((test["name"], path))
    return runners


def endings(ctest_xml):
    """{runner: "ok", or how it ended} from CTest's own JUnit file."""
    result = {}
    for case in ET.parse(ctest_xml).getroot().iter("testcase"):
        failure = case.find("failure")
        if case.get("status") == "run" and failure is None:
            result[case.get("name")] = "ok"
        else:
            message = (failure.get("message") if failure is not None else None) or case.get("status")
            result[case.get("name")] = message or "unknown"
    return result


def skipped_for_root(path):
    """Names of the cases in a readable JUnit file that another user than root cannot run."""
    return [case.get("name") for case in ET.parse(path).getroot().iter("testcase")
            for skipped in case.findall("skipped")
            if _NEEDS_ROOT in (skipped.get("message") or "") + (skipped.text or "")]


def sum_runner(total, name, path, ending):
    """Adds one runner; `ending` is "ok", how it failed, or None when CTest does not mention it."""
    if path is None:
        total.fail(f"{name}: its command names no JUnit file")
        return
    try:
        passed, failed, skipped = junit.count(path)
    except ValueError as error:
        total.fail(f"{name}: {ending or 'not run'}; no readable result: {error}")
        return
    total.add(passed, failed, skipped)
    unwilling = skipped_for_root(path) if os.environ.get("CI") == "true" else []
    if unwilling:
        total.skipped -= len(unwilling)
        total.fail(f"{name}: CI has to run this as root: {', '.join(unwilling)}", len(unwilling))
    if failed:
        total.problems.append(f"{name}: {failed} failed, see {path}")
    elif ending is None:
        total.fail(f"{name}: was not run, though {path} is there")
    elif ending != "ok":
        total.fail(f"{name}: every case passed, but the runner did not: {ending}")
    elif passed + skipped == 0:
        total.fail(f"{name}: {path} holds no case")


def sum_phase(total, directory, phase):
    name = phase["name"]
    base = os.path.join(directory, name)
    if phase["kind"] == "report":
        sum_runner(total, name, base + ".xml", "ok")
        return
    try:
        runners = expected_runners(base + ".listing.json")
    except (OSError, ValueError, KeyError, TypeError) as error:
        total.fail(f"{name}: the list of its runners cannot be read: {error}")
        return
    if not runners:
        total.fail(f"{name}: no runner matches")
    try:
        ended = endings(base + ".ctest.xml")
    except (OSError, ET.ParseError) as error:
        total.problems.append(f"{name}: CTest's own result cannot be read: {error}")
        ended = {}
    for runner, path in runners:
        sum_runner(total, f"{name}/{runner}" if name else runner, path, ended.get(runner))


def sum_directory(directory):
    total = Total()
    try:
        with open(os.path.join(directory, "phases.json"), encoding="utf-8") as file:
            phases = json.load(file)
        for phase in phases:
            sum_phase(total, directory, phase)
        if not phases:
            total.fail("phases.json lists no phase")
    except (OSError, ValueError, KeyError, TypeError) as error:
        total.fail(f"phases.json: {error}")
    return total


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) == 2 else 2
    total = sum_directory(sys.argv[1])
    for problem in total.problems:
        print(f"FAILED  {problem}")
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
