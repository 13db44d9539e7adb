"""Proves which sources clang-tidy is given for a change: the base it is taken against, in repositories with and
without a main branch to compare with, and the compiled sources that stand for a changed header.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "tests", "support"), os.path.join(ROOT, "scripts")]
import check_sources  # noqa: E402
import junit  # noqa: E402


def git(*args):
    return subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *args], check=True,
                          cwd=check_sources.ROOT, capture_output=True, text=True).stdout.strip()


def write(path, text):
    full = check_sources.ROOT / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text(text)


def commit(path, text):
    write(path, text)
    git("add", "-A")
    git("commit", "-q", "-m", path)
    return git("rev-parse", "HEAD")


def check_base():
    git("init", "-q", "-b", "work")
    assert check_sources.change_base() == (None, "none (no commit yet)"), check_sources.change_base()
    first = commit("sim/a.cc", "int a;\n")
    assert check_sources.change_base() == (None, "none (first commit)"), check_sources.change_base()
    commit("sim/b.cc", "int b;\n")
    assert check_sources.change_base() == (first, f"HEAD~1 ({first[:12]})"), check_sources.change_base()
    commit("sim/c.cc", "int c;\n")
    git("update-ref", "refs/remotes/origin/main", first)
    assert check_sources.change_base() == (first, f"origin/main ({first[:12]})"), check_sources.change_base()
    write("sim/a.cc", "int a2;\n")
    write("sim/new.cc", "int n;\n")
    changed = check_sources.changed_files(first)
    assert changed == {"sim/a.cc", "sim/b.cc", "sim/c.cc", "sim/new.cc"}, changed
    # On main itself, as CI after a merge: the last commit is what changed.
    head = git("rev-parse", "HEAD")
    git("update-ref", "refs/remotes/origin/main", head)
    assert check_sources.change_base()[1].startswith("HEAD~1"), check_sources.change_base()


def check_units():
    write("sim/a.h", "#pragma once\n")
    write("sim/only.h", "#pragma once\n")
    write("sim/a.cc", '#include "sim/a.h"\n')
    write("sim/user.cc", '#include "sim/only.h"\n')
    units = ["sim/a.cc", "sim/user.cc"]
    assert check_sources.units_for({"sim/a.h"}, units) == ["sim/a.cc"]
    assert check_sources.units_for({"sim/only.h"}, units) == ["sim/user.cc"]
    assert check_sources.units_for({"docs/a.md", "sim/gone.cc"}, units) == []


def check_spread():
    items = [f"{i:03}" for i in range(100)]
    order = check_sources.spread(items)
    assert sorted(order) == items
    tenth = sorted(int(i) for i in order[:10])
    gaps = [b - a for a, b in zip(tenth, tenth[1:])]
    assert max(gaps) <= 20, f"the first ten of a hundred leave a gap: {tenth}"


def main():
    report = junit.Report("check_sources_test")
    original = check_sources.ROOT
    for name, function in (("base_of_a_change", check_base), ("units_of_a_change", check_units),
                           ("spread", check_spread)):
        if function is check_base and not shutil.which("git"):
            report.add(name, skipped="git is not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="kvtier-check-") as directory:
            check_sources.ROOT = pathlib.Path(directory)
            report.run(name, function)
    check_sources.ROOT = original
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
