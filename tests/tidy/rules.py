"""The rules that are not about includes. Each takes a Tree and returns what breaks it, a line each."""

import os
import re

from tree import code_lines

LINES_MAX = 500
_SLEEP = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|SleepFor)\s*\(|\btime\.sleep\s*\(|"
                    r"(?<![\w.:])sleep\s*\(")
_CHANCE_OR_TIME = re.compile(r"\b(system_clock|steady_clock|high_resolution_clock|random_device)\b|"
                             r"\babsl::Now\s*\(|(?<![\w.:>])s?rand\s*\(|\bstd::s?rand\s*\(|"
                             r"\bstd::(jthread|thread|async)\b|\b(clock_gettime|gettimeofday)\s*\(")
# Written so that this file does not break its own rule.
_LEFT_OPEN = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b")
_SWITCHED_OFF = re.compile(r"\bDISABLED_\w|\b(EXPECT|ASSERT)_TRUE\(true\)|^\s*#\s*if\s+0\b")
_FIELD = re.compile(r"^\s*(?:optional\s+|repeated\s+)?(?:map\s*<[^>]*>|[\w.]+)\s+(\w+)\s*=\s*\d+\s*[;\[]",
                    re.MULTILINE)
_METRIC = re.compile(r'"(kvtier_[a-z0-9_]+)"')
_HIDDEN_SCOPE = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.MULTILINE | re.DOTALL)
_NAMESPACE = re.compile(r"^namespace ([\w:]+) \{$", re.MULTILINE)
_CONSTANT = re.compile(r"^(?:inline )?constexpr [^=({;]*?\b(k[A-Z]\w*)\s*(?:\[\])?\s*[=({]", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
CONFIG_PROTO = "proto/kvtier/v1/config.proto"
OPERATORS_PAGE = "docs/OPERATING.md"
TARGET_HELPERS = "cmake/kvtier_targets.cmake"


def no_sleep_in_tests(tree):
    """A test waits for a condition, a descriptor or an event, never for time to pass."""
    problems = []
    for path in tree.files((".h", ".cc", ".cu", ".py"), "tests/"):
        if path.startswith("tests/tidy/"):
            continue  # speaks about such calls
        for number, line in code_lines(tree.read(path)):
            match = _SLEEP.search(line)
            if match:
                problems.append(f"{path}:{number}: {match.group(0)}: tests do not sleep")
    return problems


def no_chance_or_time_in_core(tree):
    """A run of the core is a function of its inputs and a seed."""
    problems = []
    for path in tree.files((".h", ".cc"), "tiering/"):
        if path.startswith(("tiering/host/", "tiering/base/clock.", "tiering/base/rng.")):
            continue
        for number, line in code_lines(tree.read(path)):
            match = _CHANCE_OR_TIME.search(line)
            if match:
                problems.append(f"{path}:{number}: {match.group(0)}: no clock, thread or chance here")
    return problems


def pragma_once(tree):
    problems = []
    for path in tree.files((".h",)):
        first = next((line for _, line in code_lines(tree.read(path)) if line.strip()), "")
        if first.strip() != "#pragma once":
            problems.append(f"{path}: the first line of code is not #pragma once")
    return problems


def sources_listed(tree):
    """A source that no CMakeLists.txt names is neither built nor tested."""
    lists = {p: tree.read(p) for p in tree.files((".txt", ".cmake"))
             if p.endswith(".cmake") or p.endswith("CMakeLists.txt")}
    everything = "\n".join(lists.values())
    problems = []
    for path in tree.files((".cc", ".cu", ".proto", ".py")):
        if path.endswith(".py") and not path.endswith("_test.py"):
            continue
        if re.search(rf"(?<![\w.-]){re.escape(path)}\b", everything):
            continue
        folder, found = os.path.dirname(path), False
        while not found:
            text = lists.get(f"{folder}/CMakeLists.txt" if folder else "CMakeLists.txt", "")
            relative = path[len(folder) + 1:] if folder else path
            stem = os.path.splitext(relative)[0]
            found = bool(re.search(rf"(?<![\w./-]){re.escape(relative)}\b", text)
                         or re.search(rf"(?:_DIR\}}|_DIRECTORY\}})/{re.escape(relative)}\b", text)
                         # foreach(test a_test b_test) ... SOURCES ${test}.cc
                         or (("}.cc" in text or "}.py" in text) and re.search(rf"(?<![\w./-]){re.escape(stem)}(?![\w.])", text)))
            if not folder:
                break
            folder = os.path.dirname(folder)
        if not found:
            problems.append(f"{path}: no CMakeLists.txt names it")
    return problems


def tests_report(tree):
    """A test that CTest alone knows leaves no JUnit file to count; the helpers see to that."""
    problems = []
    for path in tree.files((".txt", ".cmake")):
        if path == TARGET_HELPERS:
            continue
        for number, line in enumerate(tree.read(path).split("\n"), 1):
            if re.match(r"\s*add_test\s*\(", line):
                problems.append(f"{path}:{number}: add_test: use kvtier_test or kvtier_script_test")
    return problems


def nothing_left_open(tree):
    problems = []
    for path in tree.files():
        for number, line in enumerate(tree.read(path).split("\n"), 1):
            match = _LEFT_OPEN.search(line)
            if match:
                problems.append(f"{path}:{number}: {match.group(0)}: do it, or say why not in the docs")
    return problems


def no_test_switched_off(tree):
    problems = []
    for path in tree.files((".h", ".cc", ".cu")):
        for number, line in code_lines(tree.read(path)):
            match = _SWITCHED_OFF.search(line)
            if match:
                problems.append(f"{path}:{number}: {match.group(0).strip()}: mend it or delete it")
    return problems


def constants_hide_none(tree):
    """A constant of one source would hide its header's namesake from the other sources of a unity build."""
    def key(path, name):
        return path.split("/")[0], (_NAMESPACE.findall(tree.read(path)) or [""])[0], name

    shared = {key(path, name): path for path in tree.files((".h",)) for name in _CONSTANT.findall(tree.read(path))}
    return [f"{path}: {name} is a constant of {shared[key(path, name)]} too"
            for path in tree.files((".cc", ".cu")) for scope in _HIDDEN_SCOPE.findall(tree.read(path))
            for name in _CONSTANT.findall(scope) if key(path, name) in shared]


def files_short(tree):
    problems = []
    for path in tree.files((".h", ".cc", ".cu", ".py", ".proto", ".cmake", "")):
        lines = tree.read(path).count("\n")
        if lines > LINES_MAX:
            problems.append(f"{path}: {lines} lines, the limit is {LINES_MAX}: which noun hides inside?")
    return problems


def _documented(tree, names, what):
    """`names` is {name: where it is defined}."""
    if not names:
        return []
    if not tree.exists(OPERATORS_PAGE):
        return [f"{OPERATORS_PAGE} does not exist, and {len(names)} {what}s need it"]
    page = tree.read(OPERATORS_PAGE)
    return [f"{where}: {what} {name} is not mentioned in {OPERATORS_PAGE}"
            for name, where in sorted(names.items())
            if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", page)]


def config_fields_documented(tree):
    if not tree.exists(CONFIG_PROTO):
        return []
    text = "\n".join(line for _, line in code_lines(tree.read(CONFIG_PROTO)))
    return _documented(tree, {name: CONFIG_PROTO for name in _FIELD.findall(text)}, "configuration field")


def metrics_documented(tree):
    names = {}
    for path in tree.files((".h", ".cc"), "daemon/"):
        for _, line in code_lines(tree.read(path)):
            for name in _METRIC.findall(line):
                names.setdefault(name, path)
    return _documented(tree, names, "metric")


def links_lead_somewhere(tree):
    problems = []
    for path in tree.files((".md",)):
        for target in _LINK.findall(tree.read(path)):
            if re.match(r"^[a-z]+:", target):
                continue
            if not tree.exists(os.path.normpath(os.path.join(os.path.dirname(path), target))):
                problems.append(f"{path}: the link to {target} leads nowhere")
    return problems


ALL = (no_sleep_in_tests, no_chance_or_time_in_core, pragma_once, sources_listed, tests_report,
       nothing_left_open, no_test_switched_off, constants_hide_none, files_short, config_fields_documented,
       metrics_documented, links_lead_somewhere)
