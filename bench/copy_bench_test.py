"""Proves that copy_bench runs: each of its copies, at each size, ends without an error and moves bytes.
What it measures is not judged here, since its region is small.
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["KVTIER_SOURCE_DIR"], "tests", "support"))
import junit  # noqa: E402

COPIES = ["BM_Memcpy", "BM_CopyBytes", "BM_CopyWithChecksum"]
PLAIN = "BM_Plain_"  # loops of non-temporal stores, as far as the CPU has the instructions


def run_bench():
    program = os.path.join(os.environ["KVTIER_BIN_DIR"], "copy_bench")
    done = subprocess.run([program, "--benchmark_min_time=0.001", "--benchmark_format=json"],
                          env={**os.environ, "KVTIER_BENCH_REGION_MIB": "1"}, stdout=subprocess.PIPE,
                          text=True, timeout=100, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {program}"
    return json.loads(done.stdout)["benchmarks"]


def check_copy(runs, copy):
    mine = [run for run in runs if run["name"].split("/")[0] == copy]
    assert len(mine) >= 2, f"{copy}: {len(mine)} sizes were run"
    for run in mine:
        assert not run.get("error_occurred"), f"{run['name']}: {run.get('error_message')}"
        assert run["bytes_per_second"] > 0, f"{run['name']} moved no bytes"


def main():
    report = junit.Report("copy_bench_test")
    runs = []
    if report.run("ends_well", lambda: runs.extend(run_bench())):
        plain = sorted({run["name"].split("/")[0] for run in runs if run["name"].startswith(PLAIN)})
        for copy in COPIES + plain:
            report.run(copy, check_copy, runs, copy)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
