// Which pools are promised to tenants more than once, so that a start warns of them; and that the
// operator's example promises none.
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
using ::testing::Field;
using ::testing::IsEmpty;

std::vector<CrowdedPool> Crowded(const std::string& yaml) {
  const absl::StatusOr<v1::Config> config = LoadConfig(yaml, "k.yaml");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? FindCrowdedPools(*config) : std::vector<CrowdedPool>();
}

constexpr char kPools[] =
    "pools: [{name: \"hbm:0\", kind: hbm, budget_bytes: 256MiB},"
    " {name: \"dram:0\", kind: dram, budget_bytes: 1GiB}]\n";

TEST(FindCrowdedPools, OneTenantCrowdsNobody) { EXPECT_THAT(Crowded(kPools), IsEmpty()); }

TEST(FindCrowdedPools, DefaultQuotasPromiseEveryPoolToEveryTenant) {
  const auto crowded =
      Crowded(absl::StrCat(kPools, "tenants: [{name: a, uids: [1]}, {name: b, uids: [2]}]"));
  EXPECT_THAT(crowded,
              ElementsAre(Field(&CrowdedPool::name, "hbm:0"), Field(&CrowdedPool::name, "dram:0")));
  EXPECT_EQ(crowded[1].budget_bytes, 1ull << 30);
  EXPECT_EQ(crowded[1].quota_bytes, 2ull << 30);
}

TEST(FindCrowdedPools, QuotasUpToTheBudgetIsolateAndOneSegmentMoreDoesNot) {
  const auto with = [](const char* quota) {
    return Crowded(absl::StrCat(
        kPools, "tenants: [{name: a, uids: [1], quota_bytes: {\"hbm:0\": 192MiB, \"dram:0\": ",
        quota, "}}, {name: b, uids: [2], quota_bytes: {\"hbm:0\": 64MiB, \"dram:0\": 512MiB}}]"));
  };
  EXPECT_THAT(with("512MiB"), IsEmpty());
  EXPECT_THAT(with("576MiB"), ElementsAre(Field(&CrowdedPool::name, "dram:0")));
}

// The operator's page says that its example isolates.
TEST(FindCrowdedPools, TheOperatorsExampleIsolates) {
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
  EXPECT_THAT(Crowded(yaml), IsEmpty());
}

}  // namespace
}  // namespace kvtier
