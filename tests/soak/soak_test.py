"""Proves that scripts/soak runs: seconds of it end with `soak: ok`, its table and nothing left behind; with nobody killed or
stopped it fails by name; and a signal ends it with all that it started. A soak proper takes 30 minutes and is run by hand.
"""

import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cli_world  # noqa: E402
import junit  # noqa: E402


def command(*args):
    # A run of seconds ends before the allocator's caches are full.
    return [str(ROOT / "scripts" / "soak"), "--bin-dir", str(cli_world.BIN), "--memory-mib", "64", *args]


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def short_soak():
    done = subprocess.run(command("--minutes", "0.2", "--kill-every", "300ms", "--group-kill-seconds", "3", "--stop-seconds", "1"),
                          capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0 and done.stdout.endswith("soak: ok\n"), done.stdout + done.stderr
    for wanted in ("retired MiB", "middle third", "files but segments", " 0 corrupt", "workers killed", "by stream", "over limit"):
        assert wanted in done.stdout, f"{wanted}: {done.stdout}"


def nobody_was_killed():
    done = subprocess.run(command("--minutes", "0.05", "--kill-every", "1h", "--group-kill-seconds", "3600", "--stop-seconds", "3600"),
                          capture_output=True, text=True, check=False, timeout=200)
    for wanted in ("no kills: it proves nothing", "no group kills", "no stops"):
        assert done.returncode == 1 and wanted in done.stdout, done.stdout + done.stderr


def usage():
    done = subprocess.run(command("--bin-dir", "/nonexistent"), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "run scripts/build release" in done.stderr, done.stderr


def interrupted():
    with cli_world.Running(command("--minutes", "5"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as soak:
        pids = cli_world.until(lambda: len(children(soak.pid)) >= 3 and children(soak.pid), "a daemon and two replays")
        pids += [worker for pid in pids for worker in children(pid)]
        soak.send_signal(signal.SIGTERM)
        soak.communicate(timeout=60)
        assert soak.returncode == 128 + signal.SIGTERM, soak.returncode
    cli_world.until(lambda: not [pid for pid in pids if alive(pid)], "what it started ends")


def main():
    report = junit.Report("soak")
    report.run("seconds of a soak", short_soak)
    report.run("without kills and stops", nobody_was_killed)
    report.run("no programs", usage)
    report.run("a signal", interrupted)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
