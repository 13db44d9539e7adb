"""clang-format and clang-tidy over the sources; scripts/check and scripts/test --all call it.

Writes one JUnit case a file to the path in KVTIER_JUNIT, if set. clang-tidy reads the compile commands of
build/release, which must be built (its headers are partly generated).
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import junit  # noqa: E402

FOLDERS = ("bench", "client", "daemon", "kernels", "proto", "sim", "tests", "tiering")
FORMATTED = (".h", ".cc", ".cu", ".proto")
OUTPUT_CHARACTERS_MAX = 6000


def sources(suffixes):
    return sorted(str(path.relative_to(ROOT)) for folder in FOLDERS
                  for path in (ROOT / folder).rglob("*") if path.suffix in suffixes and path.is_file())


def git(*args):
    # A checkout that another user owns, as in many CI containers, is as good for reading.
    done = subprocess.run(["git", "-c", "safe.directory=*", *args], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def change_base():
    """(commit or None, words for it): where origin/main left off, else the commit before this one."""
    head = git("rev-parse", "--verify", "-q", "HEAD")
    if not head:
        return None, "none (no commit yet)"
    main = git("rev-parse", "--verify", "-q", "origin/main")
    fork = git("merge-base", main, "HEAD") if main else None
    if fork and fork != head:
        return fork, f"origin/main ({fork[:12]})"
    parent = git("rev-parse", "--verify", "-q", "HEAD~1")
    if parent:
        return parent, f"HEAD~1 ({parent[:12]})"
    return None, "none (first commit)"


def changed_files(base):
    listed = (git("diff", "--name-only", "--diff-filter=d", base) or "").splitlines()
    return set(listed) | set((git("ls-files", "--others", "--exclude-standard") or "").splitlines())


def units_for(changed, units):
    """The compiled sources to check: those changed, and for a header its source, or one that includes it."""
    chosen = changed & set(units)
    for header in sorted(path for path in changed if path.endswith(".h")):
        if header[:-2] + ".cc" in units:
            chosen.add(header[:-2] + ".cc")
            continue
        including = f'#include "{header}"'
        chosen.update([u for u in units if including in (ROOT / u).read_text(errors="replace")][:1])
    return sorted(chosen)


def spread(items):
    """The same items, ordered so that any beginning of the list samples all of it."""
    count = len(items)
    return [items[i] for i in sorted(range(count), key=lambda i: (i * 0.6180339887) % 1)]


def run_format(report):
    files = sources(FORMATTED)

    def check(path):
        done = subprocess.run(["clang-format", "--style=file", "--dry-run", "--Werror", path], cwd=ROOT,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"not formatted (scripts/format does it):\n{done.stderr[:1500]}"

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, future in [(path, pool.submit(check, path)) for path in files]:
            try:
                future.result()
                report.add(path)
            except AssertionError as error:
                print(f"FAILED  {path}\n{error}", flush=True)
                report.add(path, failure=str(error))
    print(f"clang-format: {len(files)} files checked", flush=True)


def run_tidy(report, args):
    with open(ROOT / args.build_dir / "compile_commands.json", encoding="utf-8") as file:
        entries = json.load(file)
    # Headers that g++ has compiled are of no use to clang-tidy.
    for entry in entries:
        entry["command"] = re.sub(r" -Winvalid-pch -include \S+/cmake_pch\.hxx", "", entry["command"])
    units = []
    for entry in entries:
        path = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if path.suffix == ".cc" and ROOT in path.parents and not path.is_relative_to(ROOT / "build"):
            units.append(str(path.relative_to(ROOT)))
    units = sorted(set(units))
    if args.changed:
        base, words = change_base()
        chosen = units_for(changed_files(base), units) if base else units
        # Bounded: a change of everything would take longer than all the tests.
        seconds_max = args.seconds
    else:
        words, chosen, seconds_max = "none (whole tree)", units, float("inf")
    chosen = spread(chosen)
    limit = f", {seconds_max:.0f} s at most" if args.changed else ""
    print(f"clang-tidy: base {words}: {len(chosen)} of {len(units)} sources{limit}", flush=True)
    began = time.monotonic()
    database = ROOT / args.build_dir / "tidy"
    database.mkdir(exist_ok=True)
    (database / "compile_commands.json").write_text(json.dumps(entries), encoding="utf-8")

    def check(path):
        if time.monotonic() - began > seconds_max:
            return None
        start = time.monotonic()
        done = subprocess.run(["clang-tidy", "--quiet", "-p", str(database),
                               "--extra-arg=-Wno-unknown-warning-option", path],
                              cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr, time.monotonic() - start

    late = []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for path, future in [(path, pool.submit(check, path)) for path in chosen]:
            result = future.result()
            if result is None:
                late.append(path)
                continue
            status, output, seconds = result
            failure = output[:OUTPUT_CHARACTERS_MAX] if status else None
            report.add(path, seconds, failure)
            print(f"clang-tidy: {seconds:4.0f} s  {'FAILED' if failure else 'ok'}  {path}", flush=True)
            if failure:
                print(failure, flush=True)
    if late:
        reason = (f"not reached within {seconds_max:.0f} s, scripts/check has no limit: "
                  + " ".join(sorted(late)))
        print(f"clang-tidy: {len(late)} sources {reason}", flush=True)
        report.add("sources not reached", skipped=reason)
    if not chosen:
        report.add("no compiled source changed")


def main():
    parser = argparse.ArgumentParser(prog="scripts/check", description=__doc__)
    # scripts/check says "all"; the others are for scripts/test.
    parser.add_argument("what", choices=("format", "tidy", "all"), help=argparse.SUPPRESS)
    parser.add_argument("--changed", action="store_true", help="clang-tidy: only what differs from the base")
    parser.add_argument("--seconds", type=float, default=480,
                        help="clang-tidy: time for --changed (default: %(default)s)")
    parser.add_argument("--build-dir", default="build/release", help="default: %(default)s")
    parser.add_argument("--jobs", type=int,
                        default=int(os.environ.get("KVTIER_JOBS", 0)) or len(os.sched_getaffinity(0)),
                        help="clang-tidy: sources at a time; default: KVTIER_JOBS, else one per processor")
    args = parser.parse_args()
    report = junit.Report({"format": "format", "tidy": "clang-tidy", "all": "check"}[args.what])
    if args.what in ("format", "all"):
        run_format(report)
    if args.what in ("tidy", "all"):
        run_tidy(report, args)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
