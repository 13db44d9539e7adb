"""Proves that `kvtier bench engine` runs, alone and with a client on shared memory: every figure, with its ceiling
beside it. What it measures is not judged here: the sizes are small.
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["KVTIER_SOURCE_DIR"], "tests", "support"))
import junit  # noqa: E402

ALONE = {"engine_operation": "ns", "engine_metadata_bytes_per_block": "bytes"}
SHARED = {"engine_operation_shared": "ns", "engine_metadata_shared_bytes_per_block": "bytes", "engine_report": "ns",
          "engine_report_random": "ns"}


def check_run(options, units):
    program = os.path.join(os.environ["KVTIER_BIN_DIR"], "kvtier")
    done = subprocess.run([program, "bench", "engine", "--quick", "--json", *options], stdout=subprocess.PIPE, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {options}"
    figures = json.loads(done.stdout)["figures"]
    assert {figure["name"]: figure["unit"] for figure in figures} == units, figures
    for figure in figures:
        assert figure["value"] > 0 and figure["ceiling"] > 0 and figure["ratio"] > 0, figure
        assert figure["p99"] >= figure["p50"] == figure["value"], figure


def main():
    report = junit.Report("engine_bench_test")
    report.run("alone", check_run, [], ALONE)
    report.run("shared", check_run, ["--shared"], SHARED)
    report.run("shared_with_planes", check_run, ["--shared", "--planes", "32"], SHARED)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
