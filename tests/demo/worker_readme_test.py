"""Proves that client/examples/README.md is about the decode_worker that is there: it lists exactly the arguments of
--help and the fields of --json, and what it says of an identical prompt holds. Needs no daemon.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
BIN = os.environ.get("KVTIER_BIN_DIR", os.path.join(ROOT, "build", "release", "bin"))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import junit  # noqa: E402

MAPS = ("fetched_bytes_by_pool", "store_errors")  # their fields' names are data


def worker(*arguments):
    return subprocess.run([os.path.join(BIN, "decode_worker"), *arguments], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, check=True).stdout


def listed(text, heading):
    """What the first column of the table under a heading names."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def fields(value, prefix=""):
    if isinstance(value, list):
        return set().union(*(fields(item, prefix + "[]") for item in value))
    if not isinstance(value, dict):
        return {prefix}
    if prefix.rsplit(".", 1)[-1] in MAPS:
        return {prefix + ".*"}
    return set().union(*(fields(item, f"{prefix}.{key}" if prefix else key) for key, item in value.items()))


def same(found, names):
    assert len(names) == len(set(names)), f"listed twice: {sorted(n for n in names if names.count(n) > 1)}"
    assert found == set(names), f"not listed: {sorted(found - set(names))}; gone: {sorted(set(names) - found)}"


def check_arguments(text):
    found = set(re.findall(r"^ +(?:-\w,)?(--[\w-]+)", worker("--help"), re.MULTILINE)) - {"--help"}
    assert len(found) > 20, found
    same(found, listed(text, "Arguments"))


def check_fields(text, result):
    same(fields(result), listed(text, "The JSON of `--json`"))


def check_identical_prompt(result):
    first, second = result["prompts"]
    assert (first["chunks_reused"], first["chunks_total"]) == (0, 25), first
    assert (second["chunks_reused"], second["chunks_total"]) == (24, 25), second
    assert first["generated"] == second["generated"], result


def check_lines(directory):
    """Each line is the entry of --json."""
    path = os.path.join(directory, "lines.json")
    lines = [json.loads(line) for line in
             worker("--no-daemon", "--prompt", "a", "--prompt", "b", "--max-tokens", "4", "--json-lines", "--json",
                    path).splitlines()]
    with open(path, encoding="utf-8") as file:
        assert lines == json.load(file)["prompts"], lines
    assert len(lines) == 2, lines


def main():
    report = junit.Report("worker_readme_test")
    with open(os.path.join(ROOT, "client", "examples", "README.md"), encoding="utf-8") as file:
        text = file.read()
    with tempfile.TemporaryDirectory(prefix="kvtier-worker-") as directory:
        path = os.path.join(directory, "result.json")
        worker("--no-daemon", "--prompt", "x" * 400, "--rounds", "2", "--max-tokens", "32", "--json", path)
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        report.run("arguments", check_arguments, text)
        report.run("fields", check_fields, text, result)
        report.run("identical_prompt", check_identical_prompt, result)
        report.run("lines", check_lines, directory)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
