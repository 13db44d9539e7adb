"""Proves that `kvtier bench bound` runs: every figure with its ceiling beside it. What it measures is not judged here:
the sizes are small.
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["KVTIER_SOURCE_DIR"], "tests", "support"))
import junit  # noqa: E402

PROGRAM = os.path.join(os.environ["KVTIER_BIN_DIR"], "kvtier")
FIGURES = ["bound_value", "bound_evaluation", "bound_smoothed"]


def run_bench():
    done = subprocess.run([PROGRAM, "bench", "bound", "--quick", "--json"], stdout=subprocess.PIPE, text=True,
                          timeout=100, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {PROGRAM}"
    return json.loads(done.stdout)["figures"]


def check_figure(figures, name):
    mine = [figure for figure in figures if figure["name"] == name]
    assert len(mine) == 1, mine
    figure = mine[0]
    assert figure["value"] > 0 and figure["ceiling"] > 0 and figure["ratio"] > 0, figure
    assert figure["p99"] >= figure["p50"] == figure["value"], figure
    assert figure["unit"] == "ns" and figure["runs"] > 1, figure


def main():
    report = junit.Report("bound_bench_test")
    figures = []
    if report.run("ends_well", lambda: figures.extend(run_bench())):
        for name in FIGURES:
            report.run(name, check_figure, figures, name)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
