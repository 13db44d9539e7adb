"""Proves that scripts/verify_bound.py and the verifier in C++ agree to the last quantum, on right and wrong
certificates of small instances, and that damaged files are refused.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "tests", "support"), os.path.join(ROOT, "scripts")]
import junit  # noqa: E402
import verify_bound  # noqa: E402

COUNT = 240


def seed():
    value = os.environ.get("KVTIER_TEST_SEED", "11")
    print(f"KVTIER_TEST_SEED={value}")
    return value


def paths(folder, number):
    return os.path.join(folder, f"{number}.instance"), os.path.join(folder, f"{number}.certificate")


def verdicts(folder):
    with open(os.path.join(folder, "verdicts"), encoding="ascii") as file:
        return [line.split() for line in file]


def both_agree(folder):
    held = 0
    for number, quanta, verdict in verdicts(folder):
        instance = verify_bound.read(paths(folder, number)[0], verify_bound.Instance)
        certificate = verify_bound.read(paths(folder, number)[1], verify_bound.Certificate)
        try:
            mine = str(verify_bound.verify(instance, certificate))
            assert verdict == "holds", f"case {number}: holds here and is {verdict} there"
            assert mine == quanta, f"case {number}: {mine} quanta here and {quanta} there"
            held += 1
        except verify_bound.Refused as why:
            assert verdict == "refused", f"case {number}: {why}"
            if quanta != "none" and "another instance" not in str(why):
                mine = verify_bound.proven(instance, certificate)
                assert str(mine) == quanta, f"case {number}: {mine} quanta here and {quanta} there"
    refused = COUNT - held
    print(f"{held} hold, {refused} are refused")
    assert held > COUNT // 3 and refused > COUNT // 10, (held, refused)


def command(*arguments):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "verify_bound.py"), *arguments],
                          capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def the_command_says_so(folder):
    seen = set()
    for number, _, verdict in verdicts(folder)[:24]:
        status, said = command(*paths(folder, number))
        assert (status, said["holds"]) == ((0, True) if verdict == "holds" else (1, False)), (number, status, said)
        if verdict == "holds":
            assert said["claimed_quanta"] <= said["proven_quanta"]
        seen.add(verdict)
    assert seen == {"holds", "refused"}, seen
    assert command("/nonexistent", "/nonexistent")[0] == 2
    assert command()[0] == 2


def another_problem_is_named(folder):
    own, certificate = paths(folder, 0)
    made = verify_bound.read(certificate, verify_bound.Certificate)
    with open(own, "rb") as file:
        its_digest = hashlib.sha256(file.read()).hexdigest()
    other = next(path for path, _ in (paths(folder, number) for number in range(1, COUNT))
                 if verify_bound.read(path, verify_bound.Instance).phases != made.phases)
    instance = verify_bound.read(other, verify_bound.Instance)
    made.digest = bytes.fromhex(its_digest)
    try:
        verify_bound.verify(instance, made)
    except verify_bound.Refused as why:
        for needed in ("another instance", f"prices for {made.phases} phases", f"has {instance.phases} of",
                       its_digest, instance.digest.hex(), f"{len(instance.accesses)} blocks"):
            assert needed in str(why), (needed, str(why))
        return
    raise AssertionError("another problem's certificate holds")


def damaged_files_are_refused(folder):
    instance, certificate = paths(folder, 0)
    with open(instance, "rb") as file:
        instance_bytes = file.read()
    with open(certificate, "rb") as file:
        certificate_bytes = file.read()
    for data, kind in ((instance_bytes, verify_bound.Instance), (certificate_bytes, verify_bound.Certificate)):
        for cut in range(0, len(data), 7):
            try:
                kind(data[:cut], "cut")
            except verify_bound.Unreadable:
                continue
            raise AssertionError(f"{kind.__name__} cut at byte {cut} was read")
    for at in range(len(certificate_bytes)):
        changed = bytearray(certificate_bytes)
        changed[at] ^= 4
        try:
            verify_bound.Certificate(bytes(changed), "changed")
        except verify_bound.Unreadable:
            continue
        raise AssertionError(f"a certificate changed at byte {at} was read")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", required=True, help="the program bound_cases")
    options = parser.parse_args()
    report = junit.Report("verify_bound_test")
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run([options.cases, folder, str(COUNT), seed()], check=False)
        if report.run("cases_are_written", lambda: made.check_returncode()):
            report.run("both_verifiers_agree", both_agree, folder)
            report.run("the_command_says_so", the_command_says_so, folder)
            report.run("another_problem_is_named", another_problem_is_named, folder)
            report.run("damaged_files_are_refused", damaged_files_are_refused, folder)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
