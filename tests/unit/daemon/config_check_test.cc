// What a start and a check warn of: pools that are promised to tenants more than once, quotas that
// nobody can have, NUMA nodes that are not there; and that the operator's example is free of it.
#include "daemon/config_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/config_loader.h"

namespace kvtier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Warnings(const std::string& yaml) {
  const absl::StatusOr<v1::Config> config = LoadConfig(yaml, "k.yaml");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? ConfigWarnings(*config) : std::vector<std::string>();
}

TEST(ConfigCheck, TheSecondSocketsPathHasToFitAsWell) {
  const auto load = [](size_t bytes, const char* shared) {
    return LoadConfig(absl::StrCat("listen: {socket: /", std::string(bytes - 1, 'x'),
                                   ", shared_memory: ", shared, "}\n"),
                      "k.yaml")
        .status();
  };
  EXPECT_TRUE(load(103, "true").ok()) << load(103, "true");
  EXPECT_THAT(load(104, "true").message(),
              HasSubstr("k.yaml:1: listen.socket: has 104 bytes; at most 103 are allowed with "
                        "listen.shared_memory"));
  EXPECT_TRUE(load(107, "false").ok()) << load(107, "false");
}

constexpr char kPools[] =
    "pools: [{name: \"hbm:0\", kind: hbm, budget_bytes: 256MiB},"
    " {name: \"dram:0\", kind: dram, budget_bytes: 1GiB}]\n";

TEST(ConfigWarnings, OneTenantCrowdsNobody) { EXPECT_THAT(Warnings(kPools), IsEmpty()); }

TEST(ConfigWarnings, DefaultQuotasPromiseEveryPoolToEveryTenant) {
  EXPECT_THAT(
      Warnings(absl::StrCat(kPools, "tenants: [{name: a, uids: [1]}, {name: b, uids: [2]}]")),
      ElementsAre("tenants can crowd each other out in pool hbm:0: their quotas are 512MiB "
                  "together, the pool's budget is 256MiB",
                  "tenants can crowd each other out in pool dram:0: their quotas are 2GiB "
                  "together, the pool's budget is 1GiB"));
}

TEST(ConfigWarnings, QuotasUpToTheBudgetIsolateAndOneSegmentMoreDoesNot) {
  const auto with = [](const char* quota) {
    return Warnings(absl::StrCat(
        kPools, "tenants: [{name: a, uids: [1], quota_bytes: {\"hbm:0\": 192MiB, \"dram:0\": ",
        quota, "}}, {name: b, uids: [2], quota_bytes: {\"hbm:0\": 64MiB, \"dram:0\": 512MiB}}]"));
  };
  EXPECT_THAT(with("512MiB"), IsEmpty());
  EXPECT_THAT(
      with("576MiB"),
      ElementsAre(HasSubstr("crowd each other out in pool dram:0: their quotas are 1088MiB ")));
}

TEST(ConfigWarnings, AQuotaBeyondTheBudgetIsNamedEvenOfOneTenant) {
  EXPECT_THAT(Warnings(absl::StrCat(
                  kPools, "tenants: [{name: a, uids: [1], quota_bytes: {\"hbm:0\": 320MiB}}]")),
              ElementsAre("tenant a can never have its quota of pool hbm:0: it is 320MiB, the "
                          "pool's budget is 256MiB"));
}

TEST(NodeWarnings, NodesThatAreNotThereAreNamed) {
  Topology topology;
  topology.nodes.resize(3);
  for (int i = 0; i < 3; ++i) topology.nodes[static_cast<size_t>(i)].os_index = i;
  topology.nodes[2].is_gpu_memory = true;
  const auto on_node = [&](int node) {
    const auto config = LoadConfig(
        absl::StrCat("pools: [{name: \"dram:0\", kind: dram, budget_bytes: 1GiB, numa_node: ", node,
                     "}]"),
        "k.yaml");
    EXPECT_TRUE(config.ok()) << config.status();
    return NodeWarnings(*config, topology);
  };
  EXPECT_THAT(on_node(-1), IsEmpty());
  EXPECT_THAT(on_node(1), IsEmpty());
  for (const int node : {2, 7}) {
    EXPECT_THAT(on_node(node),
                ElementsAre(absl::StrCat("pools[0].numa_node: this machine has no NUMA node ", node,
                                         " for host memory (it has 0, 1): kvtierd starts so on "
                                         "another machine only")));
  }
}

// The operator's page says that its example isolates.
TEST(ConfigWarnings, TheOperatorsExampleIsolates) {
  const char* root = std::getenv("KVTIER_SOURCE_DIR");
  ASSERT_NE(root, nullptr) << "run by ctest";
  std::ifstream file(absl::StrCat(root, "/docs/OPERATING.md"));
  std::stringstream page;
  page << file.rdbuf();
  const std::string text = page.str();
  const size_t begin = text.find("```yaml\n");
  ASSERT_NE(begin, std::string::npos);
  const size_t end = text.find("```", begin + 8);
  const std::string yaml = text.substr(begin + 8, end - begin - 8);
  EXPECT_NE(yaml.find("tenants:"), std::string::npos) << yaml;
  EXPECT_THAT(Warnings(yaml), IsEmpty());
}

}  // namespace
}  // namespace kvtier
