// Many small random simulations with failing copies, slow ports, lost tiers and reordered
// completions: the checkers, which are always on, find nothing, and the same seed gives the same
// result. A failing seed prints the command that replays it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "sim/attention_simulation.h"
#include "sim/machine_parts.h"
#include "sim/policy/look_ahead_search.h"
#include "sim/policy/policy_factory.h"
#include "sim/trace_simulation.h"
#include "tests/support/sim/small_scenarios.h"
#include "tests/support/status_matchers.h"
#include "tests/support/stop_after.h"
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
    const std::string& policy = policies[rng.Below(policies.size())];
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

// Stopped at any question a simulation is cancelled, soon; asked once more, it is what it would be.
TEST(SimulationSwarm, IsStoppedBetweenPhases) {
  const uint64_t seed = TestSeed(5000);
  const std::vector<std::string> policies = sim::PolicyNames();
  for (uint64_t run = seed; run < seed + 60; ++run) {
    const SmallScenario scenario = MakeSmallScenario(run);
    Rng rng(run);
    const std::string& policy = policies[run % policies.size()];
    SCOPED_TRACE("policy " + policy + ", " + scenario.text);
    const auto simulate = [&](StopAfter& question) {
      return sim::SimulateTrace(scenario.trace, scenario.machine, scenario.model, scenario.problem,
                                policy, {.stop = question.Check()});
    };
    StopAfter never(std::numeric_limits<uint64_t>::max());
    const auto whole = simulate(never);
    ASSERT_THAT(whole, IsOk());
    ASSERT_GE(never.asked(), whole->phase_ns.size() / 2);  // strict phases come in pairs
    for (int i = 0; i < 4; ++i) {
      const uint64_t questions = rng.Below(never.asked());
      StopAfter some(questions);
      EXPECT_THAT(simulate(some), StatusIs(absl::StatusCode::kCancelled)) << questions;
      EXPECT_EQ(some.asked(), questions + 1);
    }
    StopAfter late(never.asked());
    const auto again = simulate(late);
    ASSERT_THAT(again, IsOk());
    EXPECT_EQ(again->phase_ns, whole->phase_ns);
  }
}

// The search for `sa` asks for what it may, returns the best of it, and passes errors on.
TEST(LookAheadSearch, ReturnsTheBestOfWhatItTried) {
  std::vector<std::pair<int64_t, sim::LookAhead>> tried;
  const auto time_ns = [&](const sim::LookAhead& at) -> absl::StatusOr<int64_t> {
    EXPECT_GE(at.window_steps, 1u);
    EXPECT_GE(at.share_milli, 100u);
    EXPECT_LE(at.share_milli, 1000u);
    const int64_t far = std::abs(int64_t{at.window_steps} - 12) * 1'000'000 +
                        std::abs(int64_t{at.share_milli} - 900) * 10'000;
    tried.push_back({far, at});
    return far;
  };
  const auto found = sim::AnnealLookAhead(TestSeed(1), time_ns);
  ASSERT_THAT(found, IsOk());
  ASSERT_EQ(tried.size(), 1u + sim::kLookAheadTrials);
  EXPECT_EQ(tried[0].second.window_steps, 5u);
  EXPECT_EQ(tried[0].second.share_milli, 500u);
  const auto best = std::min_element(
      tried.begin(), tried.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  EXPECT_LT(best->first, tried[0].first);
  EXPECT_EQ(found->window_steps, best->second.window_steps);
  EXPECT_EQ(found->share_milli, best->second.share_milli);
  EXPECT_THAT(sim::AnnealLookAhead(1,
                                   [](const sim::LookAhead&) -> absl::StatusOr<int64_t> {
                                     return absl::InternalError("lost");
                                   }),
              StatusIs(absl::StatusCode::kInternal));
}

// On traces as short as its trials, `sa` is never slower than with the look-ahead from which it
// starts, and now and then faster.
TEST(LookAheadSearch, IsUsed) {
  const uint64_t seed = TestSeed(1);
  int faster = 0;
  for (uint64_t run = seed; run < seed + 40; ++run) {
    const SmallScenario scenario = MakeSmallScenario(run);
    const auto* const trace = std::get_if<sim::AttentionTrace>(&scenario.trace);
    if (trace == nullptr || scenario.problem.mode != sim::AttentionMode::kInPlace) continue;
    SCOPED_TRACE(scenario.text);
    const auto parts =
        sim::MakeMachineParts(scenario.machine, scenario.model, scenario.problem.tier_names);
    ASSERT_THAT(parts, IsOk());
    sim::AttentionSimulationOptions options;
    options.machine = scenario.machine;
    options.tiers = parts->machine_tier;
    options.policy = "sa";
    options.seed = scenario.problem.seed;
    options.phase = scenario.problem.phase;
    const auto start = sim::SimulateAttention(*trace, scenario.model, options);
    const auto found = sim::SimulateTrace(scenario.trace, scenario.machine, scenario.model,
                                          scenario.problem, "sa");
    ASSERT_THAT(start, IsOk());
    ASSERT_THAT(found, IsOk());
    EXPECT_LE(found->time_ns, start->time_ns);
    faster += found->time_ns < start->time_ns ? 1 : 0;
  }
  EXPECT_GT(faster, 0);
}

}  // namespace
}  // namespace kvtier::test_support
