"""Proves that `kvtier bench bound` and `kvtier bench sim` run: every figure with its ceiling beside it, and rows of gaps,
whose bounds are below their schedules. What it measures is not judged here: the sizes are small.
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


def run_bench(kind, *more, status=0):
    done = subprocess.run([PROGRAM, "bench", kind, "--quick", "--json", *more], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=280, check=False)
    assert done.returncode == status, f"exit status {done.returncode}: {PROGRAM}: {done.stderr}"
    return json.loads(done.stdout) if status == 0 else done.stderr


def check_figure(figures, name):
    mine = [figure for figure in figures if figure["name"] == name]
    assert len(mine) == 1, mine
    figure = mine[0]
    assert figure["value"] > 0 and figure["ceiling"] > 0 and figure["ratio"] > 0, figure
    assert figure["p99"] >= figure["p50"] == figure["value"], figure
    assert figure["unit"] == "ns" and figure["runs"] > 1, figure


def rows_of_gaps():
    rows = run_bench("bound", "--rows", "20k-inclusive,20k-exclusive", "--seeds", "2")["rows"]
    assert [(row["name"], row["seed"]) for row in rows] == [
        ("20k-inclusive", 1), ("20k-inclusive", 2), ("20k-exclusive", 1), ("20k-exclusive", 2)], rows
    rows += run_bench("bound", "--rows", "strict", "--seeds", "1")["rows"]
    for row in rows:
        assert 0 < row["lower_bound_s"] <= row["best_feasible_s"], row
        assert abs(row["best_feasible_s"] / row["lower_bound_s"] - 1 - row["gap"]) < 1e-9, row
        assert 0 < row["bound_cpu_s"] <= row["cpu_s"] and row["evaluation_ns"] > 0 < row["ceiling_ns"], row
        assert row["phases"] == (20 * 16 * 2 if row["name"] == "strict" else 20), row
        assert row["peak_bytes"] > 1 << 20, row


def rows_that_are_not_there():
    said = run_bench("bound", "--rows", "20k-exclusive,20k", status=2)
    assert "no problem is called 20k; there are 20k-exclusive, " in said, said


def main():
    report = junit.Report("bound_bench_test")
    for kind, names in FIGURES.items():
        figures = []
        if report.run(f"{kind}_ends_well", lambda kind=kind, figures=figures: figures.extend(run_bench(kind)["figures"])):
            for name in names:
                report.run(name, check_figure, figures, name)
    report.run("rows_of_gaps", rows_of_gaps)
    report.run("rows_that_are_not_there", rows_that_are_not_there)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
