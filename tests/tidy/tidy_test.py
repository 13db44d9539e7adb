"""Proves that the tree keeps its rules: who may include whom, banned calls, unlisted files, undocumented
configuration fields and metrics. tidy_rules_test.py proves that each rule can fail.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "support")]
import include_rules  # noqa: E402
import junit  # noqa: E402
import rules  # noqa: E402
from tree import Tree  # noqa: E402


def main():
    tree = Tree(os.environ.get("KVTIER_SOURCE_DIR", os.path.join(HERE, "..", "..")))
    report = junit.Report("tidy_test")

    def check(rule):
        problems = rule(tree)
        assert not problems, "\n".join(problems)

    report.run("includes_follow_the_arrows", check, include_rules.check)
    for rule in rules.ALL:
        report.run(rule.__name__, check, rule)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
