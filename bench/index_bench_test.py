"""Proves that `kvtier bench index` runs: every figure for each shape, with its ceiling beside it, and huge pages
where the machine gives them or a word on why not. What it measures is not judged here: the sizes are small.
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["KVTIER_SOURCE_DIR"], "tests", "support"))
import junit  # noqa: E402

PROGRAM = os.path.join(os.environ["KVTIER_BIN_DIR"], "kvtier")
FIGURES = ["index_resolve_single", "index_resolve_batch64", "index_row", "section_enter_leave"]
SHAPES = ["2000x32", "20000x1"]


def run_bench():
    done = subprocess.run([PROGRAM, "bench", "index", "--quick", "--json"], stdout=subprocess.PIPE, text=True,
                          timeout=100, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {PROGRAM}"
    return json.loads(done.stdout)["figures"]


def check_text():
    """Without --json a name stands once before its lines, however many pages there are, and once before its notes."""
    done = subprocess.run([PROGRAM, "bench", "index", "--quick"], stdout=subprocess.PIPE, text=True, timeout=100, check=True)
    for name in (f"{name}_{shape}" for name in FIGURES for shape in SHAPES):
        assert done.stdout.count(name) == 2, done.stdout


def check_figure(figures, name, shape):
    mine = [figure for figure in figures if figure["name"] == f"{name}_{shape}"]
    pages = [figure["page_bytes"] for figure in mine]
    assert pages in ([4096], [4096, 2 << 20]), f"page sizes {pages}"
    for figure in mine:
        assert figure["value"] > 0 and figure["ceiling"] > 0 and figure["ratio"] > 0, figure
        assert figure["p99"] >= figure["p50"] == figure["value"], figure
        assert figure["unit"] == "ns" and figure["runs"] > 1, figure
        assert len(mine) == 2 or "no figures with huge pages" in figure["note"], figure["note"]


def main():
    report = junit.Report("index_bench_test")
    figures = []
    if report.run("ends_well", lambda: figures.extend(run_bench())):
        for shape in SHAPES:
            for name in FIGURES:
                report.run(f"{name}_{shape}", check_figure, figures, name, shape)
        report.run("nothing_else", lambda: check_names(figures))
        report.run("text", check_text)
    return report.finish()


def check_names(figures):
    names = {figure["name"] for figure in figures}
    assert names == {f"{name}_{shape}" for name in FIGURES for shape in SHAPES}, names


if __name__ == "__main__":
    sys.exit(main())
