"""The load of a soak: replays in process groups of their own, of which something is killed or stopped at random."""

import json
import os
import random
import signal
import subprocess
import time

from soak_daemon import SoakError

# How long a stop lasts: short ones interrupt whatever a worker does, long ones outlast limits of the daemon.
SHORT_STOP_SECONDS = (0.05, 0.5)
LONG_STOP_SECONDS = (1.0, 7.0)
END_SECONDS = 120  # that a replay may take to end after its time
SUMS = ("requests", "chunks", "hits", "verified", "corrupt", "damaged", "stored", "refused", "recomputed", "kills", "lost",
        "unplayed")


class Replay:
    """`kvtier replay` again and again, a round of it at a time: a round that is killed has no report."""

    def __init__(self, processes, name, command, round_seconds):
        self.processes = processes
        self.name = name
        self.command = command
        self.round_seconds = round_seconds
        self.process = None
        self.rounds = 0
        self.killed = False
        self.reports = []
        self.ends_at = 0.0

    def start(self, seconds):
        self.rounds += 1
        self.killed = False
        self.ends_at = time.monotonic() + seconds + END_SECONDS
        with open(self.processes.log(self.name), "wb") as log, open(self.output(), "wb") as output:
            self.process = self.processes.start([*self.command, "--seed", str(self.rounds), "--duration", f"{seconds:.3f}s"],
                                                stdin=subprocess.DEVNULL, stdout=output, stderr=log, process_group=0)

    def output(self):
        return os.path.join(self.processes.directory, f"{self.name}.json")

    def go_on(self, until):
        """Takes the report of a round that ended and starts the next one. False: there is no more."""
        if self.process is not None:
            if self.process.poll() is None:
                if time.monotonic() > self.ends_at:
                    raise SoakError(f"{self.name} does not end")
                return True
            self.processes.started.remove(self.process)
            self.process = None
            self.take_report()
        left = until - time.monotonic()
        if left < 1:
            return False
        self.start(min(left, self.round_seconds) if left > 1.5 * self.round_seconds else left)
        return True

    def take_report(self):
        if self.killed:
            return
        try:
            with open(self.output(), encoding="utf-8") as file:
                self.reports.append(json.load(file))
        except json.JSONDecodeError:
            raise SoakError(f"{self.name} failed: {self.processes.last_lines(self.name)}") from None

    def pids(self):
        """Its own, then those of its workers."""
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
                return [self.process.pid, *map(int, file.read().split())]
        except OSError:
            return [self.process.pid]

    def send_group(self, number):
        # The leader was not waited for, so the number is still this group's.
        os.killpg(self.process.pid, number)


class Load:
    """Replays, and what is done to them: one of `kill_seconds` apart a whole process group is killed, one of
    `stop_seconds` apart a group or a single worker is stopped for a while. All times are random, up to twice as long."""

    def __init__(self, replays, kill_seconds, stop_seconds, seed):
        self.replays = replays
        self.rng = random.Random(seed)
        self.every = {"kill": kill_seconds, "stop": stop_seconds}
        self.due = {what: self.next_time(what) for what in self.every}
        self.resumes = []  # (when, replay, its process, pid; of a group the negative of its leader's)
        self.group_kills = self.stops = 0

    def next_time(self, what):
        return time.monotonic() + 2 * self.rng.random() * self.every[what]

    def run_until(self, pause, until):
        """Keeps the replays going until `pause`, or until all have ended; whether some are left. None of them is killed or
        stopped in the last round, which ends at `until`."""
        while True:
            self.resume(time.monotonic())
            left = [replay for replay in self.replays if replay.go_on(until)]
            now = time.monotonic()
            if not left or now >= pause:
                return bool(left)
            if now < until - left[0].round_seconds:
                self.disturb(now, self.rng.choice(left))
            time.sleep(0.02)

    def disturb(self, now, replay):
        if now >= self.due["kill"]:
            self.due["kill"] = self.next_time("kill")
            self.group_kills += 1
            replay.killed = True
            replay.send_group(signal.SIGKILL)
            replay.process.wait(END_SECONDS)
        elif now >= self.due["stop"]:
            self.due["stop"] = self.next_time("stop")
            self.stops += 1
            target = -replay.process.pid if self.rng.random() < 0.5 else self.rng.choice(replay.pids())
            seconds = self.rng.uniform(*(LONG_STOP_SECONDS if self.rng.random() < 0.5 else SHORT_STOP_SECONDS))
            self.resumes.append((now + seconds, replay, replay.process, target))
            send(target, signal.SIGSTOP)

    def resume(self, now):
        for one in [one for one in self.resumes if one[0] <= now]:
            self.resumes.remove(one)
            _, replay, process, target = one
            # A process that was waited for has given its number back.
            if replay.process is process and process.returncode is None and (target < 0 or target in replay.pids()):
                send(target, signal.SIGCONT)

    def report(self):
        """The sums of all reports."""
        reports = [report for replay in self.replays for report in replay.reports]
        total = {name: sum(report[name] for report in reports) for name in SUMS}
        total["transport"] = {name: sum(report["transport"][name] for report in reports) for name in ("shared_memory", "stream")}
        total["bytes_read"] = sum(count for report in reports for link, count in report["bytes_by_link"].items()
                                  if link.endswith("->client"))
        total["failures"] = [failure for report in reports for failure in report["failures"]]
        total["p99_us"] = max((report["latency_us"]["p99"] for report in reports), default=0)
        total.update(rounds=sum(replay.rounds for replay in self.replays), reports=len(reports),
                     group_kills=self.group_kills, stops=self.stops)
        return total


def send(target, number):
    """To a process, or to a group where it is negative; one that has just ended needs no signal."""
    try:
        if target < 0:
            os.killpg(-target, number)
        else:
            os.kill(target, number)
    except ProcessLookupError:
        pass
