"""Writes and reads JUnit XML, the one format in which every test of kvtier reports.

A Python test builds a Report, runs its cases through Report.run(), and ends with
`sys.exit(report.finish())`, which writes the file named by KVTIER_JUNIT and prints a summary.
"""

import os
import sys
import time
import traceback
import xml.etree.ElementTree as ET

# What XML 1.0 cannot carry, such as the escape codes in a compiler's output.
_BAD = {c: "?" for c in range(32) if chr(c) not in "\t\n\r"}


class Skip(Exception):
    """Raised inside a case: it was not run, for the reason given."""


class Case:
    def __init__(self, name, seconds=0.0, failure=None, skipped=None):
        self.name, self.seconds, self.failure, self.skipped = name, seconds, failure, skipped


class Report:
    def __init__(self, suite):
        self.suite = suite
        self.cases = []

    def run(self, name, function, *args):
        """Runs one case. An exception fails it (AssertionError: its text, others: the traceback)."""
        start = time.monotonic()
        case = Case(name)
        try:
            function(*args)
        except Skip as reason:
            case.skipped = str(reason)
        except AssertionError as error:
            case.failure = str(error) or traceback.format_exc()
        except Exception:  # a broken test is a failed test
            case.failure = traceback.format_exc()
        case.seconds = time.monotonic() - start
        self.cases.append(case)
        verdict = "FAILED" if case.failure else "skipped" if case.skipped else "ok"
        print(f"{verdict:>8}  {name}  ({case.seconds:.2f} s)", flush=True)
        if case.failure or case.skipped:
            print(case.failure or case.skipped, flush=True)
        return not case.failure

    def add(self, name, seconds=0.0, failure=None, skipped=None):
        self.cases.append(Case(name, seconds, failure, skipped))

    def write(self, path):
        """Writes to a temporary name and renames, so a reader never sees half a file."""
        suite = ET.Element("testsuite", name=self.suite, tests=str(len(self.cases)),
                           failures=str(sum(1 for c in self.cases if c.failure)),
                           skipped=str(sum(1 for c in self.cases if c.skipped)))
        for case in self.cases:
            element = ET.SubElement(suite, "testcase", classname=self.suite, name=case.name,
                                    time=f"{case.seconds:.3f}")
            if case.failure:
                text = case.failure.translate(_BAD)
                first = text.strip().splitlines()[0][:200] if text.strip() else "failed"
                ET.SubElement(element, "failure", message=first).text = text
            elif case.skipped:
                ET.SubElement(element, "skipped", message=case.skipped.translate(_BAD))
        root = ET.Element("testsuites")
        root.append(suite)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        ET.ElementTree(root).write(path + ".tmp", encoding="utf-8", xml_declaration=True)
        os.replace(path + ".tmp", path)

    def finish(self):
        """Writes the file named by KVTIER_JUNIT, if any; returns the exit status."""
        path = os.environ.get("KVTIER_JUNIT")
        if path:
            self.write(path)
        failed = sum(1 for c in self.cases if c.failure)
        skipped = sum(1 for c in self.cases if c.skipped)
        print(f"{self.suite}: {len(self.cases)} cases, {failed} failed, {skipped} skipped")
        if not self.cases:
            print(f"{self.suite}: no case was run", file=sys.stderr)
        return 1 if failed or not self.cases else 0


def count(path):
    """(passed, failed, skipped) of one JUnit or gtest file. Raises ValueError if it is no such file."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as error:
        raise ValueError(f"{path}: {error}") from error
    if root.tag not in ("testsuites", "testsuite"):
        raise ValueError(f"{path}: root element is <{root.tag}>, not <testsuites>")
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif (case.find("skipped") is not None or case.get("status") == "notrun"
              or case.get("result") in ("skipped", "suppressed")):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped
