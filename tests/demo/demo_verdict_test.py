"""Proves that the demo cannot say `demo: ok` of a bad run: a run that is good in every respect is accepted, and each
way of spoiling it, alone, fails the row that is about it and no row that is not.
"""

import copy
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", ".."))
sys.path[:0] = [os.path.join(ROOT, "tests", "support"), os.path.join(ROOT, "scripts")]
import demo_verdict  # noqa: E402
import junit  # noqa: E402

HEAD = "h" * 64
PROMPTS = [HEAD + letter * 100 for letter in "abc"]
OWN = HEAD + "o" * 100
ANSWERS = {prompt: bytes(range(i, i + demo_verdict.MAX_TOKENS)).hex() for i, prompt in enumerate([*PROMPTS, OWN])}
MIB = 1 << 20


def answer(prompt, reused=8):
    return {"prompt_tokens": len(prompt), "generated": ANSWERS[prompt], "chunks_reused": reused, "reports": 2,
            "fetched_bytes_by_pool": {"dram:0": MIB, "hbm:0": MIB}, "prefix_bytes_copied": 0,
            "blocks_read_in_place": reused * demo_verdict.PLANES, "stored_chunks": 2, "existing_chunks": 0,
            "chunks_written_in_place": 2, "moved_between_reads": 3}


def good():
    asked = {"worker-0": PROMPTS * 2, "killed": PROMPTS + [OWN], "restarted": [OWN] + PROMPTS}
    results = {worker: [answer(prompt) for prompt in prompts] for worker, prompts in asked.items()}
    results["restarted"][0] = answer(OWN, demo_verdict.reusable_chunks(OWN))
    reads = sum(r["reports"] * r["chunks_reused"] * demo_verdict.PLANES for list_ in results.values() for r in list_)
    return demo_verdict.Seen(
        asked=asked, answers=dict(ANSWERS), results=results, moved={"dram:0": 100, "hbm:0": 100}, emulated={"hbm:0"},
        reported_reads=reads, before_kill=(2, 2), after_kill=(1, 1), killed="killed", restarted="restarted", own=OWN)


def control():
    run = {"generated": ANSWERS[OWN], "data_loss": 0, "recomputed_chunks": 0, "chunks_reused": 0}
    return {"prompt": OWN, "answer": ANSWERS[OWN], "flipped": 1, "corrupt": 1,
            "runs": [dict(run), {**run, "data_loss": 1, "recomputed_chunks": 8},
                     {**run, "chunks_reused": demo_verdict.reusable_chunks(OWN)}]}


def changed_token(text):
    return f"{int(text[:2], 16) ^ 0x40:02x}" + text[2:]


def put(where, key, value):
    where[key] = value(where[key]) if callable(value) else value


IN_PLACE = ["blocks read in place", "computed in place", "moved_between_reads"]
# What is wrong -> (how to spoil a good run, words of every row that has to fail)
RUNS = {
    "nothing": (lambda s: None, []),
    "no_results": (lambda s: s.results.clear(), ["answers given", "answers equal", "before the worker was killed",
                                                 "prompt chunks reused", "read from", "block reads", "found again", *IN_PLACE]),
    "nothing_asked": (lambda s: (put(s, "asked", {k: [] for k in s.asked}), s.results.clear()),
                      ["answers given", "before the worker was killed", "prompt chunks reused", "read from",
                       "block reads", "found again", *IN_PLACE]),
    "a_missing_answer": (lambda s: s.results["worker-0"].pop(), ["answers given", "answers equal"]),
    "an_answer_too_many": (lambda s: s.results["worker-0"].append(answer(OWN)), ["answers given"]),
    "a_missing_worker": (lambda s: s.results.pop("worker-0"), ["answers given", "answers equal"]),
    "one_wrong_token": (lambda s: put(s.results["worker-0"][3], "generated", changed_token), ["answers equal"]),
    "one_wrong_token_before_the_kill": (lambda s: put(s.results["killed"][0], "generated", changed_token),
                                        ["answers equal", "before the worker was killed"]),
    "no_answer_before_the_kill": (lambda s: s.results["killed"].clear(),
                                  ["answers given", "answers equal", "before the worker was killed"]),
    "answers_swapped": (lambda s: s.results["worker-0"].reverse(), ["answers equal"]),
    "a_cut_prompt": (lambda s: put(s.results["worker-0"][0], "prompt_tokens", 10), ["answers equal"]),
    "no_reference": (lambda s: s.answers.clear(), ["answers equal", "before the worker was killed"]),
    "one_short_answer": (lambda s: put(s.results["worker-0"][0], "generated", lambda text: text[:-2]),
                         ["answers equal", "shortest answer"]),
    "all_answers_short": (lambda s: ([put(r, "generated", lambda text: text[:-2]) for rs in s.results.values()
                                      for r in rs], [put(s.answers, k, lambda text: text[:-2]) for k in s.answers]),
                          ["shortest answer"]),
    "one_letter_answers": (lambda s: ([put(r, "generated", "20" * demo_verdict.MAX_TOKENS) for rs in s.results.values()
                                       for r in rs],
                                      [put(s.answers, k, "20" * demo_verdict.MAX_TOKENS) for k in s.answers]),
                           ["distinct bytes"]),
    "too_little_reuse": (lambda s: [put(r, "chunks_reused", 2) for w in ("worker-0", "killed") for r in s.results[w]]
                         + [put(r, "chunks_reused", 2) for r in s.results["restarted"][1:]], ["prompt chunks reused"]),
    "one_pool": (lambda s: (put(s, "moved", {"dram:0": 100}),
                            [r["fetched_bytes_by_pool"].pop("hbm:0") for rs in s.results.values() for r in rs]),
                 ["pools"]),
    "one_pool_unused": (lambda s: [r["fetched_bytes_by_pool"].pop("hbm:0") for rs in s.results.values() for r in rs],
                        ["read from hbm:0 (emulated)"]),
    "few_moves_one_way": (lambda s: put(s.moved, "dram:0", 99), ["moved into dram:0"]),
    "no_moves": (lambda s: [put(s.moved, pool, 0) for pool in s.moved],
                 ["moved into dram:0", "moved into hbm:0 (emulated)"]),
    "a_copied_prefix": (lambda s: put(s.results["worker-0"][1], "prefix_bytes_copied", 64), ["workers copied"]),
    "a_block_read_by_copy": (lambda s: put(s.results["worker-0"][1], "blocks_read_in_place", lambda n: n - 1),
                             ["blocks read in place"]),
    "nothing_read_in_place": (lambda s: [put(r, "blocks_read_in_place", 0) for rs in s.results.values() for r in rs],
                              ["blocks read in place"]),
    "little_written_in_place": (lambda s: [put(r, "chunks_written_in_place", 0) for w in ("worker-0", "killed")
                                           for r in s.results[w]], ["computed in place"]),
    "existing_chunks_that_were_copied": (lambda s: [put(r, "existing_chunks", 4) for rs in s.results.values() for r in rs],
                                         ["computed in place"]),
    "no_move_between_reads": (lambda s: [put(r, "moved_between_reads", 0) for rs in s.results.values() for r in rs],
                              ["moved_between_reads"]),
    "reports_lost": (lambda s: put(s, "reported_reads", lambda n: n - 1), ["block reads"]),
    "no_reports": (lambda s: [put(r, "reports", 0) for rs in s.results.values() for r in rs], ["block reads"]),
    "no_lease_before_the_kill": (lambda s: put(s, "before_kill", (2, 1)), ["before the kill"]),
    "session_left": (lambda s: put(s, "after_kill", (2, 1)), ["after it"]),
    "lease_left": (lambda s: put(s, "after_kill", (1, 2)), ["after it"]),
    "others_ended_too": (lambda s: put(s, "after_kill", (0, 0)), ["after it"]),
    "only_the_shared_head_found": (lambda s: put(s.results["restarted"][0], "chunks_reused", 4), ["found again"]),
    "all_but_one_found": (lambda s: put(s.results["restarted"][0], "chunks_reused", lambda n: n - 1), ["found again"]),
}

CONTROLS = {
    "nothing": (lambda c: None, []),
    "nothing_flipped": (lambda c: put(c, "flipped", 0), ["bits flipped"]),
    "two_flipped": (lambda c: put(c, "flipped", 2), ["bits flipped"]),
    "not_noticed": (lambda c: put(c["runs"][1], "data_loss", 0), ["as DATA_LOSS"]),
    "not_dropped": (lambda c: put(c, "corrupt", 0), ["copies dropped"]),
    "not_recomputed": (lambda c: put(c["runs"][1], "recomputed_chunks", 0), ["recomputed"]),
    "wrong_before": (lambda c: put(c["runs"][0], "generated", changed_token), ["answers before it"]),
    "wrong_after": (lambda c: put(c["runs"][1], "generated", changed_token), ["answers before it"]),
    "wrong_once_more": (lambda c: put(c["runs"][2], "generated", changed_token), ["answers before it"]),
    "all_wrong_alike": (lambda c: [put(r, "generated", changed_token) for r in c["runs"]], ["answers before it"]),
    "damaged_again": (lambda c: put(c["runs"][2], "data_loss", 1), ["seen before it and once more"]),
    "not_stored_again": (lambda c: put(c["runs"][2], "chunks_reused", 0), ["reused once more"]),
}


class Fields:
    """Lets put() change attributes as it changes entries."""

    def __init__(self, target):
        object.__setattr__(self, "target", target)

    def __getattr__(self, name):
        return getattr(self.target, name)

    def __getitem__(self, name):
        return getattr(self.target, name)

    def __setitem__(self, name, value):
        setattr(self.target, name, value)


def expect(verdict, words):
    """Each of `words` names failed rows, and each failed row is named."""
    for word in words:
        assert any(word in what for what in verdict.failures), f"no failure about {word!r}: {verdict.failures}"
    for what in verdict.failures:
        assert any(word in what for word in words), f"{what!r} failed as well; expected {words}"
    marked = [what for what, _, _, mark in verdict.rows if mark != "ok"]
    assert marked == verdict.failures, (marked, verdict.failures)
    assert verdict.table().count("FAILED") == len(marked), verdict.table()


def check_run(spoil, words):
    seen = good()
    spoil(Fields(seen))
    verdict = demo_verdict.Verdict()
    demo_verdict.judge(verdict, seen)
    expect(verdict, words)
    assert len(verdict.rows) >= 12, verdict.rows


def check_control(spoil, words):
    data = copy.deepcopy(control())
    spoil(data)
    verdict = demo_verdict.Verdict()
    demo_verdict.judge_control(verdict, **data)
    expect(verdict, words)


def main():
    report = junit.Report("demo_verdict_test")
    for name, case in RUNS.items():
        report.run(f"run_with_{name}", check_run, *case)
    for name, case in CONTROLS.items():
        report.run(f"control_with_{name}", check_control, *case)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
