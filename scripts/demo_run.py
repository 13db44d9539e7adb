#!/usr/bin/env python3
"""Shows inference workers decoding through a kvtier daemon, and checks what they did.

Starts kvtierd with its embedded default configuration, with pools made too small for everything that the workers
keep, runs three workers whose prompts share prefixes and who attend to
them where they lie, moving or not, kills one half-way, flips a bit in a stored block, and
compares every generated token with a run without the daemon. Ends with a table and `demo: ok`, or `demo: FAILED`.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import demo_verdict  # noqa: E402
from demo_processes import STOP_SIGNALS, Daemon, DemoError, Processes, Worker, attend  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
WORKERS = 3
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/OPERATING.md", "docs/cli.md",
             "docs/DEPENDENCIES.md", "docs/decisions/0001-a-row-per-chunk.md",
             "docs/decisions/0003-one-server-per-tenant.md"]
QUESTIONS = ["Question: what does this part decide, and what does it cost? Answer:",
             "Question: which numbers does it name, and what limits them? Answer:",
             "Question: what would a new operator get wrong here? Answer:"]
OWN_DOCUMENT = "docs/decisions/0002-engine-behind-a-lock.md"
HBM_BYTES = 2 << 20
DRAM_BYTES = 17 << 20
# Small enough for each worker to have segments of its own to write in both pools.
SEGMENT_BYTES = 256 << 10
# What a run that builds nothing should stay under.
SECONDS_MAX = 30


def text_of(name, characters):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()[:characters]


class Demo:
    def __init__(self, processes, verbose):
        self.processes = processes
        self.verbose = verbose
        self.verdict = demo_verdict.Verdict()
        self.shared = text_of("docs/ARCHITECTURE.md", 320)
        # Only the worker that is killed has this one, so that nobody else can have kept it.
        self.own = self.shared + "\n---\n" + text_of(OWN_DOCUMENT, 480) + "\n---\n" + QUESTIONS[-1]
        self.control = "A prompt of its own for the damaged block: " + self.prompts(0)[1][::-1][:300]

    def prompts(self, worker):
        """Every worker asks its own question about every document, in its own order."""
        names = [DOCUMENTS[(position + worker * 3) % len(DOCUMENTS)] for position in range(len(DOCUMENTS))]
        return [self.shared + "\n---\n" + text_of(name, 480) + "\n---\n" + QUESTIONS[worker] for name in names]

    def start_worker(self, tag, prompts, *flags, stop_after=None):
        flags = ["--max-tokens", str(demo_verdict.MAX_TOKENS), "--prompt-bytes-max", "1200", *flags]
        return Worker(self.processes, tag, prompts, flags, stop_after=stop_after, verbose=self.verbose)

    def start_daemon(self, tag, *flags):
        self.daemon = Daemon(
            self.processes, tag, "--set", f"memory.segment_bytes={SEGMENT_BYTES >> 10}KiB",
            "--set", f"pools=[{{name: 'hbm:0', kind: hbm, budget_bytes: {HBM_BYTES >> 20}MiB}}, "
                     f"{{name: 'dram:0', kind: dram, budget_bytes: {DRAM_BYTES >> 20}MiB}}]", *flags)

    def stop_daemon(self):
        status = self.daemon.ask("status")
        self.verdict.equal("leases and reservations left", f"{status['leases']} and {status['reservations']}",
                           "0 and 0")
        self.verdict.equal("daemon's exit status after SIGTERM", self.daemon.stop(), 0)

    def finish(self, *workers):
        attend(workers, "the workers' end", lambda worker: worker.ended)
        for worker in workers:
            path = os.path.join(self.processes.directory, f"{worker.tag}.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(worker.results, file, indent=1)

    def run_reference(self):
        """{prompt: answer}, without the daemon and without reuse: two at a time, as there may be two cores only."""
        lists = [self.prompts(worker) for worker in range(WORKERS)]
        lists.append([self.own, self.control])
        answers = {}
        for first in range(0, len(lists), 2):
            batch = lists[first:first + 2]
            running = [self.start_worker(f"reference-{first + i}", prompts, "--no-daemon", "--no-reuse")
                       for i, prompts in enumerate(batch)]
            self.finish(*running)
            for prompts, worker in zip(batch, running):
                answers.update(zip(prompts, (result["generated"] for result in worker.results)))
        return answers

    def run_workers(self, answers):
        """Three workers, a list of prompts twice; half-way the last is killed and started again.

        Half-way all stand still, each with a lease. The last goes on to its own prompt, stores it, leases what it
        stored, and is killed. The others go on when the restarted one has found that prompt: nothing is evicted
        meanwhile, so what the daemon counts, and what is found, is exact.
        """
        through_daemon = ["--socket", self.daemon.socket]
        half = len(DOCUMENTS)
        moved, reported = self.daemon.moved_into(), self.daemon.counter("reported_reads")
        lists = [self.prompts(worker) for worker in range(WORKERS)]
        others = [self.start_worker(f"worker-{i}", lists[i], *through_daemon, "--rounds", "2", stop_after=half)
                  for i in range(WORKERS - 1)]
        victim = self.start_worker("killed", lists[-1] + [self.own, self.own], *through_daemon, stop_after=half)
        attend([*others, victim], "half-way", lambda worker: worker.paused)
        victim.go_on(stop_after=half + 1)
        attend([victim], "the second lease on its own prompt", lambda worker: worker.paused)
        before_kill = self.daemon.held()
        victim.kill()
        after_kill = self.until_held_less_than(before_kill)
        restarted = self.start_worker("restarted", [self.own] + lists[-1], *through_daemon, stop_after=0)
        attend([restarted], "a lease of the restarted worker", lambda worker: worker.paused)
        for worker in [*others, restarted]:
            worker.go_on(stop_after=None)
        self.finish(*others, restarted)
        asked = {worker.tag: prompts * 2 for worker, prompts in zip(others, lists)}
        asked["killed"] = lists[-1] + [self.own]
        asked["restarted"] = [self.own] + lists[-1]
        moved_after = self.daemon.moved_into()
        return demo_verdict.Seen(
            asked=asked, answers=answers,
            results={worker.tag: worker.results for worker in [*others, victim, restarted]},
            moved={pool: moved_after[pool] - moved[pool] for pool in moved_after}, emulated=self.emulated,
            reported_reads=self.daemon.counter("reported_reads") - reported,
            before_kill=before_kill, after_kill=after_kill, killed="killed", restarted="restarted", own=self.own)

    def until_held_less_than(self, before, seconds=10):
        """(sessions, leases) once both fell, or after `seconds`; each question takes a process, so this does not
        spin."""
        deadline = time.monotonic() + seconds
        while True:
            held = self.daemon.held()
            if held[0] < before[0] and held[1] < before[1] or time.monotonic() > deadline:
                return held

    def flip_bit(self, pattern):
        """Changes one bit in every copy of the block that starts with `pattern`; returns how many were found."""
        found = 0
        pid = self.daemon.process.pid
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            ranges = [line.split()[0] for line in maps if "memfd:kvtier:" in line and " rw" in line]  # of pools
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            for text in ranges:
                first, end = (int(part, 16) for part in text.split("-"))
                memory.seek(first)
                content = memory.read(end - first)
                at = content.find(pattern)
                while at >= 0:
                    memory.seek(first + at + 5)
                    memory.write(bytes([content[at + 5] ^ 0x10]))
                    found += 1
                    at = content.find(pattern, at + 1)
        return found

    def run_control(self, answer):
        """Stores a prompt, damages one of its K blocks, and decodes it twice more."""
        def decode(tag):
            worker = self.start_worker(tag, [self.control], "--socket", self.daemon.socket)
            self.finish(worker)
            if len(worker.results) != 1:
                raise DemoError(f"{tag}: {len(worker.results)} answers to one prompt")
            return worker.results[0]

        before = decode("control-before")
        flipped = self.flip_bit(bytes.fromhex(before["first_k_block_head"]))
        corrupt = self.daemon.counter("corrupt_copies")
        after = decode("control-after")
        corrupt = self.daemon.counter("corrupt_copies") - corrupt
        runs = (before, after, decode("control-again"))
        demo_verdict.judge_control(self.verdict, self.control, answer, runs, flipped, corrupt)

    def run(self):
        say("decoding without the daemon, for comparison")
        answers = self.run_reference()
        self.start_daemon("kvtierd")
        pools = self.daemon.ask("pools")["pools"]
        self.emulated = {pool["name"] for pool in pools if pool["emulated"]}
        shown = [f"{pool['name']}{' (emulated)' if pool['emulated'] else ''} {pool['budget_bytes'] >> 20} MiB"
                 for pool in pools]
        say(f"{WORKERS} workers, {len(DOCUMENTS)} prompts each, twice; {', '.join(shown)}")
        demo_verdict.judge(self.verdict, self.run_workers(answers))
        self.stop_daemon()
        say("flipping a bit in a stored K block")
        # Under a policy that never moves a block: a move would find the damage before the worker does. It does on its
        # first read of the block.
        self.start_daemon("kvtierd-control", "--set", "policy={name: static, static_share: [0.5, 0.5]}")
        self.run_control(answers[self.control])
        self.stop_daemon()


def say(text):
    print(f"demo: {text}", flush=True)


def stop(number, _frame):
    raise SystemExit(128 + number)


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", default=os.path.join(ROOT, "build/release/bin"),
                        help="where kvtierd, kvtier and decode_worker are (default: build/release/bin)")
    parser.add_argument("--keep", action="store_true", help="keep the directory with logs and JSON, and name it")
    parser.add_argument("--verbose", action="store_true", help="show what the workers say on standard error")
    arguments = parser.parse_args()
    started = time.monotonic()
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, stop)
    demo = directory = error = None
    try:
        # Not to be stopped between making the directory and knowing its name.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        directory = tempfile.mkdtemp(prefix="kvtier-demo-")
        processes = Processes(arguments.bin_dir, directory)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        demo = Demo(processes, arguments.verbose)
        demo.run()
    except (DemoError, OSError, subprocess.SubprocessError, KeyError, ValueError) as caught:
        error = f"{type(caught).__name__}: {caught}" if not isinstance(caught, DemoError) else str(caught)
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if directory is not None:
            processes.stop_all()
            if not arguments.keep:
                shutil.rmtree(directory, ignore_errors=True)
    if demo is not None and demo.verdict.rows:
        print(f"\n{demo.verdict.table()}\n")
    if arguments.keep:
        say(f"logs and JSON are in {directory}")
    failures = [error] if error is not None else demo.verdict.failures
    if failures:
        say("FAILED: " + "; ".join(failures))
        return 1
    seconds = time.monotonic() - started
    say(f"took {seconds:.0f} s")
    if seconds > SECONDS_MAX:
        say(f"that is more than {SECONDS_MAX} s: the machine is slow or busy, or kvtier has become slower")
    say("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
