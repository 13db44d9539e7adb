// Many small random simulations with failing copies, slow ports, lost tiers and reordered
// completions: the checkers, which are always on, find nothing, and the same seed gives the same
// result. A failing seed prints the command that replays it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <variant>

#include "sim/policy/policy_factory.h"
#include "sim/trace_simulation.h"
#include "tests/support/sim/small_scenarios.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

sim::SimFaults DrawFaults(Rng& rng) {
  sim::SimFaults faults;
  if (rng.OneIn(2)) faults.fail_copy_one_in = static_cast<uint32_t>(1 + rng.Below(8));
  if (rng.OneIn(2)) faults.slow_port_one_in = static_cast<uint32_t>(1 + rng.Below(4));
  if (rng.OneIn(2)) faults.lose_pool_one_in = static_cast<uint32_t>(2 + rng.Below(10));
  faults.reorder = rng.OneIn(2);
  return faults;
}

TEST(SimulationSwarm, FaultsBreakNothing) {
  const uint64_t seed = TestSeed(1000);
  const uint64_t runs = std::getenv("KVTIER_TEST_SEED") != nullptr ? 1 : 400;
  uint64_t failed_moves = 0, lost = 0, dropped = 0, moved = 0;
  for (uint64_t run = seed; run < seed + runs; ++run) {
    SmallScenario scenario = MakeSmallScenario(run);
    Rng rng(run);
    const sim::SimFaults faults = DrawFaults(rng);
    const sim::SimulationOptions options{
        .faults = faults,
        .settle = std::holds_alternative<sim::Trace>(scenario.trace) && run % 3 == 0};
    const std::vector<std::string> policies = sim::PolicyNames();
    const std::string policy = policies[rng.Below(policies.size())];
    SCOPED_TRACE("policy " + policy + ", " + scenario.text + "; again: KVTIER_TEST_SEED=" +
                 std::to_string(run) + " build/release/tests/bin/simulation_swarm_test");
    const auto result = sim::SimulateTrace(scenario.trace, scenario.machine, scenario.model,
                                           scenario.problem, policy, options);
    ASSERT_THAT(result, IsOk());
    failed_moves += result->moves_failed;
    moved += result->moves_done;
    lost += result->lost_blocks;
    dropped += result->dropped_chunks;
    if (run % 8 != 0) continue;
    const auto again = sim::SimulateTrace(scenario.trace, scenario.machine, scenario.model,
                                          scenario.problem, policy, options);
    ASSERT_THAT(again, IsOk());
    EXPECT_EQ(again->phase_ns, result->phase_ns);
    EXPECT_EQ(again->phase_hits, result->phase_hits);
    EXPECT_EQ(again->moves_done, result->moves_done);
  }
  if (runs == 1) return;
  EXPECT_GT(failed_moves, 100u);
  EXPECT_GT(moved, 1000u);
  EXPECT_GT(lost, 50u);
  EXPECT_GT(dropped, 1000u);
}

}  // namespace
}  // namespace kvtier::test_support
