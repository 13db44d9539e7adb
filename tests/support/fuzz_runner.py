"""Runs one libFuzzer program: its corpus as it stands, then a bounded number of mutations.

Two cases, `corpus` and `mutations`. What a failing run writes (the input that crashes) is kept beside the
test results and named in the failure; all else goes to a temporary directory.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import junit  # noqa: E402


def run(command, seconds):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                              errors="replace", check=False)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"no end after {seconds} s: {' '.join(command)}") from error
    tail = "\n".join(done.stdout.splitlines()[-60:])
    assert done.returncode == 0, f"exit status {done.returncode}: {' '.join(command)}\n{tail}"
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fuzzer", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--runs", type=int, default=20000, help="mutations at most")
    parser.add_argument("--seconds", type=int, default=20, help="time for them at most")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    report = junit.Report(os.path.basename(args.fuzzer))
    inputs = [p for p in pathlib.Path(args.corpus).rglob("*") if p.is_file()]
    result_dir = os.path.dirname(os.environ.get("KVTIER_JUNIT", "")) or "."
    os.makedirs(result_dir, exist_ok=True)
    artifacts = os.path.join(result_dir, report.suite + "-")
    common = [args.fuzzer, f"-artifact_prefix={artifacts}", "-timeout=10", "-rss_limit_mb=4096"]

    def corpus():
        assert inputs, f"no file in {args.corpus}"
        run(common + ["-runs=0", args.corpus], 120)

    def mutations():
        with tempfile.TemporaryDirectory(prefix="kvtier-fuzz-") as found:
            run(common + [f"-runs={args.runs}", f"-max_total_time={args.seconds}", f"-seed={args.seed}",
                          found, args.corpus], args.seconds + 60)

    report.run("corpus", corpus)
    report.run("mutations", mutations)
    sys.exit(report.finish())


if __name__ == "__main__":
    main()
