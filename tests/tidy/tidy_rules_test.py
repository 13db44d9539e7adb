"""Proves that every tidy rule can fail, and does not fail without cause: each is fed a small synthetic tree
that keeps it and one that breaks it.
"""

import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "support")]
import include_rules  # noqa: E402
import junit  # noqa: E402
import rules  # noqa: E402
from tree import Tree  # noqa: E402

LEFT_OPEN = "TO" + "DO"  # so that this file keeps the rule

# (file, one include line, is it allowed?)
INCLUDES = [
    ("tiering/base/bytes.h", "<vector>", True),
    ("tiering/base/bytes.h", '"absl/status/status.h"', True),
    ("tiering/base/bytes.h", '"proto/wire/key.h"', True),
    ("tiering/base/mutex.h", "<mutex>", True),
    ("tiering/base/bytes.h", "<mutex>", False),
    ("tiering/base/bytes.h", '"tiering/block/table.h"', False),
    ("tiering/block/table.h", '"tiering/memory/pool.h"', True),
    ("tiering/block/table.h", '"proto/yaml/config_tree.h"', False),
    ("sim/machine.cc", '"proto/yaml/config_tree.h"', True),
    ("daemon/config.cc", '"proto/yaml/config_tree.h"', True),
    ("tiering/block/table.h", '"tiering/plan/lru.h"', False),
    ("tiering/plan/lru.h", '"tiering/block/table.h"', True),
    ("tiering/plan/lru.h", '"tiering/move/mover.h"', False),
    ("tiering/move/mover.h", '"tiering/engine/engine.h"', False),
    ("tiering/engine/engine.cc", '"tiering/move/mover.h"', True),
    ("tiering/engine/engine.cc", '"tiering/host/dram_pool.h"', False),
    ("tiering/engine/engine.cc", '"daemon/server.h"', False),
    ("tiering/engine/engine.cc", '"client/include/kvtier/client.h"', False),
    ("tiering/engine/engine.cc", '"kernels/device_probe.h"', False),
    ("tiering/engine/engine.cc", '"sim/clock.h"', False),
    ("tiering/engine/engine.cc", '"kvtier/v1/types.pb.h"', False),
    ("tiering/engine/engine.cc", "<grpcpp/grpcpp.h>", False),
    ("tiering/engine/engine.cc", "<google/protobuf/message.h>", False),
    ("tiering/engine/engine.cc", "<thread>", False),
    ("tiering/engine/engine.cc", "<chrono>", False),
    ("tiering/engine/engine.cc", "<sys/socket.h>", False),
    ("tiering/engine/engine.cc", "<hwloc.h>", False),
    ("tiering/engine/engine.cc", "<numa.h>", False),
    ("tiering/engine/engine.cc", '"absl/time/clock.h"', False),
    ("tiering/engine/engine.cc", '"spdlog/spdlog.h"', False),
    ("tiering/host/pool.cc", "<hwloc.h>", True),
    ("tiering/host/pool.cc", "<thread>", True),
    ("tiering/host/pool.cc", "<grpcpp/grpcpp.h>", False),
    ("tiering/host/pool.cc", "<cuda_runtime.h>", False),
    ("proto/wire/key.cc", "<openssl/sha.h>", True),
    ("proto/wire/key.cc", "<xxhash.h>", True),
    ("proto/wire/key.cc", "<sys/mman.h>", False),
    ("proto/wire/key.cc", '"tiering/base/bytes.h"', False),
    ("proto/wire/key.cc", '"kvtier/v1/types.pb.h"', False),
    ("client/client.cc", '"kvtier/client.h"', True),
    ("client/client.cc", '"kvtier/v1/kv_cache.grpc.pb.h"', True),
    ("client/client.cc", '"tiering/base/bytes.h"', False),
    ("client/client.cc", '"daemon/server.h"', False),
    ("client/client.cc", '"kernels/device_probe.h"', False),
    ("client/gpu/copy.cc", '"kernels/gather_blocks.h"', True),
    ("client/python/bindings/module.cc", '"client/python/bindings/raw_client.h"', True),
    ("client/python/bindings/module.cc", '"kvtier/client.h"', True),
    ("client/python/bindings/module.cc", "<pybind11/pybind11.h>", True),
    ("client/python/bindings/module.cc", '"client/client_core.h"', False),
    ("client/python/bindings/module.cc", '"kvtier/v1/types.pb.h"', False),
    ("client/python/bindings/module.cc", "<grpcpp/grpcpp.h>", False),
    ("client/client.cc", "<pybind11/pybind11.h>", False),
    ("client/cli/main.cc", '"tiering/engine/engine.h"', True),
    ("client/examples/worker.cc", '"tiering/base/rng.h"', True),
    ("client/include/kvtier/client.h", '"absl/status/statusor.h"', True),
    ("client/include/kvtier/client.h", "<grpcpp/grpcpp.h>", False),
    ("client/include/kvtier/client.h", '"kvtier/v1/types.pb.h"', False),
    ("client/include/kvtier/client.h", "<cuda.h>", False),
    ("client/include/kvtier/client.h", '"client/channel.h"', False),
    ("daemon/server.cc", '"tiering/host/dram_pool.h"', True),
    ("daemon/server.cc", '"kernels/device_probe.h"', True),
    ("daemon/server.cc", '"client/channel.h"', False),
    ("daemon/server.cc", '"sim/clock.h"', False),
    ("daemon/main.cc", '"kvtier/client.h"', True),
    ("daemon/server.cc", "<nccl.h>", False),
    ("kernels/copy.cu", "<cuda_runtime.h>", True),
    ("kernels/copy.cu", '"daemon/server.h"', False),
    ("sim/clock.h", '"tiering/engine/engine.h"', True),
    ("sim/clock.h", '"tiering/host/dram_pool.h"', False),
    ("sim/clock.h", '"daemon/server.h"', False),
    ("tests/unit/x_test.cc", '"daemon/server.h"', True),
    ("tests/unit/x_test.cc", "<cuda_runtime.h>", False),
    ("tests/unit/kernels/x_test.cc", "<cuda_runtime.h>", True),
    ("bench/x.cc", '"tiering/engine/engine.h"', True),
]

KEEPS = "int kept;\n"
# rule -> [(files of a tree that breaks it, files of a tree that keeps it)]
TREES = {
    rules.no_sleep_in_tests: [
        ({"tests/a_test.cc": "std::this_thread::sleep_for(x);"}, {"tests/a_test.cc": "// sleep_for(x)\n"}),
        ({"tests/a_test.cc": "usleep(1);"}, {"daemon/a.cc": "usleep(1);"}),
        ({"tests/a_test.cc": "absl::SleepFor(x);"}, {"tests/a_test.cc": "int sleep_seconds;"}),
        ({"tests/a_test.cc": "sleep(1);"}, {"tests/a_test.cc": "clock.sleep(1);"}),
        ({"tests/a_test.py": "time.sleep(1)"}, {"tests/a_test.py": "run('sleep 1')"}),
    ],
    rules.no_chance_or_time_in_core: [
        ({"tiering/a.cc": "std::random_device d;"}, {"tiering/host/a.cc": "std::random_device d;"}),
        ({"tiering/a.cc": "auto t = std::chrono::steady_clock::now();"},
         {"tiering/base/clock.h": "auto t = std::chrono::steady_clock::now();"}),
        ({"tiering/a.cc": "auto t = absl::Now();"}, {"tiering/a.cc": "auto t = clock.Now();"}),
        ({"tiering/a.cc": "int x = rand();"}, {"tiering/a.cc": "int x = operand();"}),
        ({"tiering/a.cc": "std::thread t;"}, {"tiering/a.cc": "// no std::thread here\n"}),
    ],
    rules.pragma_once: [
        ({"sim/a.h": KEEPS}, {"sim/a.h": "// what it is\n\n#pragma once\n" + KEEPS}),
        ({"sim/a.h": "#include <vector>\n#pragma once\n"}, {"sim/a.cc": KEEPS}),
    ],
    rules.sources_listed: [
        ({"sim/a.cc": KEEPS}, {"sim/a.cc": KEEPS, "sim/CMakeLists.txt": "add_library(x a.cc)"}),
        ({"sim/a.cc": KEEPS, "sim/CMakeLists.txt": "add_library(x other_a.cc)"},
         {"sim/b/a.cc": KEEPS, "sim/CMakeLists.txt": "add_library(x b/a.cc)"}),
        ({"sim/a.cc": KEEPS, "sim/CMakeLists.txt": "add_library(x a.cc.in)\nfoo(b.cc)".replace("a.cc", "c")},
         {"sim/a_test.cc": KEEPS, "sim/CMakeLists.txt": "foreach(t a_test)\nf(SOURCES ${t}.cc)"}),
        ({"tests/a_test.py": KEEPS}, {"tests/a.py": KEEPS}),
    ],
    rules.tests_report: [
        ({"bench/CMakeLists.txt": "  add_test(NAME a COMMAND a)\n"},
         {rules.TARGET_HELPERS: "  add_test(NAME a COMMAND a)\n"}),
        ({"tests/CMakeLists.txt": "add_test (NAME a COMMAND a)\n"},
         {"tests/CMakeLists.txt": "# no add_test( here\nkvtier_test(a SOURCES a.cc)\n"}),
    ],
    rules.nothing_left_open: [
        ({"docs/a.md": f"{LEFT_OPEN}: more"}, {"docs/a.md": "nothing to do"}),
        ({"scripts/run": f"# {LEFT_OPEN}"}, {"scripts/run": f"# {LEFT_OPEN}S"}),
    ],
    rules.no_test_switched_off: [
        ({"tests/a_test.cc": "TEST(A, DISABLED_B) {}"}, {"tests/a_test.cc": "TEST(A, B) {}"}),
        ({"tests/a_test.cc": "EXPECT_TRUE(true);"}, {"tests/a_test.cc": "EXPECT_TRUE(t);"}),
        ({"sim/a.cc": "#if 0\n#endif"}, {"sim/a.cc": "#if 0x10\n#endif".replace("0x10", "FOO")}),
    ],
    rules.constants_hide_none: [
        ({"sim/a.h": "inline constexpr size_t kMax = 1;\n",
          "sim/b.cc": "namespace {\n\nconstexpr int kMax = 2;\n\n}  // namespace\n"},
         {"sim/a.h": "inline constexpr size_t kMax = 1;\n",
          "sim/b.cc": "namespace {\nconstexpr int kOther = kMax;\n}  // namespace\n",
          "daemon/c.cc": "namespace {\nconstexpr int kMax = 2;\n}  // namespace\n"}),
    ],
    rules.files_short: [
        ({"sim/a.cc": "\n" * (rules.LINES_MAX + 1)}, {"sim/a.cc": "\n" * rules.LINES_MAX}),
    ],
    rules.config_fields_documented: [
        ({rules.CONFIG_PROTO: "message A {\n  uint64 budget_bytes = 1;\n}\n"},
         {rules.CONFIG_PROTO: "message A {\n  uint64 budget_bytes = 1;\n}\n",
          rules.OPERATORS_PAGE: "| `budget_bytes` | how much |"}),
        ({rules.CONFIG_PROTO: "message A {\n  map<string, uint64> quota = 1 [deprecated = true];\n}\n",
          rules.OPERATORS_PAGE: "quota_bytes"}, {"docs/other.md": ""}),
        ({rules.CONFIG_PROTO: "message A {\n  optional kvtier.v1.Kind kind = 12;\n}\n",
          rules.OPERATORS_PAGE: "kinds"},
         {rules.CONFIG_PROTO: "enum E {\n  ZERO = 0;\n}\n// uint64 gone = 1;\n"}),
    ],
    rules.metrics_documented: [
        ({"daemon/m.cc": 'Gauge("kvtier_blocks_total");', rules.OPERATORS_PAGE: "kvtier_blocks"},
         {"daemon/m.cc": 'Gauge("kvtier_blocks_total");', rules.OPERATORS_PAGE: "`kvtier_blocks_total`"}),
    ],
    rules.links_lead_somewhere: [
        ({"README.md": "[a](docs/gone.md)"}, {"README.md": "[a](docs/a.md#b)", "docs/a.md": "x"}),
        ({"docs/a.md": "[a](b.md)"}, {"docs/a.md": "[a](https://example.org/) [b](#here)"}),
    ],
}


def problems_of(rule, files):
    with tempfile.TemporaryDirectory(prefix="kvtier-tidy-") as root:
        for path, text in files.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        return rule(Tree(root))


def check_include(path, header, allowed):
    problems = problems_of(include_rules.check, {path: f"#include {header}\n"})
    assert bool(problems) != allowed, f"{path} includes {header}: {problems or 'no complaint'}"
    commented = problems_of(include_rules.check, {path: f"// #include {header}\n"})
    assert not commented, f"a comment is no include: {commented}"


def check_include_beside():
    files = {"sim/a.cc": '#include "b.h"\n', "sim/b.h": "#pragma once\n"}
    assert problems_of(include_rules.check, files), "an include that does not start at the root passed"


def check_rule(rule):
    for breaks, keeps in TREES[rule]:
        assert problems_of(rule, breaks), f"{rule.__name__} finds nothing wrong with {breaks}"
        found = problems_of(rule, keeps)
        assert not found, f"{rule.__name__} complains about {keeps}: {found}"


def check_every_rule_has_trees():
    missing = [rule.__name__ for rule in rules.ALL if rule not in TREES]
    assert not missing, f"no tree breaks {missing}"
    folders = {path.split("/")[0] for path, _, allowed in INCLUDES if not allowed}
    missing = {folder.split("/")[0] for folder in include_rules.ALLOWED} - folders
    assert not missing, f"no include breaks the arrows of {missing}"


def main():
    report = junit.Report("tidy_rules_test")
    report.run("every_rule_has_trees", check_every_rule_has_trees)
    for path, header, allowed in INCLUDES:
        verb = "may" if allowed else "may_not"
        report.run(f"{path} {verb} include {header}", check_include, path, header, allowed)
    report.run("includes_start_at_the_root", check_include_beside)
    for rule in rules.ALL:
        report.run(rule.__name__, check_rule, rule)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
