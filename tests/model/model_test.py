"""Proves, by a search of all states of read_sections.pml, that no slot is reused under a reader, and that the model
would show it: each bug seeded into it is found, by the assertion that it is to break.

A search that did not look at everything (out of memory, a depth or time limit) fails, and so do steps of the model
that nothing reaches.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
import junit  # noqa: E402

MODEL = os.path.join(HERE, "read_sections.pml")
CLIENTS = 2
MEBIBYTES_MAX = 3000
SECONDS_MAX = 800
NO_RESTART = "-DMOVES_AFTER=255"
# With the least number of states of a search that looked at everything: the model's bounds give about that many.
WHOLE = {
    "moves": (("-DMOVES=3", NO_RESTART), 8_000_000),
    "restart": (("-DMOVES=1", "-DMOVES_AFTER=1"), 5_000_000),
}
DEPTH_MAX = 100_000
BUGS = ("NO_READER_FENCE", "NO_ENGINE_FENCE", "SCAN_BEFORE_UNPUBLISH", "REUSE_AT_EOF", "TAG_BEFORE_EPOCH",
        "GOODBYE_IN_SECTION")


def run(directory, *command):
    done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {' '.join(command)}\n{done.stdout}"
    return done.stdout


def search(directory, flags, compiler_flags):
    """What the search prints. NOREDUCE: partial order reduction does not know `unless` with a rendezvous."""
    shutil.copy(MODEL, directory)
    run(directory, "spin", "-a", *flags, os.path.basename(MODEL))
    run(directory, "gcc", "-O2", "-w", "-DSAFETY", "-DNOREDUCE", f"-DMEMLIM={MEBIBYTES_MAX}", *compiler_flags,
        "-o", "pan", "pan.c")
    return run(directory, "./pan", f"-m{DEPTH_MAX}")


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, f"no {pattern} in\n{text}"
    return float(found.group(1))


def check_whole(flags, states_min):
    with tempfile.TemporaryDirectory(prefix="kvtier-model-") as directory:
        text = search(directory, flags, ["-DCOLLAPSE"])
    print("\n".join(line for line in text.splitlines() if re.search("states, stored|total actual|elapsed", line)))
    assert "errors: 0" in text, text
    for broken in ("Search not completed", "max search depth too small", "out of memory", "reached -DMEMLIM"):
        assert broken not in text, text
    # Of all states, not of a hash of them, and nowhere cut off.
    assert "Full statespace search for:" in text and "Bit statespace" not in text, text
    assert number(r"depth reached (\d+)", text) < DEPTH_MAX, text
    assert number(r"([\d.e+]+) states, stored", text) >= states_min, text
    if NO_RESTART in flags:
        return
    # Processes that serve for ever do not reach their ends; nothing else may be left out.
    unreached = [line for line in text.splitlines() if re.search(r"\.pml:\d+, state", line) and "-end-" not in line]
    assert not unreached, "never reached:\n" + "\n".join(unreached)


def check_found(flags, assertion):
    """Breadth first: the shortest trail. Replayed, it ends in the assertion, in a state that it is about."""
    with tempfile.TemporaryDirectory(prefix="kvtier-model-") as directory:
        text = search(directory, flags, ["-DBFS"])
        assert "errors: 1" in text, f"{' '.join(flags)} was not found\n{text}"
        trail = run(directory, "spin", "-t", "-g", *flags, os.path.basename(MODEL))
    assert f"text of failed assertion: assert(!({assertion}))" in trail, trail
    assert f"assertion violated  !({assertion})" in text, text
    end = {name: int(value) for name, value in re.findall(r"^\s*([\w\[\]]+) = (\d+)$", trail, re.MULTILINE)}
    if assertion == "held_for_ever":
        assert end["finished"] == CLIENTS and end["held_for_ever"], trail
    else:
        held = [end[f"holds[{client}]"] for client in range(CLIENTS)]
        assert any(place > 0 and not end[f"valid[{place - 1}]"] for place in held), trail


def main():
    report = junit.Report("model_test")

    def case(name, function, *arguments):
        def run_or_skip():
            if not shutil.which("spin"):
                raise junit.Skip("spin is not installed; scripts/setup --all installs it")
            function(*arguments)
        report.run(name, run_or_skip)

    for bug in BUGS:
        flags = (f"-D{bug}", NO_RESTART)
        case(f"{bug.lower()}_is_found", check_found, flags, "rewritten_in_section")
        case(f"{bug.lower()}_is_seen_by_reader", check_found, flags + ("-DONLY_READS",), "read_of_rewritten")
    case("never_gone_is_found", check_found, ("-DNEVER_GONE", NO_RESTART), "held_for_ever")
    for name, (flags, states_min) in WHOLE.items():
        case(f"{name}_holds", check_whole, flags, states_min)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
