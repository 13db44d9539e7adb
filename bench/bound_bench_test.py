"""Proves that `kvtier bench bound` and `kvtier bench sim` run: every figure with its ceiling beside it. What it measures is not judged here:
the sizes are small.
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["KVTIER_SOURCE_DIR"], "tests", "support"))
import junit  # noqa: E402

PROGRAM = os.path.join(os.environ["KVTIER_BIN_DIR"], "kvtier")
FIGURES = {"bound": ["bound_value", "bound_evaluation", "bound_smoothed"],
           "sim": ["sim_requests_one_tier", "sim_requests_two_tiers", "sim_attention"]}


def run_bench(kind):
    done = subprocess.run([PROGRAM, "bench", kind, "--quick", "--json"], stdout=subprocess.PIPE, text=True,
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
    for kind, names in FIGURES.items():
        figures = []
        if report.run(f"{kind}_ends_well", lambda kind=kind, figures=figures: figures.extend(run_bench(kind))):
            for name in names:
                report.run(name, check_figure, figures, name)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
