"""Proves that `kvtier replay` plays traces against a real daemon as docs/cli.md says: hits as a naive model of prefixes
counts them, every byte verified, requests shared out to processes of which some die, and a daemon that goes away and
comes back. Traces are generated here.
"""

import json
import os
import pathlib
import re
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(os.environ.get("KVTIER_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(ROOT / "tests" / "support"))
import cli_world  # noqa: E402
import junit  # noqa: E402

SMALL_CHUNKS = ("--bytes-per-token", "2")  # 1 KiB a block of 512 tokens: all of it fits


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def naive_hits(prompts):
    """Blocks of each prompt whose whole prefix was there before, with room for everything."""
    seen, hits = set(), 0
    for prompt in prompts:
        prefixes = [tuple(prompt[:i + 1]) for i in range(len(prompt))]
        hits += next((i for i, prefix in enumerate(prefixes) if prefix not in seen), len(prefixes))
        seen.update(prefixes)
    return hits


class Cases:
    def __init__(self, world):
        self.world = world

    def path(self, name):
        return str(self.world.directory / name)

    def generate(self, name, *args):
        self.world.run("trace", "generate", "-o", self.path(name), *args, socket=False)
        lines = [json.loads(line) for line in open(self.path(name), encoding="ascii")]
        return [line["hash_ids"] for line in lines]

    def write_lines(self, name, prompts, ms=0):
        with open(self.path(name), "w", encoding="ascii") as file:
            for i, ids in enumerate(prompts):
                line = {"timestamp": i * ms, "input_length": 512 * len(ids), "output_length": 1, "hash_ids": ids}
                file.write(json.dumps(line) + "\n")
        return prompts

    def replay(self, name, *args, rc=0):
        output, error = self.world.run("replay", "--trace", self.path(name), *SMALL_CHUNKS, "--json", *args, rc=rc)
        report = json.loads(output)
        assert report["corrupt"] == 0 and report["damaged"] == 0, report
        assert report["verified"] == report["hits"] == sum(report["hits_by_tier"].values()), report
        assert report["verified"] == sum(report["transport"].values()), report
        return report, error

    def settled(self):
        return cli_world.until(lambda: self.world.json("status")["sessions"] == 0, "the workers' sessions end")

    def hits_of_one_worker(self):
        """One worker plays in the trace's order: the model's hits exactly, shared prefixes included."""
        for kind in ("chat", "rag", "agent"):
            prompts = self.generate(kind, "--kind", kind, "--requests", "120", "--seed", "3")
            report, _ = self.replay(kind, "--speed", "max")
            assert report["requests"] == len(prompts) and report["chunks"] == sum(map(len, prompts)), report
            # Ids of one trace stay apart from those of another only where their prefixes differ.
            assert report["stored"] + report["hits"] == report["chunks"], report
            if kind == "chat":
                assert report["hits"] == naive_hits(prompts), report
            again, _ = self.replay(kind, "--speed", "max")
            assert again["hits"] == again["chunks"] and again["stored"] == 0, "all of it fits"
            assert again["hit_rate"] == 1 and again["latency_us"]["p99"] >= again["latency_us"]["p50"] > 0, again
            assert sum(again["bytes_by_link"].values()) == again["chunks"] * 1024, again

    def hits_of_two_workers(self):
        """Conversations that share nothing: the model's hits exactly, whoever plays which first."""
        # Each turn adds whole blocks, so no prompt looks like the beginning of two others.
        turns = [(conversation, turn) for turn in range(5) for conversation in range(60)]
        prompts = self.write_lines("apart", [[10**9 + 100 * c + i for i in range(2 + 3 * t + c % 4)] for c, t in turns])
        report, _ = self.replay("apart", "--workers", "2", "--speed", "max")
        expected = naive_hits(prompts)
        assert report["hits"] == expected > 100, (report, expected)
        assert report["already_stored"] == 0 and report["recomputed"] == 0 and report["refused"] == 0, report

    def shared_prefixes(self):
        """Prefixes that two workers store at once: what one finds too late is already there, and no more than that."""
        prompts = self.write_lines("shared", [[7 * 10**9, 8 * 10**9 + i % 3, 9 * 10**9 + i] for i in range(200)])
        report, _ = self.replay("shared", "--workers", "2", "--speed", "max")
        assert report["hits"] + report["already_stored"] == naive_hits(prompts), report
        assert report["workers"] == 2 and report["verified"] > 300, report

    def sessions(self):
        """Sessions' own ids stay apart, tools and system prompt are shared, and the sub-agent's are others."""
        folder = self.world.directory / "sessions"
        folder.mkdir()

        def requests(*prompts):
            return [{"t": 5 * i, "model": "m", "in": 1, "out": 1, "hash_ids": ids} for i, ids in enumerate(prompts)]

        agent = {"t": 6, "type": "subagent", "tool_tokens": 100, "system_tokens": 0, "requests": requests([20, 21], [20, 22])}
        one = {"id": "one", "block_size": 64, "tool_tokens": 100, "system_tokens": 100,
               "requests": requests([1, 2, 3, 4, 5], [1, 2, 3, 4, 6]) + [agent]}
        two = dict(one, id="two", requests=requests([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 7]))
        for session in (one, two):
            (folder / f"{session['id']}.json").write_text(json.dumps(session))
        report, _ = self.replay("sessions", "--speed", "max")
        assert report["requests"] == 6 and report["chunks"] == 5 + 5 + 2 + 2 + 5 + 6, report
        # Three shared blocks, whichever session is first; then what each session, and the agent, has itself. The
        # agent's one block of tools of 100 tokens is the first of theirs: same model, same tools.
        assert report["hits"] == 3 + 4 + 5 + 1 + 1, report
        assert report["trace_seconds"] > 5, report
        again, _ = self.replay("sessions", "--speed", "max", "--workers", "2", "--sessions", "3", "--seed", "5")
        assert again["hits"] == again["chunks"] == report["chunks"], again
        alone, _ = self.replay("sessions/one.json", "--speed", "max")
        assert alone["hits"] == alone["chunks"] == 14, alone

    def limit(self):
        prompts = self.generate("chat", "--kind", "chat", "--requests", "120", "--seed", "3")
        report, _ = self.replay("chat", "--limit", "7", "--speed", "max", "--workers", "3")
        assert report["requests"] == 7 and report["chunks"] == sum(map(len, prompts[:7])), report

    def progress(self):
        """Requests, chunks and bytes, of the whole where it is known."""
        self.write_lines("counted", [[3 * 10**8 + i, 4 * 10**8 + i] for i in range(30)])
        _, text = self.replay("counted", "--speed", "max", "--progress")
        assert "replay: 30 of 30 requests, 60 of 60 chunks, 60 KiB of 60 KiB (100 %)" in text, text
        report, text = self.replay("counted", "--speed", "max", "--progress", "--duration", "300ms")
        assert f"replay: {report['requests']} requests, {report['chunks']} chunks, " in text and "%" not in text, text

    def paced(self):
        self.write_lines("paced", [[i] for i in range(6)], ms=400)
        report, _ = self.replay("paced", "--speed", "10", "--workers", "2")
        assert report["trace_seconds"] == 2 and report["seconds"] >= 0.2, report
        report, _ = self.replay("paced", "--speed", "max", "--duration", "300ms")
        assert report["repeats"] > 1 and report["requests"] > 6 and report["seconds"] >= 0.3, report

    def transport(self):
        """Reads are counted by the way they came: all from shared memory, or all by stream where there is none."""
        self.write_lines("ways", [[2 * 10**8 + i // 3] for i in range(30)])
        report, _ = self.replay("ways", "--speed", "max")
        assert report["transport"] == {"shared_memory": 20, "stream": 0}, report
        self.world.stop()
        self.world.start(cli_world.SMALL + "listen: {shared_memory: false}\n")
        report, _ = self.replay("ways", "--speed", "max")
        assert report["transport"] == {"shared_memory": 0, "stream": 20}, report
        self.world.stop()
        self.world.start(cli_world.SMALL)

    def logical_time(self):
        """The trace's time goes along with lookups, commits and reports where the daemon takes it, however fast it is played."""
        self.write_lines("times", [[10**8 + i // 2] for i in range(20)], ms=1000)
        before = self.world.json("status")["counters"]
        self.replay("times", "--speed", "max")
        after = self.world.json("status")["counters"]
        assert after["logical_times"] == before["logical_times"] == 0, "this daemon does not take it"
        self.world.stop()
        self.world.start(cli_world.SMALL + "policy: {logical_time: true}\n")
        report, _ = self.replay("times", "--speed", "max", "--workers", "2")
        counters = self.world.json("status")["counters"]
        # 20 lookups, 10 commits of what was new, 10 reports of what was read: by calls, as rings carry no time.
        assert counters["logical_times"] == 20 + report["stored"] + report["hits"] == 40, (counters, report)
        assert counters["reported_reads"] == report["hits"] == 10 and counters["shared_reports"] == 0, counters
        self.world.stop()
        self.world.start(cli_world.SMALL)

    def no_room(self):
        """A prompt that is larger than all pools: what has no room is refused, and the replay goes on."""
        self.write_lines("large", [list(range(10**6, 10**6 + 600)), [5]])
        output, _ = self.world.run("replay", "--trace", self.path("large"), "--bytes-per-token", "512", "--speed", "max",
                                   "--json")
        report = json.loads(output)
        # The last chunk may have been dropped for want of room before the next one was to follow it.
        codes = report["errors_by_code"]
        assert report["refused"] > 100 and codes.keys() <= {"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"} and codes, report
        assert report["first_errors"].keys() == codes.keys() and all(report["first_errors"].values()), report
        assert report["refused"] + report["stored"] + report["hits"] == 601 and report["requests"] == 2, report

    def model_is_refused(self):
        """No daemon with segments of 1 MiB can take a chunk of 2 MiB: said once, not counted for ever."""
        _, text = self.world.run("replay", "--trace", self.path("large"), "--bytes-per-token", "4096", rc=1)
        assert "--bytes-per-token is 4 KiB" in text and "1 to 2048 bytes a token are allowed" in text, text
        self.world.run("replay", "--trace", self.path("large"), "--bytes-per-token", "2048", "--limit", "1", "--speed", "max")
        self.write_lines("one", [[5]])
        _, text = self.world.run("replay", "--trace", self.path("one"), "--bytes-per-token", "1MiB", "--block-tokens", "1025", rc=2)
        assert "--bytes-per-token is 1 MiB" in text and "1 to 1047552 bytes a token are allowed" in text, text

    def a_worker_dies(self):
        prompts = self.write_lines("long", [[i, i + 10**5] for i in range(150)], ms=20)
        with self.world.popen("replay", "--trace", self.path("long"), "--workers", "2", *SMALL_CHUNKS, "--json") as replay:
            pids = cli_world.until(lambda: len(children(replay.pid)) == 2 and children(replay.pid), "two workers")
            os.kill(pids[0], signal.SIGKILL)
            output, error = replay.communicate(timeout=60)
            assert replay.returncode == 1, error
        report = json.loads(output)
        assert report["requests"] + report["lost"] == len(prompts), report
        [failure] = report["failures"]
        assert failure["pid"] == pids[0] and failure["reason"] == "signal 9 (KILL)" and failure["worker"] in (0, 1), failure
        assert f"pid {pids[0]}" in error.decode() and "signal 9 (KILL)" in error.decode(), error
        self.settled()

    def workers_are_killed(self):
        prompts = self.write_lines("long", [[i, i + 10**5] for i in range(150)], ms=10)
        report, _ = self.replay("long", "--workers", "3", "--kill-every", "100ms", "--seed", "2")
        assert report["kills"] > 0 and report["failures"] == [], report
        assert report["requests"] + report["lost"] == len(prompts) and report["lost"] <= report["kills"], report
        self.settled()

    def interrupted(self):
        self.write_lines("slow", [[i] for i in range(3)], ms=1_000_000)
        with self.world.popen("replay", "--trace", self.path("slow"), "--workers", "3", *SMALL_CHUNKS) as replay:
            pids = cli_world.until(lambda: len(children(replay.pid)) == 3 and children(replay.pid), "three workers")
            cli_world.until(lambda: self.world.json("status")["sessions"] == 3, "three sessions")
            replay.send_signal(signal.SIGINT)
            output, error = replay.communicate(timeout=60)
            assert replay.returncode == 130 and b"interrupted by SIGINT" in error, (output, error)
        assert not [pid for pid in pids if alive(pid)], "a worker outlived the replay"
        self.settled()

    def interrupted_report(self):
        """What was played before the signal is reported."""
        self.write_lines("begun", [[i // 2 + 10**8 * 3] for i in range(200)], ms=50)
        before = self.world.json("status")["chunks"]
        with self.world.popen("replay", "--trace", self.path("begun"), *SMALL_CHUNKS, "--json") as replay:
            cli_world.until(lambda: self.world.json("status")["chunks"] > before + 1, "two prompts are stored")
            replay.send_signal(signal.SIGTERM)
            output, error = replay.communicate(timeout=60)
        assert replay.returncode == 143 and b"interrupted by SIGTERM" in error, error
        report = json.loads(output)
        assert 2 <= report["requests"] < 200 and report["stored"] >= 1 and report["failures"] == [], report
        self.settled()

    def killed(self):
        """What cannot be caught: the workers end nevertheless."""
        with self.world.popen("replay", "--trace", self.path("slow"), "--workers", "3", *SMALL_CHUNKS) as replay:
            pids = cli_world.until(lambda: len(children(replay.pid)) == 3 and children(replay.pid), "three workers")
            replay.kill()
        cli_world.until(lambda: not [pid for pid in pids if alive(pid)], "the workers end")
        self.settled()

    def daemon_goes_away(self):
        prompts = self.write_lines("long", [[i, i + 10**5] for i in range(300)], ms=20)
        with self.world.popen("replay", "--trace", self.path("long"), "--workers", "2", *SMALL_CHUNKS, "--json") as replay:
            cli_world.until(lambda: self.world.json("status")["chunks"] > 0, "the replay is under way")
            self.world.stop(signal.SIGKILL)
            end = time.monotonic() + 0.5  # of the outage: some 25 requests fall into it
            cli_world.until(lambda: time.monotonic() > end, "the outage is over")
            self.world.start(cli_world.SMALL)
            output, error = replay.communicate(timeout=120)
            assert replay.returncode == 0, error
        report = json.loads(output)
        assert report["requests"] == len(prompts) and report["failures"] == [] and report["lost"] == 0, report
        assert self.world.json("status")["chunks"] > 0, "nothing was stored in the daemon that came back"
        assert report["recomputed"] > 0 and report["errors_by_code"]["UNAVAILABLE"] >= report["recomputed"], report

    def daemon_stays_away(self):
        """Numbers of a replay that had no daemon in the end are reported, but as a failure."""
        prompts = self.write_lines("away", [[i + 10**7] for i in range(60)], ms=50)
        before = self.world.json("status")["chunks"]
        with self.world.popen("replay", "--trace", self.path("away"), "--workers", "2", *SMALL_CHUNKS, "--json") as replay:
            cli_world.until(lambda: self.world.json("status")["chunks"] > before, "the replay is under way")
            self.world.stop(signal.SIGKILL)
            output, error = replay.communicate(timeout=120)
        report, text = json.loads(output), error.decode()
        assert replay.returncode == 1, f"exit code {replay.returncode}: {text}"
        assert report["requests"] == len(prompts) > report["recomputed"] > 0, report
        assert re.search(fr"no answer to the last \d+ of {len(prompts)} requests: no kvtierd at {self.world.socket}", text), text
        self.world.start(cli_world.SMALL)

    def daemon_never_answers(self):
        """One that drains is there and refuses; one that hangs never answers."""
        self.write_lines("few", [[1], [2]])
        self.world.run("drain")
        _, text = self.world.run("replay", "--trace", self.path("few"), *SMALL_CHUNKS, rc=1)
        assert "no answer to the last 2 of 2 requests: " in text and "draining" in text, text
        self.world.stop()
        self.world.start(cli_world.SMALL)
        self.world.process.send_signal(signal.SIGSTOP)
        try:
            output, text = self.world.run("replay", "--trace", self.path("few"), *SMALL_CHUNKS, "--json", rc=3)
        finally:
            self.world.process.send_signal(signal.SIGCONT)
        assert "no answer to the last 2 of 2 requests: " in text and json.loads(output)["recomputed"] == 2, text

    def no_daemon(self):
        _, text = self.world.run("replay", "--trace", self.path("slow"), rc=3)
        assert self.world.socket in text and text == self.world.run("status", rc=3)[1], text

    def bad_traces(self):
        """No daemon runs: what is wrong with a file is said first, with file, line or record, number and limit."""
        good = '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [1]}\n'
        folder = self.world.directory / "bad"
        folder.mkdir()
        session = '{"block_size": 64, "requests": [{"t": 0, "hash_ids": [1]}, {"t": 1, "hash_ids": [%s]}]}'
        for name, text, wanted in (
                ("cut.jsonl", good + good[:40], "cut.jsonl:2: no JSON: parse error at column 41: "),
                ("negative.jsonl", good + good.replace("[1]", "[-1]"), "negative.jsonl:2: hash_ids[0] is -1; a whole number"),
                ("nan.jsonl", good.replace("0,", "NaN,", 1), "nan.jsonl:1: no JSON"),
                ("twice.jsonl", good.replace("[1]", "[1, 2, 1]"), "twice.jsonl:1: hash_ids[2] is 1, which stands before"),
                ("far.jsonl", good.replace("0,", "1e300,", 1), "timestamp is 1e+300; a number from 0 to 1000000000000"),
                ("blocks.jsonl", good + good.replace("[1]", "[1, 2]").replace('length": 1', 'length": 128', 1),
                 "blocks.jsonl:2: hash_ids has 2 ids, input_length 128 needs 1 of 512 tokens; "
                 "--block-tokens 64 fits"),
                ("deep.jsonl", "[" * 200_000, "deep.jsonl:1: nested too deeply; the limit is 16"),
                ("wrong.jsonl", "{}", "wrong.jsonl:1: there is no timestamp"),
                ("empty.jsonl", "", "there is no request"),
                ("zero.jsonl", "\0" * 5000, "zero.jsonl:1: no JSON"),
                ("s.json", session % '"x"', 's.json: requests[1]: hash_ids[0] is "x"; a whole number'),
                ("cut.json", session[:50], "cut.json: no JSON"),
                ("big.json", (session % 2).replace("64", "65537"), "block_size is 65537; a whole number from 1 to 65536")):
            (folder / name).write_text(text)
            _, error = self.world.run("replay", "--trace", str(folder / name), rc=1)
            assert wanted in error and str(folder / name) in error, f"{name}: {error}"
            assert len(error) < 1000 and "exception" not in error, f"{name}: {error}"
        for path, wanted in ((self.path("none"), "No such file"), ("/dev/zero", "/dev/zero:1: the line has more than 16777216 bytes"),
                             (str(folder), "bad/big.json: block_size is 65537")):
            _, error = self.world.run("replay", "--trace", path, rc=1)
            assert wanted in error, error

    def generator(self):
        """To a file and to the standard output the same bytes; what fails leaves no file."""
        first, _ = self.world.run("trace", "generate", "--kind", "rag", "--seed", "9", socket=False)
        self.generate("rag", "--kind", "rag", "--seed", "9")
        assert first == pathlib.Path(self.path("rag")).read_text() and first.count("\n") == 1000
        assert first != self.world.run("trace", "generate", "--kind", "rag", "--seed", "8", socket=False)[0]
        assert re.match(r'\{"timestamp": \d+, "input_length": \d+, "output_length": \d+, "hash_ids": \[0, ', first)
        self.world.run("trace", "generate", "--kind", "rag", "-o", self.path("none/none"), rc=1, socket=False)


def main():
    report = junit.Report("replay")
    with tempfile.TemporaryDirectory(prefix="kvtier-replay-") as directory:
        world = cli_world.World(directory)
        cases = Cases(world)
        try:
            report.run("the generator writes the same bytes anywhere", cases.generator)
            report.run("bad traces are refused by name", cases.bad_traces)
            if report.run("a daemon starts", world.start, cli_world.SMALL):
                for name in ("hits_of_one_worker", "hits_of_two_workers", "shared_prefixes", "sessions", "limit", "progress", "paced", "transport", "logical_time",
                             "no_room", "model_is_refused", "a_worker_dies", "workers_are_killed", "interrupted", "interrupted_report", "killed",
                             "daemon_goes_away", "daemon_stays_away", "daemon_never_answers"):
                    report.run(name, getattr(cases, name))
                world.stop()
                report.run("without a daemon", cases.no_daemon)
        finally:
            world.stop()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
