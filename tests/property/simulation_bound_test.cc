// No policy takes less simulated time than the bound of the same trace on the same machine, which
// an independent verifier has checked: on small random traces and machines where any resource may
// be what binds, without faults.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim/bound_run.h"
#include "sim/placement_problem.h"
#include "sim/policy/policy_factory.h"
#include "sim/prefix_simulation.h"
#include "sim/prefix_workload.h"
#include "sim/spec_reader.h"
#include "sim/trace_simulation.h"
#include "tests/support/sanitized.h"
#include "tests/support/sim/small_scenarios.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/dual_solver.h"
#include "tiering/bound/price_rounding.h"
#include "tiering/bound/verifier.h"

namespace kvtier::test_support {
namespace {

using ::testing::HasSubstr;

// Instrumented, it looks for other faults.
constexpr uint64_t kRuns = kSanitized ? 20 : 100;

double VerifiedBound(const bound::Instance& instance, uint32_t iterations) {
  InlineExecutor executor;
  const bound::DualResult dual = bound::SolveDual(instance, {.iterations = iterations}, executor,
                                                  [](const bound::DualProgress&) { return true; });
  const auto certificate = bound::Certify(instance, dual.prices);
  EXPECT_THAT(certificate, IsOk());
  if (!certificate.ok()) return 0;
  const auto seconds = bound::VerifiedSeconds(instance, *certificate);
  EXPECT_THAT(seconds, IsOk());
  return seconds.value_or(0);
}

TEST(SimulationBound, NoPolicyIsFasterThanTheBound) {
  const uint64_t seed = TestSeed(1);
  const uint64_t runs = std::getenv("KVTIER_TEST_SEED") != nullptr ? 1 : kRuns;
  double nearest = 1e9;
  uint64_t transfers_bind = 0, near = 0, strict = 0, stream = 0;
  for (uint64_t run = 0; run < runs; ++run) {
    const SmallScenario scenario = MakeSmallScenario(seed + run);
    SCOPED_TRACE(scenario.text + "; again with KVTIER_TEST_SEED=" + std::to_string(seed + run));
    const auto problem =
        sim::MakeProblem(scenario.trace, scenario.machine, scenario.model, scenario.problem);
    ASSERT_THAT(problem, IsOk());
    const double bound_s = VerifiedBound(problem->instance, 60);
    strict += scenario.problem.mode == sim::AttentionMode::kStrict ? 1 : 0;
    stream += scenario.problem.mode == sim::AttentionMode::kStream ? 1 : 0;
    double best_s = 1e300;
    for (const std::string& policy : sim::PolicyNames()) {
      const auto result = sim::SimulateTrace(scenario.trace, scenario.machine, scenario.model,
                                             scenario.problem, policy);
      ASSERT_THAT(result, IsOk()) << policy;
      const double time_s = result->Seconds();
      EXPECT_GE(time_s, bound_s) << policy;
      EXPECT_EQ(result->phase_ns.size() % problem->instance.phase_count, 0u);
      best_s = std::min(best_s, time_s);
      if (policy != "lru") continue;
      // What it spends beyond computing is transfers.
      transfers_bind += result->stall_ns > result->time_ns / 2 ? 1 : 0;
    }
    nearest = std::min(nearest, best_s / bound_s);
    near += best_s < 1.25 * bound_s ? 1 : 0;
  }
  // Else the comparison would say little; of a few runs it cannot be said.
  if (runs == 1 || kSanitized) return;
  EXPECT_LT(nearest, 1.01) << "no policy ever came near the bound";
  EXPECT_GT(near, kRuns * 15 / 100);
  EXPECT_GT(transfers_bind, kRuns * 25 / 100);
  EXPECT_GT(strict, kRuns * 10 / 100);
  EXPECT_GT(stream, kRuns * 5 / 100);
}

// The bound's schedule, or none, of the problem as the commands make it.
std::optional<sim::BoundRun> RunOf(const sim::PlacementProblem& problem) {
  InlineExecutor executor;
  sim::BoundRunOptions options;
  options.dual.iterations = 20;
  options.search.samples = options.search.passes = options.search.exchange_passes = 2;
  options.now_s = [] { return 0.0; };
  auto run = sim::RunBound(problem.instance, problem.schedules, options, {}, executor);
  EXPECT_THAT(run, IsOk());
  return run.ok() ? std::optional(*std::move(run)) : std::nullopt;
}

using Units = std::map<std::string, uint64_t>;  // by port or resource

// Whatever a memory beside the GPU takes or gives passes its link, but for so much of rounding.
void ExpectLinksToCarryAll(const sim::Machine& machine, Units units, uint64_t rounded) {
  Units served;
  for (const sim::MachineTier& tier : machine.tiers) {
    if (tier.link) served[sim::LinkName(machine, tier)] += units[tier.name];
  }
  for (const auto& [link, bytes] : served)
    EXPECT_GE(units[link + ".to_gpu"] + units[link + ".from_gpu"] + rounded, bytes) << link;
}

// Of what schedules load on machines of three tiers, links that two of them share or not: as in
// simulations, no byte gets past a link.
TEST(SimulationBound, SchedulesLoadTheLinksThatSimulationsDo) {
  const uint64_t seed = TestSeed(1);
  uint64_t schedules = 0, shared = 0;
  for (uint64_t run = 0; run < kRuns; ++run) {
    SmallScenario scenario = MakeSmallScenario(seed + run);
    if (scenario.problem.tier_names.size() < 3) continue;
    SCOPED_TRACE(scenario.text);
    if (run % 2 == 0) {
      scenario.machine.tiers[2].link = scenario.machine.tiers[1].link;
      ++shared;
    }
    const auto problem =
        sim::MakeProblem(scenario.trace, scenario.machine, scenario.model, scenario.problem);
    ASSERT_THAT(problem, IsOk());
    const auto simulated = sim::SimulateTrace(scenario.trace, scenario.machine, scenario.model,
                                              scenario.problem, "lru");
    ASSERT_THAT(simulated, IsOk());
    Units units;
    for (const sim::SimulationResult::Port& port : simulated->ports) units[port.name] = port.units;
    ExpectLinksToCarryAll(scenario.machine, units, 0);
    const auto found = RunOf(*problem);
    ASSERT_TRUE(found);
    EXPECT_GE(simulated->Seconds(), found->lower_bound_s);
    if (!found->schedule_time) continue;
    const std::vector<bound::Resource>& resources = problem->instance.resources;
    const std::vector<uint64_t>& loads = found->schedule_time->phase_load;
    units.clear();
    for (size_t i = 0; i < loads.size(); ++i)
      units[resources[i % resources.size()].name] += loads[i];
    ExpectLinksToCarryAll(scenario.machine, units, loads.size());
    ++schedules;
  }
  EXPECT_GE(schedules, kRuns / 20);
  EXPECT_GE(shared, kRuns / 40);
}

// Problems in which one kind of operation is what a bound cannot do without: where simulations did
// not count it, they would be faster.
class SimulationBoundOf : public ::testing::Test {
 protected:
  SimulationBoundOf() {
    model_.layers = 1;
    model_.weight_bytes = model_.pass_weight_bytes = model_.active_parameters = 1000;
  }
  uint64_t BlockBytes() const { return 16 * model_.KvBytesPerToken(); }
  void SetMachine(const char* name, uint64_t hbm_blocks, uint64_t dram_blocks) {
    machine_ = *sim::ReadMachine(name);
    machine_.tiers[0].capacity_bytes = model_.weight_bytes + hbm_blocks * BlockBytes();
    machine_.tiers[1].capacity_bytes = dram_blocks * BlockBytes();
  }
  // `count` prompts of `blocks` blocks; those of equal number modulo `kinds` are equal.
  void SetPrompts(int count, uint32_t blocks, int kinds) {
    sim::Trace trace{.block_tokens = 16};
    for (int i = 0; i < count; ++i) {
      sim::TraceRequest request;
      request.first_block = trace.ids.size();
      request.block_count = blocks;
      request.tokens = 16 * blocks;
      for (uint32_t block = 0; block < blocks; ++block)
        trace.ids.push_back(static_cast<uint64_t>(i % kinds) * 1000 + block);
      trace.requests.push_back(request);
    }
    trace_ = std::move(trace);
  }
  // Two halves of so many blocks each, read in turn for `run` steps.
  void SetHalves(uint32_t blocks, uint32_t steps, uint32_t run) {
    sim::AttentionGeometry geometry;
    geometry.model = model_.name;
    geometry.planes = 1;
    geometry.block_tokens = 16;
    geometry.prompt_tokens = 32 * blocks;
    geometry.steps = steps;
    sim::AttentionTraceWriter writer(geometry);
    const std::vector<uint8_t> mass(blocks, 8);
    for (uint32_t step = 0; step < steps; ++step) {
      std::vector<uint32_t> read(blocks);
      std::iota(read.begin(), read.end(), step / run % 2 * blocks);
      writer.Add(read, mass);
    }
    trace_ = *sim::DecodeAttentionTrace(writer.Finish(), "halves");
  }
  // The bound, which no policy's time is below.
  double CheckedBound(uint32_t iterations = 2000) {
    const auto problem = sim::MakeProblem(trace_, machine_, model_, options_);
    EXPECT_THAT(problem, IsOk());
    if (!problem.ok()) return 0;
    const double bound_s = VerifiedBound(problem->instance, iterations);
    for (const std::string& policy : sim::PolicyNames()) {
      const auto result = sim::SimulateTrace(trace_, machine_, model_, options_, policy);
      EXPECT_THAT(result, IsOk()) << policy;
      if (result.ok()) {
        EXPECT_GE(result->Seconds(), bound_s) << policy;
      }
    }
    return bound_s;
  }

  sim::ModelSpec model_ = *sim::ReadModel("llama-3.1-8b");
  sim::Machine machine_;
  sim::AnyTrace trace_;
  sim::ProblemOptions options_;
};

// To store takes three times as long as to compute, and reading next to nothing.
TEST_F(SimulationBoundOf, Storing) {
  SetMachine("h100-pcie5", 1, 40);
  options_.tier_names = {"dram"};
  SetPrompts(20, 20, 1);
  const uint64_t flops = model_.PrefillFlops(20 * 16, 0);
  machine_.flops_per_second = 1'000 * flops;
  machine_.tiers[1].link->from_gpu_bytes_per_second = 20 * BlockBytes() * 1'000 / 3;
  EXPECT_GT(CheckedBound(), 0.0025) << "three milliseconds, once";
}

// The engine takes nothing behind a chunk that is not full. What it took before that is there, was
// written, and takes the time of that: a millisecond a chunk.
TEST_F(SimulationBoundOf, StoringAPart) {
  SetMachine("h100-pcie5", 1, 40);
  SetPrompts(1, 5, 1);
  auto workload = sim::MakePrefixWorkload(std::get<sim::Trace>(trace_), model_, {});
  ASSERT_THAT(workload, IsOk());
  workload->chunks[2].tokens = 15;
  machine_.flops_per_second = sim::kFlopRateMax;
  for (sim::MachineTier& tier : machine_.tiers) tier.latency_ns = 0;
  machine_.tiers[1].link->latency_ns = 0;
  machine_.tiers[1].link->from_gpu_bytes_per_second = BlockBytes() * 1'000;
  sim::PrefixSimulationOptions options;
  options.machine = machine_;
  options.tiers = {1};
  options.policy = "lru";
  const auto result = sim::SimulatePrefix(*workload, model_, options);
  ASSERT_THAT(result, IsOk());
  EXPECT_EQ(result->refused_chunks, 2u);
  EXPECT_EQ(result->tiers[0].stored_bytes, 3 * BlockBytes());
  EXPECT_EQ(result->time_ns, 3'000'000);
}

// Blocks come through a slow link when they are read first, or before.
TEST_F(SimulationBoundOf, Copying) {
  SetMachine("gh200", 24, 200);
  machine_.tiers[1].link->from_gpu_bytes_per_second = 1'000'000'000;
  machine_.tiers[1].link->to_gpu_bytes_per_second = 20'000'000'000;
  SetHalves(20, 80, 20);
  // Three times one half comes, at 65 us for all of it, but for what there is room for.
  EXPECT_GT(CheckedBound(), 0.0001);
}

// What is copied before it is read goes through the GPU's own memory twice, which is all that takes
// time here: 20 blocks are read each time, and there is room for 4 of the other half. Streamed, one
// half stays there and 16 of the other come when they are read, every second time.
TEST_F(SimulationBoundOf, CopyingBeforeReading) {
  SetMachine("h100-pcie5", 24, 200);
  machine_.tiers[0].bytes_per_second = BlockBytes() * 1'000'000;
  SetHalves(20, 12, 1);
  options_.phase = sim::AttentionPhase::kLayer;
  options_.mode = sim::AttentionMode::kInPlace;
  EXPECT_LT(CheckedBound(), 12 * 21 * 1e-6);
  options_.mode = sim::AttentionMode::kStream;
  const double streamed_s = CheckedBound();
  EXPECT_GT(streamed_s, (12 * 20 + 6 * 16 - 1) * 1e-6);
  EXPECT_LT(streamed_s, (12 * 20 + 6 * 16 + 1) * 1e-6);
  options_.mode = sim::AttentionMode::kStrict;
  const double strict_s = CheckedBound();
  EXPECT_GT(strict_s, 11 * (20 + 15) * 1e-6);
}

// To the byte: what is read elsewhere goes through DRAM once, and where it is copied through the
// GPU's own memory when it comes and when it is read.
TEST_F(SimulationBoundOf, LoadsOfCopiesThatAreRead) {
  SetMachine("h100-pcie5", 24, 200);
  SetHalves(20, 12, 1);
  options_.phase = sim::AttentionPhase::kLayer;
  for (const auto mode :
       {sim::AttentionMode::kInPlace, sim::AttentionMode::kStream, sim::AttentionMode::kStrict}) {
    options_.mode = mode;
    const auto result = sim::SimulateTrace(trace_, machine_, model_, options_, "static");
    ASSERT_THAT(result, IsOk());
    ASSERT_EQ(result->moves_done, 0u);
    const uint64_t near = result->tiers[0].read_bytes, far = result->tiers[1].read_bytes;
    EXPECT_EQ(near + far, 12 * 20 * BlockBytes());
    EXPECT_GT(far, 0u);
    std::map<std::string, uint64_t> units;
    for (const sim::SimulationResult::Port& port : result->ports) units[port.name] = port.units;
    const uint64_t beside = 12 * (model_.pass_weight_bytes + model_.KvBytesPerToken());
    EXPECT_EQ(units["hbm"], beside + near + (mode == sim::AttentionMode::kInPlace ? 0 : 2 * far));
    EXPECT_EQ(units["dram"], far);
    EXPECT_EQ(units["dram.pcie.to_gpu"], far);
    EXPECT_EQ(units["dram.pcie.from_gpu"], 0u);
  }
}

// To the nanosecond, in one step that reads 20 blocks: one takes a microsecond in the GPU's own
// memory, and ten through the link.
TEST_F(SimulationBoundOf, TimeByMode) {
  SetHalves(20, 1, 1);
  options_.phase = sim::AttentionPhase::kLayer;
  constexpr int64_t kNear = 1000, kFar = 10'000;
  uint64_t far = 0;  // blocks
  const auto time_ns = [&](sim::AttentionMode mode, uint64_t kept, uint64_t latency_ns) {
    SetMachine("h100-pcie5", 4 + kept, 200);
    for (sim::MachineTier& tier : machine_.tiers) {
      tier.latency_ns = 0;
      tier.bytes_per_second = BlockBytes() * 1'000'000;
    }
    machine_.flops_per_second = sim::kFlopRateMax;
    machine_.tiers[1].link->latency_ns = latency_ns;
    machine_.tiers[1].link->to_gpu_bytes_per_second = BlockBytes() * 100'000;
    options_.mode = mode;
    options_.staging_bytes = mode == sim::AttentionMode::kStream ? kept * BlockBytes() : 0;
    const auto result = sim::SimulateTrace(trace_, machine_, model_, options_, "static");
    EXPECT_THAT(result, IsOk());
    if (!result.ok()) return int64_t{0};
    far = result->tiers[1].read_blocks;
    return static_cast<int64_t>(result->time_ns);
  };
  using Mode = sim::AttentionMode;
  const int64_t in_place = time_ns(Mode::kInPlace, 0, 0);
  ASSERT_EQ(far, 16u);
  EXPECT_EQ(in_place, 16 * kFar);
  // What came last is read when it is there: a block, or as much as is left for the last buffer.
  EXPECT_EQ(time_ns(Mode::kStream, 2, 0), 16 * kFar + kNear);
  ASSERT_EQ(far, 16u);
  EXPECT_EQ(time_ns(Mode::kStream, 20, 0), 16 * kFar + 6 * kNear);
  ASSERT_EQ(far, 16u);
  // First copies, then the layer, with its weights and the new token.
  EXPECT_EQ(time_ns(Mode::kStrict, 20, 0), 16 * kFar + 20 * kNear + 78);
  ASSERT_EQ(far, 16u);
  // Two buffers do not hide so much latency: a block comes, late, and is read, and only then the
  // next but one is asked for. The second buffer is one block behind the first.
  EXPECT_EQ(time_ns(Mode::kStream, 2, 100'000), 8 * (kFar + 100'000 + kNear) + kFar);
  // Eight blocks each: both are on their way at once.
  EXPECT_EQ(time_ns(Mode::kStream, 16, 100'000), 16 * kFar + 100'000 + 8 * kNear);
}

// Staging takes its room from blocks; what is too little or too much of it is refused, and so is
// staging for what does not stream.
TEST_F(SimulationBoundOf, RoomForStaging) {
  SetHalves(20, 12, 1);
  options_.mode = sim::AttentionMode::kStream;
  SetMachine("h100-pcie5", 24, 200);
  const auto simulate = [&] {
    return sim::SimulateTrace(trace_, machine_, model_, options_, "static");
  };
  options_.staging_bytes = 2 * BlockBytes();
  const auto little = simulate();
  options_.staging_bytes = 12 * BlockBytes();
  const auto much = simulate();
  ASSERT_THAT(little, IsOk());
  ASSERT_THAT(much, IsOk());
  EXPECT_EQ(little->tiers[0].slots, much->tiers[0].slots + 10);
  options_.staging_bytes = 2 * BlockBytes() - 1;
  EXPECT_THAT(simulate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("buffers that")));
  options_.staging_bytes = 26 * BlockBytes();
  EXPECT_THAT(simulate(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("own memory has")));
  options_.staging_bytes = 24 * BlockBytes();
  EXPECT_THAT(simulate(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("no room for a")));
  options_.mode = sim::AttentionMode::kInPlace;
  EXPECT_THAT(simulate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("streams here")));
  SetPrompts(2, 4, 1);
  EXPECT_THAT(simulate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("staging")));
}

// Schedules leave the room that simulations stage in; and both say the same of a machine whose
// memory the weights fill.
TEST_F(SimulationBoundOf, SchedulesKeepRoomForStaging) {
  SetHalves(20, 12, 1);
  options_.mode = sim::AttentionMode::kStream;
  SetMachine("h100-pcie5", 24, 200);
  options_.staging_bytes = 8 * BlockBytes();
  const auto problem = sim::MakeProblem(trace_, machine_, model_, options_);
  ASSERT_THAT(problem, IsOk());
  EXPECT_EQ(problem->instance.tiers[0].capacity_bytes, 24 * BlockBytes());
  const auto run = RunOf(*problem);
  ASSERT_TRUE(run && run->schedule_time);
  const std::vector<uint64_t>& bytes = run->schedule_time->phase_bytes;
  uint64_t most = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) most = std::max(most, bytes[i]);
  EXPECT_EQ(most, 16 * BlockBytes());

  options_.staging_bytes = 0;
  options_.tier_names = {"dram"};
  machine_.tiers[0].capacity_bytes = model_.weight_bytes;
  const auto full = StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("staging buffers"));
  EXPECT_THAT(sim::MakeProblem(trace_, machine_, model_, options_), full);
  EXPECT_THAT(sim::SimulateTrace(trace_, machine_, model_, options_, "lru"), full);
  options_.mode = sim::AttentionMode::kInPlace;
  EXPECT_GT(CheckedBound(60), 0);
}

// Two tiers behind one link are no faster than one of them: all that is read passes that link.
TEST_F(SimulationBoundOf, TiersBehindOneLink) {
  SetMachine("h100-pcie5", 0, 100);
  sim::MachineTier tier = machine_.tiers[1];
  tier.name = "cxl";
  machine_.tiers.push_back(tier);
  machine_.tiers[0].capacity_bytes = sim::kCapacityBytesMax;
  SetHalves(20, 12, 1);
  options_.tier_names = {"dram", "cxl"};
  const double link_s = 12 * 20 * static_cast<double>(BlockBytes()) /
                        static_cast<double>(tier.link->to_gpu_bytes_per_second);
  EXPECT_GT(CheckedBound(200), 0.999 * link_s);
}

// Two tiers more, of which each has something that the others have not: none holds all blocks, and
// each may bind.
TEST_F(SimulationBoundOf, FourTiers) {
  SetMachine("h100-pcie5", 6 + 6, 100);  // two buffers for each of the others
  machine_.tiers[0].bytes_per_second = 400'000'000'000;
  for (const char* name : {"peer", "cxl"}) {
    sim::MachineTier tier = machine_.tiers[1];
    tier.name = name;
    tier.link->name = std::string(name) + ".link";
    tier.capacity_bytes = 8 * BlockBytes();
    tier.bytes_per_second = 100'000'000'000;
    machine_.tiers.insert(machine_.tiers.end() - 1, tier);
  }
  machine_.flops_per_second = 10 * model_.PrefillFlops(20 * 16, 0);
  SetHalves(20, 24, 3);
  EXPECT_GT(CheckedBound(60), 0);
  SetPrompts(24, 12, 4);
  EXPECT_GT(CheckedBound(60), 0.1) << "each of four prompts is computed once, in 60 ms";
}

// Where DRAM has a copy of everything, the GPU's memory adds no room.
TEST_F(SimulationBoundOf, RoomForCopiesOfAll) {
  SetMachine("arxiv-2508.13231", 24, 40);
  SetPrompts(30, 20, 3);
  machine_.flops_per_second = 1'000 * model_.PrefillFlops(20 * 16, 0);
  EXPECT_GT(CheckedBound(), 0.004) << "a third of the prompts is computed, at a millisecond each";
}

}  // namespace
}  // namespace kvtier::test_support
