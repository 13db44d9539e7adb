"""What the demo requires of what it saw. Plain data in, rows of a table out; tests/demo proves that each can fail."""

import dataclasses
import os

CHUNK_TOKENS = 16
PLANES = 16
MAX_TOKENS = 48

# What has to be reached.
DISTINCT_MIN = 16
REUSED_MIN = 0.30
POOL_SHARE_MIN = 0.20
MOVED_MIN = 100
MOVED_BETWEEN_READS_MIN = 1
WRITTEN_IN_PLACE_MIN = 0.50


def chunks_of(text):
    return -(-len(text.encode()) // CHUNK_TOKENS)


def reusable_chunks(text):
    """A worker computes at least the last token itself, and only full chunks of a prompt are found again."""
    return (len(text.encode()) - 1) // CHUNK_TOKENS


def shared_chunks(text, others):
    """Chunks at the start of `text` that a worker with one of `others` could have stored as well."""
    longest = max((len(os.path.commonprefix([text.encode(), other.encode()])) for other in others), default=0)
    return longest // CHUNK_TOKENS


class Verdict:
    def __init__(self):
        self.rows = []
        self.failures = []

    def check(self, what, value, ok, need):
        self.rows.append((what, str(value), str(need), "ok" if ok else "FAILED"))
        if not ok:
            self.failures.append(what)

    def equal(self, what, value, need):
        self.check(what, value, value == need, need)

    def at_least(self, what, value, need):
        self.check(what, value, value >= need, f">= {need}")

    def table(self):
        widths = [max((len(row[i]) for row in self.rows), default=0) for i in range(3)]
        return "\n".join(f"  {what:<{widths[0]}}  {value:>{widths[1]}}  {need:>{widths[2]}}  {verdict}"
                         for what, value, need, verdict in self.rows)


@dataclasses.dataclass
class Seen:
    """One run of workers through the daemon."""
    asked: dict  # worker -> its prompts, in order, as far as it has to have answered them
    answers: dict  # prompt -> what was generated without the daemon, hexadecimal
    results: dict  # worker -> what it said of each prompt, see client/examples/README.md
    moved: dict  # pool -> blocks moved into it meanwhile
    emulated: set  # pools that host memory stands in for
    reported_reads: int  # the daemon's counter rose by this
    before_kill: tuple  # (sessions, leases) while every worker stood still with a lease
    after_kill: tuple
    killed: str  # the worker that was killed, and the one that took its place
    restarted: str
    own: str  # a prompt that only those two have

    def every(self):
        """(prompt, result) of all workers; a prompt without an answer has the result None."""
        for worker, prompts in self.asked.items():
            results = self.results.get(worker, [])
            for i, prompt in enumerate(prompts):
                yield prompt, results[i] if i < len(results) else None

    def shown(self, pool):
        return pool + (" (emulated)" if pool in self.emulated else "")


def _right(seen, prompt, result):
    return (result is not None and result["prompt_tokens"] == len(prompt.encode())
            and result["generated"] == seen.answers.get(prompt))


def judge(verdict, seen):
    pairs = list(seen.every())
    results = [result for _, result in pairs if result is not None]
    given = sum(len(found) for found in seen.results.values())
    verdict.check("answers given", f"{given} of {len(pairs)}", given == len(pairs) == len(results) > 0, "all")
    same = sum(_right(seen, *pair) for pair in pairs)
    verdict.check("answers equal to the run without the daemon", f"{same} of {len(pairs)}", same == len(pairs), "all")
    early = list(zip(seen.asked[seen.killed], seen.results.get(seen.killed, [])))
    same = sum(_right(seen, *pair) for pair in early)
    verdict.check("of these, before the worker was killed", f"{same} of {len(seen.asked[seen.killed])}",
                  same == len(seen.asked[seen.killed]) > 0, "all")
    texts = list(seen.answers.values()) + [result["generated"] for result in results]
    verdict.equal("tokens in the shortest answer", min((len(text) // 2 for text in texts), default=0), MAX_TOKENS)
    verdict.at_least("fewest distinct bytes in an answer",
                     min((len(set(bytes.fromhex(text))) for text in texts), default=0), DISTINCT_MIN)
    chunks = sum(chunks_of(prompt) for prompt, _ in pairs)
    share = sum(result["chunks_reused"] for result in results) / max(1, chunks)
    verdict.check("prompt chunks reused", f"{share:.0%} of {chunks}", share >= REUSED_MIN, f">= {REUSED_MIN:.0%}")
    _judge_pools(verdict, seen, results)
    _judge_in_place(verdict, results)
    # A report is about each plane of each chunk that the worker leased, which are those that it reused.
    reports = sum(result["reports"] for result in results)
    reads = sum(result["reports"] * result["chunks_reused"] * PLANES for result in results)
    verdict.check(f"block reads counted of {reports} reports", seen.reported_reads,
                  seen.reported_reads >= reads > 0, f">= {reads}")
    _judge_kill(verdict, seen)


def _judge_pools(verdict, seen, results):
    fetched = dict.fromkeys(seen.moved, 0)
    for result in results:
        for pool, count in result["fetched_bytes_by_pool"].items():
            fetched[pool] = fetched.get(pool, 0) + count
    verdict.at_least("pools", len(fetched), 2)
    everything = max(1, sum(fetched.values()))
    for pool, count in sorted(fetched.items()):
        verdict.check(f"read from {seen.shown(pool)}", f"{count / everything:.0%} of {everything >> 20} MiB",
                      count / everything >= POOL_SHARE_MIN, f">= {POOL_SHARE_MIN:.0%}")
    for pool, count in sorted(seen.moved.items()):
        verdict.at_least(f"blocks moved into {seen.shown(pool)}", count, MOVED_MIN)


def _judge_in_place(verdict, results):
    copied = sum(result["prefix_bytes_copied"] for result in results)
    verdict.equal("bytes of reused chunks that workers copied", copied, 0)
    chunks = sum(result["chunks_reused"] for result in results)
    verdict.at_least("blocks read in place", sum(result["blocks_read_in_place"] for result in results),
                     max(1, chunks * PLANES))
    written = sum(result["chunks_written_in_place"] for result in results)
    # Also those that another worker turned out to have stored first were computed, and committed.
    committed = sum(result["stored_chunks"] + result["existing_chunks"] for result in results)
    share = written / max(1, committed)
    verdict.check("chunks committed that were computed in place", f"{share:.0%} of {committed}",
                  share >= WRITTEN_IN_PLACE_MIN, f">= {WRITTEN_IN_PLACE_MIN:.0%}")
    verdict.at_least("moved_between_reads: blocks that a worker read before and after a move",
                     sum(result["moved_between_reads"] for result in results), MOVED_BETWEEN_READS_MIN)


def _judge_kill(verdict, seen):
    workers = len(seen.asked) - 1  # the restarted one came later
    verdict.check("sessions and leases before the kill", "%d and %d" % seen.before_kill,
                  seen.before_kill == (workers, workers), f"{workers} and {workers}")
    verdict.check("sessions and leases after it", "%d and %d" % seen.after_kill,
                  seen.after_kill == (workers - 1, workers - 1), f"{workers - 1} and {workers - 1}")
    others = {prompt for prompts in seen.asked.values() for prompt in prompts} - {seen.own}
    head = shared_chunks(seen.own, others)
    need = reusable_chunks(seen.own) - head
    again = seen.results.get(seen.restarted, [])
    found = again[0]["chunks_reused"] - head if again else 0
    verdict.check("chunks of its own found again by the killed worker", f"{max(0, found)} of {need}",
                  found == need > 0, "all")


def judge_control(verdict, prompt, answer, runs, flipped, corrupt):
    """`runs`: the results before the damage, right after it, and once more; `corrupt`: copies dropped meanwhile."""
    before, after, again = runs
    reusable = reusable_chunks(prompt)
    verdict.equal("bits flipped", flipped, 1)
    verdict.equal("damaged blocks reported as DATA_LOSS", after["data_loss"], 1)
    verdict.equal("damaged copies dropped by the daemon", corrupt, 1)
    verdict.at_least("chunks recomputed after it", after["recomputed_chunks"], 1)
    same = [run["generated"] == answer for run in runs]
    verdict.check("answers before it, after it and once more", " ".join("right" if ok else "WRONG" for ok in same),
                  all(same) and len(answer) == 2 * MAX_TOKENS, "all right")
    verdict.equal("damaged blocks seen before it and once more", before["data_loss"] + again["data_loss"], 0)
    verdict.check("chunks reused once more", f"{again['chunks_reused']} of {reusable}",
                  again["chunks_reused"] == reusable > 0, "all")
