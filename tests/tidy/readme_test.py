"""Proves that the commands in README.md, or in the page that is named as an argument, work: its ```sh blocks are run
in order, in one shell, from the root of the source tree; a block that is only to be looked at is marked ```console. One right behind
a ```sh block is what that prints, or some lines of it: they are compared, but for columns of VARYING figures.

`build/release` means the build under test. Commands that would build or test everything
(scripts/demo, scripts/test, ...) are called with --help instead: CTest cannot run inside itself. Processes
that the blocks start are ended with the shell; a temporary directory is HOME and TMPDIR. XDG_RUNTIME_DIR is
not set, as in a container, and a variable that is used without being set ends the script.

A ```cpp or ```cmake block is a part of the project that tests/install_consumer builds and runs, a ```python block one
of the example that a ```sh block runs.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
BIN = os.environ.get("KVTIER_BIN_DIR", os.path.join(ROOT, "build", "release", "bin"))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
import junit  # noqa: E402

SECONDS_MAX = 240  # pip in a new virtual environment takes a busy machine half a minute
BUILD = os.path.dirname(os.path.abspath(BIN))
TESTED = {"cpp": "tests/install_consumer/consumer/engine.cc", "cmake": "tests/install_consumer/consumer/CMakeLists.txt",
          "python": "client/python/examples/reuse.py"}
_WHOLE_RUN = re.compile(r"^(\s*)(?:\./)?((?:scripts/(?:demo|test|check|build|setup|format)|\.ci/run))\b.*$",
                        re.MULTILINE)
_BUILD = re.compile(r"(?<![\w./])build/release/(bin/)?")
_MARK = "@@readme-block@@"
_SHOWN = re.compile(r"^```sh[ \t]*\n(.*?)^```[ \t]*\n(?:\n?```console[ \t]*\n(.*?)^```[ \t]*$)?", re.DOTALL | re.MULTILINE)
# What a time limit cuts off, and what is worked out of that.
VARYING = {"bound", "best found", "gap", "what binds", "above the bound"}


def blocks(text, language="sh"):
    return re.findall(rf"^```{language}[ \t]*\n(.*?)^```[ \t]*$", text, re.DOTALL | re.MULTILINE)


def shown_outputs(text):
    """Of each ```sh block, the ```console block right behind it, or nothing. A first line that is a command is no output."""
    return ["" if match.group(2) is None or match.group(2).startswith("kvtier ") else match.group(2)
            for match in _SHOWN.finditer(text)]


def _tables(text):
    """{titles: rows} of the tables in `text`: lines of cells with two spaces between, each table up to a line that is no row
    of it; and the lines outside them."""
    tables, others, titles = {}, [], None
    for line in text.splitlines():
        cells = re.split(r" {2,}", line.strip())
        if titles and len(cells) == len(titles):
            tables[titles].append(cells)
        elif len(cells) > 1 and VARYING.intersection(cells):
            titles = tuple(cells)
            tables[titles] = []
        else:
            titles = None
            others += [line] if line.strip() else []
    return tables, others


def difference(shown, printed):
    """What of `shown` was not printed, as a text; empty: nothing."""
    tables, lines = _tables(shown)
    printed_tables, printed_lines = _tables(printed)
    for line in lines:
        if line not in printed_lines:
            return f"no such line was printed: {line}"
    for titles, rows in tables.items():
        kept = [column for column, title in enumerate(titles) if title not in VARYING]
        wanted, found = ([[row[column] for column in kept] for row in some] for some in (rows, printed_tables.get(titles, [])))
        if wanted != found or not rows:
            return f"under {', '.join(titles[column] for column in kept)} stands {wanted}, and printed was {found}"
    return ""


def as_run(block):
    """What is run of a block: see the top of this file."""
    def replace(match):
        indent, program = match.groups()
        help_works = "" if program == ".ci/run" else f" && {program} --help >/dev/null"
        return f"{indent}test -x {program}{help_works}"

    block = _WHOLE_RUN.sub(replace, block)
    return _BUILD.sub(lambda match: f"{BIN}/" if match.group(1) else f"{BUILD}/", block)


def run_script(script, directory):
    """(exit status or None when it took too long, output)."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": directory, "TMPDIR": directory}
    for name in ("XDG_RUNTIME_DIR", "KVTIER_SOCKET"):
        environment.pop(name, None)
    output = os.path.join(directory, "output")
    # Output goes to a file: a daemon left in the background would hold a pipe open.
    with open(output, "w", encoding="utf-8") as file:
        shell = subprocess.Popen(["bash", "-c", script], cwd=ROOT, env=environment,
                                 stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                 start_new_session=True)
        try:
            status = shell.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            status = None
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        shell.wait()
    with open(output, encoding="utf-8", errors="replace") as file:
        return status, file.read()


def run_blocks(report, found, outputs=()):
    """`outputs`: of each of the blocks, what must be among what it prints; may be empty."""
    script = "set -euo pipefail\n" + "".join(
        f"echo; echo '{_MARK}{number}'\n{as_run(block)}\n" for number, block in enumerate(found, 1))
    with tempfile.TemporaryDirectory(prefix="kvtier-readme-") as directory:
        status, output = run_script(script + f"echo; echo '{_MARK}0'\n", directory)
    parts = output.split(f"\n{_MARK}")[1:]
    for number, block in enumerate(found, 1):
        name = f"block {number}: {block.strip().splitlines()[0] if block.strip() else '(empty)'}"
        if number > len(parts):
            report.add(name, skipped="not reached: a block before it failed")
        elif number == len(parts):
            why = f"no end after {SECONDS_MAX} s" if status is None else f"exit status {status}"
            report.add(name, failure=f"{why}\n{block}\n--- output:\n{parts[number - 1][-4000:]}")
        else:
            wrong = difference(outputs[number - 1], parts[number - 1].partition("\n")[2]) if outputs else ""
            report.add(name, **({"failure": wrong} if wrong else {}))


def check_code_is_tested(text):
    """So that what is shown and what is tested cannot drift apart."""
    for language, name in TESTED.items():
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            tested = file.read()
        found = blocks(text, language)
        assert found, f"there is no ```{language} block"
        for block in found:
            assert block in tested, f"not in {name}:\n{block}"


def check_conventions():
    """The test of this test: what it picks, what it replaces, and that a failing block fails."""
    text = "```sh\none\n```\n```console\ntwo\n```\n```sh\nthree\n```\n"
    assert blocks(text) == ["one\n", "three\n"], blocks(text)
    assert blocks(text, "console") == ["two\n"], blocks(text, "console")
    assert shown_outputs(text) == ["two\n", ""], shown_outputs(text)
    assert shown_outputs("```sh\none\n```\n\n```console\ntwo\n```\n```sh\n```\ntext\n```console\n```\n") == ["two\n", ""]
    table = " dram   bound  lru\n4 GiB  8.31 s  9 s\n8 GiB  7.12 s  8 s\n\nthe cheapest\n"
    assert difference(table, "before\n" + table + "after\n") == ""
    assert difference(table, table.replace("8.31", "8.32").replace("7.12", "7.1")) == ""
    for old, new in (("9 s", "9.1 s"), ("8 GiB", "6 GiB"), ("the cheapest", "none"), ("8 GiB  7.12 s  8 s\n", ""), ("lru", "min")):
        assert difference(table, table.replace(old, new)) and difference(table.replace(old, new), table), (old, new)
    assert as_run("scripts/test --all\n") == "test -x scripts/test && scripts/test --help >/dev/null\n"
    assert as_run("build/release/bin/kvtier status\n") == f"{BIN}/kvtier status\n"
    assert as_run("ls build/release/python\n") == f"ls {BUILD}/python\n"
    report = junit.Report("inner")
    run_blocks(report, ["true\n", "echo before; false; echo after\n", "true\n"])
    verdicts = [(bool(c.failure), bool(c.skipped)) for c in report.cases]
    assert verdicts == [(False, False), (True, False), (False, True)], verdicts
    assert "before" in report.cases[1].failure and "after\n" not in report.cases[1].failure.split(
        "--- output:")[1], report.cases[1].failure


def main():
    page = sys.argv[1] if len(sys.argv) > 1 else "README.md"
    report = junit.Report("readme_test" if page == "README.md" else f"page_test.{page}")
    report.run("conventions", check_conventions)
    path = os.path.join(ROOT, page)
    if not os.path.exists(path):
        report.add(page, failure=f"there is no {page}")
        return report.finish()
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if page == "README.md":
        report.run("code_is_tested", check_code_is_tested, text)
    found = blocks(text)
    if not found:
        report.add(page, failure=f"{page} has no ```sh block")
    run_blocks(report, found, shown_outputs(text))
    for case in report.cases:
        print(f"{'FAILED' if case.failure else 'skipped' if case.skipped else 'ok':>8}  {case.name}")
        if case.failure:
            print(case.failure)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
