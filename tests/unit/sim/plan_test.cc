// Proves that a plan's figures hold together: no bound rises and no best schedule takes longer
// where a machine gets more of anything, even if the solver is stopped almost at once; no policy is
// faster than its bound; what is said to bind is by how much the bound changes; and the cheapest
// point is.
#include "sim/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "sim/attention_generator.h"
#include "sim/plan_price.h"
#include "sim/spec_reader.h"
#include "sim/trace_generator.h"
#include "sim/trace_reader.h"
#include "tests/support/stop_after.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/evaluation.h"
#include "tiering/bound/instance_file.h"

namespace kvtier::sim {
namespace {

using testing::HasSubstr;

Trace ChatTrace(uint64_t requests, uint64_t seed) {
  WorkloadOptions options = DefaultWorkload(WorkloadKind::kChat);
  options.requests = requests;
  options.seed = seed;
  options.block_tokens = 256;
  Trace trace{.block_tokens = options.block_tokens};
  const absl::Status status = GenerateTrace(
      options, [&](std::string_view line) { return AppendMooncakeLine(line, "made up", trace); });
  EXPECT_TRUE(status.ok()) << status;
  return trace;
}

PlanOptions Quick(uint32_t iterations) {
  PlanOptions options;
  options.problem.tier_names = {"dram"};
  options.run.dual.iterations = iterations;
  options.run.dual.polish_iterations_min = 1;
  options.run.time_limit_s = 1e9;
  options.run.now_s = [] { return 0.0; };
  return options;
}

std::vector<PlanAxis> Axes(const std::vector<std::string>& texts) {
  std::vector<PlanAxis> axes;
  for (const std::string& text : texts) axes.push_back(*ParsePlanAxis(text, 3));
  return axes;
}

absl::StatusOr<std::vector<PlanPoint>> Plan(const Trace& trace,
                                            const std::vector<std::string>& vary,
                                            const PlanOptions& options,
                                            const std::string& machine = "h100-pcie5") {
  InlineExecutor executor;
  return RunPlan(AnyTrace(trace), *ReadMachine(machine), *ReadModel("llama-3.1-8b"), Axes(vary),
                 options, executor);
}

// Of all pairs where one has no less of anything.
void ExpectMonotone(const std::vector<PlanPoint>& points) {
  size_t pairs = 0;
  for (const PlanPoint& more : points) {
    for (const PlanPoint& less : points) {
      if (more.load != less.load || !HasNoLess(more.problem.instance, less.problem.instance))
        continue;
      ++pairs;
      EXPECT_LE(more.run.lower_bound_s, less.run.lower_bound_s);
      ASSERT_TRUE(more.run.schedule && less.run.schedule);
      EXPECT_LE(*more.run.best_feasible_s, *less.run.best_feasible_s);
    }
  }
  EXPECT_GT(pairs, points.size());
}

TEST(PlanTest, MoreOfAnythingTakesNoLonger) {
  const Trace trace = ChatTrace(60, test_support::TestSeed(1));
  PlanOptions options = Quick(60);
  options.policies = {"lru", "min"};
  const auto points = Plan(trace, {"dram=512MiB..4GiB/3", "link.pcie=1GB/s..64GB/s/2"}, options);
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 6u);
  EXPECT_EQ((*points)[1].values, (std::vector<uint64_t>{512 << 20, 64'000'000'000}));
  EXPECT_EQ((*points)[1].machine.tiers[1].capacity_bytes, uint64_t{512} << 20);
  EXPECT_EQ((*points)[1].machine.tiers[1].link->to_gpu_bytes_per_second, 64'000'000'000u);
  ExpectMonotone(*points);
  for (const PlanPoint& point : *points) {
    EXPECT_GT(point.run.lower_bound_s, 0);
    EXPECT_GE(point.run.lower_bound_s, point.run.roofline_s * (1 - 1e-6));
    ASSERT_EQ(point.policies.size(), 2u);
    for (const SimulationResult& policy : point.policies)
      EXPECT_GE(policy.Seconds(), point.run.lower_bound_s);
  }
  // It matters: the least machine is slower than the best one.
  EXPECT_GT(points->front().run.lower_bound_s, 1.01 * points->back().run.lower_bound_s);
}

// A bound passes from one point to another only because nothing in their problems differs beside
// what is compared.
TEST(PlanTest, PointsOfALoadDifferInCapacitiesAndRatesAlone) {
  PlanOptions options = Quick(1);
  options.problem.tier_names = {};
  const auto points = Plan(ChatTrace(20, test_support::TestSeed(7)),
                           {"compute=100TFLOP/s,900TFLOP/s", "tier.hbm.bandwidth=1TB/s,3TB/s",
                            "link.pcie=10GB/s,60GB/s", "hbm=17GiB,18GiB", "dram=1GiB,2GiB"},
                           options);
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 32u);
  const auto bytes_without_rates = [](bound::Instance instance) {
    for (bound::Tier& tier : instance.tiers) tier.capacity_bytes = 0;
    for (bound::Resource& resource : instance.resources) resource.units_per_second = 1;
    return bound::InstanceBytes(instance);
  };
  const std::string first = bytes_without_rates(points->front().problem.instance);
  for (const PlanPoint& point : *points)
    EXPECT_TRUE(bytes_without_rates(point.problem.instance) == first);
  ExpectMonotone(*points);
}

TEST(PlanTest, StaysMonotoneWhenTheSolverHadNoTime) {
  const Trace trace = ChatTrace(60, test_support::TestSeed(2));
  for (const uint32_t iterations : {1u, 3u, 10u}) {
    const auto points =
        Plan(trace, {"dram=256MiB..8GiB/6", "link.pcie=2GB/s,8GB/s"}, Quick(iterations));
    ASSERT_TRUE(points.ok()) << points.status();
    ExpectMonotone(*points);
    // Whatever prices a point ended with prove no more elsewhere than is said there.
    InlineExecutor executor;
    for (const PlanPoint& point : *points) {
      bound::Evaluator evaluator(point.problem.instance, executor);
      for (const PlanPoint& other : *points) {
        EXPECT_GE(point.run.lower_bound_s * (1 + 1e-6), evaluator.Hard(other.run.prices, nullptr));
      }
    }
  }
}

TEST(PlanTest, TwiceTheLoadIsTwiceTheWork) {
  const Trace trace = ChatTrace(40, test_support::TestSeed(3));
  const auto points = Plan(trace, {"load=1..2", "dram=1GiB,64GiB"}, Quick(40));
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 4u);
  const auto& [one_small, one, two_small, two] =
      std::tie((*points)[0], (*points)[1], (*points)[2], (*points)[3]);
  EXPECT_EQ(two.load, 2u);
  EXPECT_EQ(two.problem.blocks, 2 * one.problem.blocks);
  EXPECT_EQ(two.problem.accesses, 2 * one.problem.accesses);
  EXPECT_EQ(two.problem.instance.phase_count, 2 * one.problem.instance.phase_count);
  // Where all fits, the copies do not meet.
  EXPECT_NEAR(*two.run.best_feasible_s / *one.run.best_feasible_s, 2, 0.02);
  // Where it does not, they take each other's room.
  EXPECT_GT(two_small.run.lower_bound_s, 2 * one_small.run.lower_bound_s);
}

// Twice as many sessions run at a time, each with chunks of its own.
TEST(PlanTest, TwiceTheLoadOfSessionsIsTwiceTheSessions) {
  Trace trace{.block_tokens = 256};
  for (uint64_t session = 0; session < 4; ++session) {
    trace.sessions.push_back({.first_request = trace.requests.size(), .request_count = 3});
    for (uint32_t turn = 0; turn < 3; ++turn) {
      TraceRequest request{.at_s = 10.0 * turn, .first_block = trace.ids.size(), .scope = session};
      request.block_count = 4 * (turn + 1);
      request.tokens = 256 * request.block_count;
      for (uint64_t block = 0; block < request.block_count; ++block) trace.ids.push_back(block);
      trace.requests.push_back(request);
    }
  }
  PlanOptions options = Quick(40);
  options.policies = {"lru"};
  const auto points = Plan(trace, {"load=1..2", "dram=64GiB"}, options);
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 2u);
  const auto& [one, two] = std::tie((*points)[0], (*points)[1]);
  EXPECT_EQ(two.load, 2u);
  EXPECT_EQ(one.problem.blocks, 4u * 12);
  EXPECT_EQ(two.problem.blocks, 2 * one.problem.blocks);
  EXPECT_EQ(two.problem.accesses, 2 * one.problem.accesses);
  EXPECT_NEAR(*two.run.best_feasible_s / *one.run.best_feasible_s, 2, 0.02);
  // Each session finds what its earlier turns stored, whoever ran between.
  ASSERT_EQ(two.policies.size(), 1u);
  EXPECT_EQ(one.policies[0].hits, 4u * (4 + 8));
  EXPECT_EQ(two.policies[0].hits, 2 * one.policies[0].hits);
}

TEST(PlanTest, WhatBindsIsByHowMuchTheBoundChanges) {
  const Trace trace = ChatTrace(60, test_support::TestSeed(4));
  const auto points = Plan(trace, {"dram=1GiB"}, Quick(200));
  ASSERT_TRUE(points.ok()) << points.status();
  const PlanPoint& point = points->front();
  bound::Instance instance = point.problem.instance;
  InlineExecutor executor;
  const auto value = [&] {
    return bound::Evaluator(instance, executor).Hard(point.run.prices, nullptr);
  };
  const double before = value();
  double sum = 0;
  for (size_t r = 0; r < instance.resources.size(); ++r) {
    sum += point.binding.resource[r];
    uint64_t& rate = instance.resources[r].units_per_second;
    const uint64_t original = rate;
    rate += rate / 1'000'000;
    EXPECT_NEAR((before - value()) / before * 1e6, point.binding.resource[r], 1e-3)
        << instance.resources[r].name;
    rate = original;
  }
  EXPECT_NEAR(sum, 1, 0.02);
  uint64_t& capacity = instance.tiers[0].capacity_bytes;
  capacity += capacity / 1'000'000;
  EXPECT_NEAR((before - value()) / before * 1e6, point.binding.room[0], 1e-3);
  EXPECT_GT(point.binding.room[0], 0.001);
}

TEST(PlanTest, WhatCannotBePlannedIsRefused) {
  const Trace trace = ChatTrace(10, 5);
  const std::pair<std::vector<std::string>, const char*> wrong[] = {
      {{"dram=1GiB", "dram=2GiB"}, "--vary dram sets what --vary dram sets"},
      {{"dram=1GiB", "tier.dram.capacity=2GiB"}, "sets what --vary dram sets"},
      {{"link.pcie.to_gpu=1GB/s", "link.pcie=2GB/s"}, "sets what --vary link.pcie.to_gpu sets"},
      {{"dram=1GiB..2GiB/64", "load=1..5"}, "the limit is 256"},
      {{"floppy=1GiB"}, "floppy"},
      {{"link.c2c=1GB/s"}, "c2c"},
  };
  for (const auto& [vary, wanted] : wrong) {
    const auto points = Plan(trace, vary, Quick(1));
    ASSERT_FALSE(points.ok()) << vary[0];
    EXPECT_THAT(std::string(points.status().message()), HasSubstr(wanted));
  }
  size_t calls = 0;
  PlanOptions options = Quick(5);
  options.on_progress = [&](size_t, size_t, const std::string&) { return ++calls < 3; };
  EXPECT_EQ(Plan(trace, {"dram=1GiB"}, options).status().code(), absl::StatusCode::kCancelled);
  InlineExecutor executor;
  AttentionTrace attention;
  attention.geometry = {
      .model = "llama-3.1-8b", .planes = 32, .block_tokens = 16, .prompt_tokens = 160, .steps = 1};
  attention.first.resize(33);
  const auto points = RunPlan(AnyTrace(attention), *ReadMachine("gh200"),
                              *ReadModel("llama-3.1-8b"), Axes({"load=2"}), Quick(1), executor);
  ASSERT_FALSE(points.ok());
  EXPECT_THAT(std::string(points.status().message()), HasSubstr("one sequence"));
}

// An engine needs room for its staging buffers, and for a block in each tier. Points without it go,
// with what says so, and the others stay.
TEST(PlanTest, PointsWhoseEngineHasNoRoomAreLeftOut) {
  std::vector<std::string> why;
  PlanOptions options = Quick(5);
  options.policies = {"lru"};
  options.on_left_out = [&](const PlanPoint& point, const absl::Status& status) {
    why.push_back(absl::StrCat(point.values[0], ": ", status.message()));
  };
  const auto of_requests = Plan(ChatTrace(10, 6), {"dram=16MiB,1GiB"}, options);
  ASSERT_TRUE(of_requests.ok()) << of_requests.status();
  ASSERT_EQ(of_requests->size(), 1u);
  EXPECT_EQ((*of_requests)[0].values[0], uint64_t{1} << 30);
  EXPECT_THAT(why, testing::ElementsAre(HasSubstr("16777216: tier dram has 16777216 bytes")));

  AttentionOptions generated;
  generated.geometry = {
      .model = "llama-3.1-8b", .planes = 32, .block_tokens = 16, .prompt_tokens = 160, .steps = 2};
  const auto bytes = GenerateAttentionTrace(generated, [] { return absl::OkStatus(); });
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto attention = DecodeAttentionTrace(*bytes, "made up");
  ASSERT_TRUE(attention.ok()) << attention.status();
  const ModelSpec model = *ReadModel("llama-3.1-8b");
  options.problem.mode = AttentionMode::kStream;
  const auto plan = [&](const char* tiers) {
    why.clear();
    options.problem.tier_names = absl::StrSplit(tiers, ',');
    InlineExecutor executor;
    return RunPlan(
        AnyTrace(*attention), *ReadMachine("h100-pcie5"), model,
        Axes({absl::StrFormat("hbm=%dB,%dB,%dB", model.weight_bytes, model.weight_bytes + 70'000,
                              model.weight_bytes + (1 << 20))}),
        options, executor);
  };
  for (const char* const tiers : {"dram", "hbm,dram"}) {
    const auto points = plan(tiers);
    ASSERT_TRUE(points.ok()) << points.status();
    ASSERT_EQ(points->size(), 1u);
    EXPECT_EQ((*points)[0].policies.size(), 1u);
    EXPECT_THAT(why, testing::SizeIs(2));
    EXPECT_THAT(why.back(), HasSubstr("staging buffers take 131072 bytes"));
  }
  // Nothing is simulated, and schedules need the buffers as well.
  options.policies.clear();
  const auto bounds = plan("dram");
  ASSERT_TRUE(bounds.ok()) << bounds.status();
  EXPECT_EQ(bounds->size(), 1u);
}

// A machine with more memory may keep more of it free, and then has no room for all that fits where
// there is less.
TEST(PlanTest, LargerStagingBuffersLeaveLessRoom) {
  AttentionOptions generated;
  generated.geometry = {
      .model = "llama-3.1-8b", .planes = 32, .block_tokens = 16, .prompt_tokens = 160, .steps = 6};
  const auto bytes = GenerateAttentionTrace(generated, [] { return absl::OkStatus(); });
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto attention = DecodeAttentionTrace(*bytes, "made up");
  ASSERT_TRUE(attention.ok()) << attention.status();
  const ModelSpec model = *ReadModel("llama-3.1-8b");
  constexpr uint64_t kTwoBlocksEach = 4 << 20;  // bytes whose sixteenth is two buffers of two
  PlanOptions options = Quick(100);
  options.problem.mode = AttentionMode::kStream;
  options.problem.tier_names = {"hbm", "dram"};
  InlineExecutor executor;
  const auto points =
      RunPlan(AnyTrace(*attention), *ReadMachine("h100-pcie5"), model,
              Axes({absl::StrFormat("hbm=%dB,%dB", model.weight_bytes + kTwoBlocksEach - 1,
                                    model.weight_bytes + kTwoBlocksEach)}),
              options, executor);
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 2u);
  EXPECT_LT((*points)[0].problem.schedules.kept_bytes, (*points)[1].problem.schedules.kept_bytes);
  EXPECT_LT(*(*points)[0].run.best_feasible_s, *(*points)[1].run.best_feasible_s);
  for (const PlanPoint& point : *points) {
    const auto instance = ForSchedules(point.problem.instance, point.problem.schedules);
    ASSERT_TRUE(instance.ok()) << instance.status();
    ASSERT_TRUE(point.run.schedule);
    const auto time = bound::CheckSchedule(*instance, *point.run.schedule);
    ASSERT_TRUE(time.ok()) << time.status();
    EXPECT_NEAR(static_cast<double>(time->picoseconds) * 1e-12 / *point.run.best_feasible_s, 1,
                1e-9);
  }
}

// What is said of the best is said of one and the same: a schedule, or what a policy did.
TEST(BoundRunTest, AFasterPolicyTakesTheSchedulesPlace) {
  bound::Instance instance;
  instance.resources = {{"hbm", 10}, {"compute", 10}};
  BoundRun run;
  run.lower_bound_s = 1;
  run.seconds = 5;
  EXPECT_EQ(run.BestUnits(instance, 0), std::nullopt);
  run.schedule_time.emplace().phase_load = {1, 20, 2, 40};
  run.best_feasible_s = 3;
  run.best_from = "dive";
  const auto simulated = [](const char* policy, int64_t seconds) {
    SimulationResult result;
    result.policy = policy;
    result.time_ns = seconds * 1'000'000'000;
    result.ports = {{.name = "compute", .units = 70}, {.name = "dram", .units = 9}};
    return result;
  };
  run.Offer(simulated("slow", 4));
  run.Offer(simulated("as fast", 3));
  EXPECT_EQ(run.best_from, "dive");
  EXPECT_EQ(run.BestUnits(instance, 0), 3);
  EXPECT_EQ(run.BestUnits(instance, 1), 60);
  EXPECT_NE(run.best_schedule(), nullptr);
  EXPECT_TRUE(run.progress.empty());
  BoundRun more = run;
  run.Offer(simulated("fast", 2));
  ASSERT_EQ(run.progress.size(), 1u);
  EXPECT_EQ(run.progress[0].best_feasible_s, 2);
  EXPECT_EQ(run.progress[0].lower_bound_s, 1);
  EXPECT_EQ(run.progress[0].seconds, 5);
  more.OfferBestOf(run);
  for (const BoundRun& of : {run, more}) {
    EXPECT_EQ(of.best_feasible_s, 2);
    EXPECT_EQ(of.best_from, "fast");
    EXPECT_EQ(of.BestUnits(instance, 0), std::nullopt);  // it has no such port
    EXPECT_EQ(of.BestUnits(instance, 1), 70);
    EXPECT_EQ(of.best_schedule(), nullptr);
  }
}

PlanPoint Made(uint64_t dram_gib, double bound_s, double best_s, std::vector<double> policies_s,
               uint32_t load = 1) {
  PlanPoint point;
  point.load = load;
  point.machine = *ReadMachine("h100-pcie5");
  point.machine.tiers[1].capacity_bytes = dram_gib << 30;
  point.run.lower_bound_s = bound_s;
  point.run.best_feasible_s = best_s;
  point.run.schedule = bound::Schedule();
  for (const double seconds : policies_s) {
    SimulationResult result;
    result.policy = "lru";
    result.time_ns = static_cast<int64_t>(seconds * 1e9);
    point.policies.push_back(result);
  }
  return point;
}

// A point that the time is too short for does not take the others with it.
TEST(PlanTest, PointsWithoutTimeAreLeftOut) {
  const Trace trace = ChatTrace(12, 6);
  PlanOptions options = Quick(2);
  options.run.time_limit_s = 10;
  double now = 0, tick = 0;
  options.run.now_s = [&] { return now += tick; };
  const auto slow = [&](std::vector<size_t> points) {
    options.on_progress = [&tick, points](size_t point, size_t, const std::string&) {
      tick = std::find(points.begin(), points.end(), point) != points.end() ? 20 : 0;
      return true;
    };
  };
  std::vector<uint64_t> left_out;
  options.on_left_out = [&](const PlanPoint& point, const absl::Status& why) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(why)) << why;
    EXPECT_THAT(std::string(why.message()), HasSubstr("the time limit is 10 s"));
    left_out.push_back(point.values[0]);
  };
  const std::vector<std::string> vary = {"dram=512MiB,1GiB,4GiB"};
  slow({1});
  const auto points = Plan(trace, vary, options);
  ASSERT_TRUE(points.ok()) << points.status();
  EXPECT_EQ(left_out, std::vector<uint64_t>{1 << 30});
  ASSERT_EQ(points->size(), 2u);
  EXPECT_EQ((*points)[1].values, std::vector<uint64_t>{uint64_t{4} << 30});
  for (const PlanPoint& point : *points) EXPECT_GT(point.run.lower_bound_s, 0);
  slow({0, 1, 2});
  EXPECT_TRUE(absl::IsDeadlineExceeded(Plan(trace, vary, options).status()));
}

// Wherever it is stopped: in a bound, in a search, in prices or schedules of other points, in what
// binds, in a simulation.
TEST(PlanTest, StoppedItIsCancelled) {
  const Trace trace = ChatTrace(12, 6);
  PlanOptions options = Quick(2);
  options.policies = {"lru", "min"};
  test_support::StopAfter never(std::numeric_limits<uint64_t>::max());
  options.run.stop = never.Check();
  const std::vector<std::string> vary = {"dram=512MiB,4GiB", "link.pcie=2GB/s,8GB/s"};
  const auto whole = Plan(trace, vary, options);
  ASSERT_TRUE(whole.ok()) << whole.status();
  for (int i = 0; i <= 30; ++i) {
    const uint64_t questions = i < 16 ? never.asked() * i / 16 : never.asked() - 1 - 5 * (i - 16);
    test_support::StopAfter some(questions);
    options.run.stop = some.Check();
    const auto plan = Plan(trace, vary, options);
    EXPECT_TRUE(absl::IsCancelled(plan.status())) << questions << ": " << plan.status();
    EXPECT_LE(some.asked(), questions + 16) << "of " << never.asked();
  }
  test_support::StopAfter late(never.asked());
  options.run.stop = late.Check();
  const auto plan = Plan(trace, vary, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (size_t i = 0; i < plan->size(); ++i)
    EXPECT_EQ((*plan)[i].run.lower_bound_s, (*whole)[i].run.lower_bound_s);
}

TEST(PlanPriceTest, CheapestIsTheOneThatReachesAndCostsLeast) {
  const Machine machine = *ReadMachine("h100-pcie5");
  const TierPrices prices = *ParseTierPrices("dram=2.5,hbm=10", machine);
  EXPECT_DOUBLE_EQ(PriceOf(prices, Made(4, 1, 1, {}).machine), 4 * 2.5 + 80 * 10);
  const std::vector<PlanPoint> points = {Made(4, 90, 100, {120}), Made(2, 95, 105, {130, 110}),
                                         Made(1, 120, 130, {150}), Made(8, 80, 85, {100}),
                                         Made(1, 1, 1, {1}, 0)};
  EXPECT_EQ(FindCheapest(points, prices, 110).reached, 1u);
  EXPECT_EQ(FindCheapest(points, prices, 109).reached, 3u);
  EXPECT_EQ(FindCheapest(points, prices, 109).possible, 1u);
  EXPECT_EQ(FindCheapest(points, prices, 99).reached, std::nullopt);
  EXPECT_EQ(FindCheapest(points, prices, 79).possible, std::nullopt);
  // What knows the future is no promise.
  std::vector<PlanPoint> clairvoyant = points;
  for (SimulationResult& result : clairvoyant[1].policies) result.policy = "min";
  clairvoyant[1].policies[0].policy = "lfu";
  EXPECT_EQ(FindCheapest(clairvoyant, prices, 110).reached, 3u);
  const std::vector<PlanPoint> without = {Made(4, 90, 100, {}), Made(2, 95, 105, {})};
  EXPECT_EQ(FindCheapest(without, prices, 105).reached, 1u);
  EXPECT_EQ(FindCheapest(without, prices, 104).reached, 0u);
  // Every engine can do without a cache.
  std::vector<PlanPoint> uncached = points;
  for (PlanPoint& point : uncached) point.problem.uncached_s = 109;
  EXPECT_EQ(FindCheapest(uncached, prices, 109).reached, 2u);
  EXPECT_EQ(FindCheapest(uncached, prices, 108).reached, 3u);
}

TEST(PlanPriceTest, PricesAreCheckedOneByOne) {
  const Machine machine = *ReadMachine("h100-pcie5");
  for (const char* const text : {"", "dram", "dram=", "dram=x", "dram=-1", "dram=nan", "dram=inf",
                                 "dram=1e10", "peer=1", "dram=1,dram=2", "dram=1,"}) {
    EXPECT_FALSE(ParseTierPrices(text, machine).ok()) << text;
  }
  EXPECT_EQ(ParseTierPrices("dram=0,hbm=1e9", machine)->size(), 2u);
}

}  // namespace
}  // namespace kvtier::sim
