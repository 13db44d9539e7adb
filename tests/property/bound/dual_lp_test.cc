// The dual solver comes within 0.3 % of the best bound there is, which Clp finds, and never above
// it.
#include <gtest/gtest.h>

#include <iostream>
#include <string>

#include "tests/support/bound/bound_lp.h"
#include "tests/support/bound/synthetic.h"
#include "tiering/bound/dual_solver.h"

namespace kvtier {
namespace {

using test_support::SyntheticModel;

struct Case {
  const char* name;
  SyntheticModel model;
  double gpu_share;
  double peer_share;
  double floor_share;
  uint32_t blocks = 200, steps = 60;
};

class DualLpTest : public testing::TestWithParam<Case> {};

TEST_P(DualLpTest, ComesCloseToTheLinearProgram) {
  if (!test_support::HaveClp()) GTEST_SKIP() << "built without Clp";
  const Case& at = GetParam();
  const bound::Instance instance = test_support::Synthetic({.model = at.model,
                                                            .blocks = at.blocks,
                                                            .steps = at.steps,
                                                            .gpu_share = at.gpu_share,
                                                            .peer_share = at.peer_share,
                                                            .floor_share = at.floor_share});
  const auto lp = SolveLp(instance, test_support::LpMethod::kBarrier);
  ASSERT_TRUE(lp.ok()) << lp.status();
  InlineExecutor executor;
  const bound::DualResult result = SolveDual(instance, {.iterations = 600}, executor, nullptr);
  std::cout << at.name << ": " << result.bound / *lp << " of " << *lp << " s\n";
  EXPECT_LE(result.bound, *lp * (1 + 1e-6));
  EXPECT_GE(result.bound, *lp * 0.997);
}

INSTANTIATE_TEST_SUITE_P(
    Models, DualLpTest,
    testing::Values(Case{"inclusive", SyntheticModel::kInclusive, 0.06, 0, 0},
                    Case{"exclusive", SyntheticModel::kExclusive, 0.06, 0, 0},
                    Case{"three_tiers", SyntheticModel::kThreeTiers, 0.05, 0.025, 0, 120, 40},
                    Case{"stream", SyntheticModel::kStream, 0.12, 0, 0.05},
                    Case{"strict", SyntheticModel::kStrict, 0.12, 0, 0.05, 100, 20}),
    [](const auto& at) { return std::string(at.param.name); });

}  // namespace
}  // namespace kvtier
