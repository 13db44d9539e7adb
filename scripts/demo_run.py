#!/usr/bin/env python3
"""Shows inference workers decoding through a kvtier daemon, and checks what they did.

Starts kvtierd with its embedded default configuration, with pools made too small for everything that the workers
keep, runs three workers whose prompts share prefixes, kills one half-way, flips a bit in a stored block, and
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

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
WORKERS = 3
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/OPERATING.md", "docs/cli.md",
             "docs/DEPENDENCIES.md", "docs/decisions/0001-a-row-per-chunk.md",
             "docs/decisions/0003-one-server-per-tenant.md"]
QUESTIONS = ["Question: what does this part decide, and what does it cost? Answer:",
             "Question: which numbers does it name, and what limits them? Answer:",
             "Question: what would a new operator get wrong here? Answer:"]
HBM_BYTES = 2 << 20
DRAM_BYTES = 17 << 20
MAX_TOKENS = 48

# What has to be reached.
DISTINCT_MIN = 16
REUSED_MIN = 0.30
POOL_SHARE_MIN = 0.20
MOVED_MIN = 100


class DemoError(Exception):
    pass


class Demo:
    def __init__(self, bin_dir, directory, verbose):
        self.bin_dir = bin_dir
        self.directory = directory
        self.verbose = verbose
        self.socket = os.path.join(directory, "kvtierd.sock")
        self.processes = []
        self.rows = []
        self.failures = []

    def program(self, name):
        path = os.path.join(self.bin_dir, name)
        if not os.access(path, os.X_OK):
            raise DemoError(f"{path} is missing; run scripts/demo, which builds it")
        return path

    def start(self, arguments, **options):
        process = subprocess.Popen(arguments, **options)
        self.processes.append(process)
        return process

    def stop_all(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def check(self, what, value, ok, need):
        self.rows.append((what, value, need, "ok" if ok else "FAILED"))
        if not ok:
            self.failures.append(what)

    # --- the daemon ---------------------------------------------------------------------------------------------

    def start_daemon(self, *extra):
        log = open(os.path.join(self.directory, "kvtierd.log"), "w", encoding="utf-8")
        ready_read, ready_write = os.pipe()
        self.daemon = self.start(
            [self.program("kvtierd"), "--socket", self.socket, "--ready-fd", str(ready_write),
             "--set", "memory.segment_bytes=1MiB",
             "--set", f"pools=[{{name: 'hbm:0', kind: hbm, budget_bytes: {HBM_BYTES >> 20}MiB}}, "
                      f"{{name: 'dram:0', kind: dram, budget_bytes: {DRAM_BYTES >> 20}MiB}}]", *extra],
            stdout=log, stderr=log, pass_fds=[ready_write])
        os.close(ready_write)
        if os.read(ready_read, 1) == b"":
            with open(log.name, encoding="utf-8") as text:
                raise DemoError("kvtierd did not start:\n" + text.read())
        os.close(ready_read)

    def ask(self, *arguments):
        result = subprocess.run([self.program("kvtier"), *arguments, "--json", "--socket", self.socket],
                                capture_output=True, text=True, timeout=30, check=False)
        if result.returncode != 0:
            raise DemoError(f"kvtier {' '.join(arguments)}: {result.stderr.strip()}")
        return json.loads(result.stdout)

    def wait_for(self, what, condition, seconds=10):
        """Asks until `condition()` holds; each question takes a process, so this does not spin."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: not within {seconds} s")

    def moved_into(self):
        return {pool["name"]: pool["moved_in_blocks"] for pool in self.ask("pools")["pools"]}

    def stop_daemon(self):
        status = self.ask("status")
        self.check("leases and reservations left", f"{status['leases']} and {status['reservations']}",
                   status["leases"] == 0 and status["reservations"] == 0, "0 and 0")
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(timeout=30)
        self.check("daemon's exit status after SIGTERM", str(self.daemon.returncode), self.daemon.returncode == 0, "0")

    # --- workers ------------------------------------------------------------------------------------------------

    def prompts(self, worker):
        """Every worker asks its own question about every document, in its own order."""
        with open(os.path.join(ROOT, "docs/ARCHITECTURE.md"), encoding="utf-8") as file:
            shared = file.read()[:320]
        result = []
        for position in range(len(DOCUMENTS)):
            name = DOCUMENTS[(position + worker * 3) % len(DOCUMENTS)]
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                result.append(shared + "\n---\n" + file.read()[:480] + "\n---\n" + QUESTIONS[worker])
        return result

    def worker_arguments(self, worker, json_file, extra):
        arguments = [self.program("decode_worker"), "--max-tokens", str(MAX_TOKENS), "--prompt-bytes-max", "1200",
                     "--json", json_file, *extra]
        for prompt in self.prompts(worker):
            arguments += ["--prompt", prompt]
        return arguments

    def start_worker(self, worker, tag, extra):
        json_file = os.path.join(self.directory, f"{tag}.json")
        process = self.start(self.worker_arguments(worker, json_file, extra), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if not self.verbose else None, text=True)
        process.json_file = json_file
        process.tag = tag
        return process

    def finish_worker(self, process):
        process.communicate(timeout=120)
        if process.returncode != 0:
            raise DemoError(f"worker {process.tag} ended with status {process.returncode}")
        with open(process.json_file, encoding="utf-8") as file:
            return json.load(file)

    # --- the story ----------------------------------------------------------------------------------------------

    def run_reference(self):
        """Without the daemon, without reuse: two at a time, as there may be two cores only."""
        results = {}
        for first in range(0, WORKERS, 2):
            batch = range(first, min(first + 2, WORKERS))
            running = [self.start_worker(worker, f"reference-{worker}", ["--no-daemon", "--no-reuse"])
                       for worker in batch]
            for worker, process in zip(batch, running):
                results[worker] = self.finish_worker(process)
        return results

    def run_workers(self):
        """Three workers; the last is stopped half-way while it holds a lease, killed, and started again."""
        through_daemon = ["--socket", self.socket, "--rounds", "2"]
        half_way = str(len(DOCUMENTS))  # it leases once a prompt: one round is half
        before = self.moved_into()
        running = [self.start_worker(worker, f"worker-{worker}", through_daemon) for worker in range(WORKERS - 1)]
        victim = self.start_worker(WORKERS - 1, "victim",
                                   through_daemon + ["--pause-at", "leased", "--pause-after", half_way])
        for line in victim.stdout:
            if line.startswith("paused: leased"):
                break
        else:
            raise DemoError("the worker to be killed ended before it held a lease")
        sessions = self.ask("status")["sessions"]
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        alive = lambda: sum(1 for process in running if process.poll() is None)
        self.wait_for("the killed worker's session", lambda: self.ask("status")["sessions"] <= max(alive(), sessions - 1))
        restarted = self.start_worker(WORKERS - 1, "restarted", through_daemon)
        results = {worker: self.finish_worker(process) for worker, process in enumerate(running)}
        results[WORKERS - 1] = self.finish_worker(restarted)
        after = self.moved_into()
        return results, {pool: after[pool] - before[pool] for pool in after}

    def flip_bit(self, pattern):
        """Changes one bit in every copy of the block that starts with `pattern`; returns how many were found."""
        found = 0
        with open(f"/proc/{self.daemon.pid}/maps", encoding="utf-8") as maps:
            ranges = [line.split()[0] for line in maps if "memfd:" in line and " rw" in line]
        with open(f"/proc/{self.daemon.pid}/mem", "r+b", buffering=0) as memory:
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

    def run_control(self):
        """Stores a prompt, damages one of its K blocks, and decodes it again."""
        prompt = "A prompt of its own for the damaged block: " + self.prompts(0)[1][::-1][:300]
        arguments = ["--socket", self.socket, "--max-tokens", str(MAX_TOKENS), "--prompt", prompt]

        def decode(tag, extra=()):
            json_file = os.path.join(self.directory, f"{tag}.json")
            subprocess.run([self.program("decode_worker"), *arguments, *extra, "--json", json_file], check=True,
                           stdout=subprocess.DEVNULL, stderr=None if self.verbose else subprocess.DEVNULL, timeout=60)
            with open(json_file, encoding="utf-8") as file:
                return json.load(file)

        first = decode("control-first")
        flipped = self.flip_bit(bytes.fromhex(first["prompts"][0]["first_k_block_head"]))
        if flipped == 0:
            raise DemoError("the K block to damage is not in the daemon's memory")
        corrupt_before = self.ask("status")["counters"]["corrupt_copies"]
        second = decode("control-second")
        corrupt = self.ask("status")["counters"]["corrupt_copies"] - corrupt_before
        return first, second, corrupt

    # --- the verdict --------------------------------------------------------------------------------------------

    def judge(self, reference, results, moved):
        same = total = 0
        distinct = 1 << 30
        reused = chunks = 0
        fetched = {name: 0 for name in moved}
        for worker, result in results.items():
            expected = [prompt["generated"] for prompt in reference[worker]["prompts"]]
            for index, prompt in enumerate(result["prompts"]):
                total += 1
                same += prompt["generated"] == expected[index % len(expected)]
                distinct = min(distinct, prompt["distinct_bytes"])
            reused += result["totals"]["chunks_reused"]
            chunks += result["totals"]["chunks_total"]
            for pool, count in result["totals"]["fetched_bytes_by_pool"].items():
                fetched[pool] = fetched.get(pool, 0) + count
        self.check("answers equal to the run without the daemon", f"{same} of {total}", same == total, "all")
        self.check("fewest distinct bytes in an answer", str(distinct), distinct >= DISTINCT_MIN, f">= {DISTINCT_MIN}")
        share = reused / max(1, chunks)
        self.check("prompt chunks reused", f"{share:.0%} of {chunks}", share >= REUSED_MIN, f">= {REUSED_MIN:.0%}")
        everything = max(1, sum(fetched.values()))
        for pool, count in sorted(fetched.items()):
            self.check(f"fetched from {self.shown(pool)}", f"{count / everything:.0%} of {everything >> 20} MiB",
                       count / everything >= POOL_SHARE_MIN, f">= {POOL_SHARE_MIN:.0%}")
        for pool, count in sorted(moved.items()):
            self.check(f"blocks moved into {self.shown(pool)}", str(count), count >= MOVED_MIN, f">= {MOVED_MIN}")
        found_again = results[WORKERS - 1]["prompts"][0]["chunks_reused"]
        self.check("chunks found again by the killed worker", str(found_again), found_again > 0, "> 0")

    def shown(self, pool):
        return pool + (" (emulated)" if pool in self.emulated else "")

    def run(self):
        print("demo: decoding without the daemon, for comparison")
        reference = self.run_reference()
        self.start_daemon()
        pools = self.ask("pools")["pools"]
        self.emulated = {pool["name"] for pool in pools if pool["emulated"]}
        print(f"demo: {WORKERS} workers, {len(DOCUMENTS)} prompts each, twice; "
              + ", ".join(f"{self.shown(pool['name'])} {pool['budget_bytes'] >> 20} MiB" for pool in pools))
        results, moved = self.run_workers()
        self.judge(reference, results, moved)
        self.stop_daemon()
        print("demo: flipping a bit in a stored K block")
        # Under a policy that never moves a block: a move would find the damage before the worker does.
        self.start_daemon("--set", "policy={name: static, static_share: [0.5, 0.5]}")
        first, second, corrupt = self.run_control()
        lost = second["totals"]["data_loss"]
        self.check("damaged blocks reported as DATA_LOSS", str(lost), lost >= 1, ">= 1")
        self.check("damaged copies dropped by the daemon", str(corrupt), corrupt >= 1, ">= 1")
        self.check("chunks recomputed after it", str(second["totals"]["recomputed_chunks"]),
                   second["totals"]["recomputed_chunks"] >= 1, ">= 1")
        self.check("answer after the damage", "unchanged",
                   first["prompts"][0]["generated"] == second["prompts"][0]["generated"], "unchanged")
        self.stop_daemon()

    def print_table(self):
        widths = [max(len(row[i]) for row in self.rows) for i in range(3)]
        print()
        for what, value, need, verdict in self.rows:
            print(f"  {what:<{widths[0]}}  {value:>{widths[1]}}  {need:>{widths[2]}}  {verdict}")
        print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", default=os.path.join(ROOT, "build/release/bin"),
                        help="where kvtierd, kvtier and decode_worker are (default: build/release/bin)")
    parser.add_argument("--keep", action="store_true", help="keep the directory with logs and JSON, and name it")
    parser.add_argument("--verbose", action="store_true", help="show what the workers print")
    arguments = parser.parse_args()
    started = time.monotonic()
    directory = tempfile.mkdtemp(prefix="kvtier-demo-")
    demo = Demo(arguments.bin_dir, directory, arguments.verbose)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    error = None
    try:
        demo.run()
    except (DemoError, OSError, subprocess.SubprocessError, KeyError) as caught:
        error = caught
    finally:
        demo.stop_all()
        if not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)
    if demo.rows:
        demo.print_table()
    if arguments.keep:
        print(f"demo: logs and JSON are in {directory}")
    if error is not None:
        print(f"demo: FAILED: {error!r}" if isinstance(error, KeyError) else f"demo: FAILED: {error}")
        return 1
    if demo.failures:
        print("demo: FAILED: " + "; ".join(demo.failures))
        return 1
    print(f"demo: took {time.monotonic() - started:.0f} s")
    print("demo: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
