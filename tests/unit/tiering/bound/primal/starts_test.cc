// What the search starts from: best of all where that is known by hand or by trying all, feasible
// everywhere.
#include <gtest/gtest.h>

#include <iostream>
#include <vector>

#include "tests/support/bound/brute_force.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/bound/synthetic.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/bound/primal/batch_min.h"
#include "tiering/bound/primal/option_split.h"
#include "tiering/bound/primal/phase_readers.h"
#include "tiering/bound/primal/price_dive.h"
#include "tiering/bound/primal/schedule_checker.h"
#include "tiering/bound/primal/static_fill.h"

namespace kvtier::bound {
namespace {

using ::kvtier::test_support::IsOk;

bool Always() { return true; }

Schedule FromPaths(const std::vector<Path>& paths) {
  Schedule schedule;
  schedule.first_change = {0};
  for (const Path& path : paths) {
    schedule.changes.insert(schedule.changes.end(), path.begin(), path.end());
    schedule.first_change.push_back(schedule.changes.size());
  }
  return schedule;
}

TEST(BatchMinTest, IsBestOfAllWhereOnlyMissesTakeTime) {
  // Blocks of one size that live throughout, and a link that is loaded by reads of what is not in
  // the GPU's memory.
  Rng rng(test_support::TestSeed(9));
  for (int round = 0; round < 150; ++round) {
    Instance instance = test_support::Synthetic({.model = test_support::SyntheticModel::kStream,
                                                 .blocks = 5,
                                                 .steps = 7,
                                                 .read_share = 0.4,
                                                 .seed = rng.Next()});
    instance.tiers[0].capacity_bytes = (1 + rng.Below(4)) * instance.classes[0].bytes;
    const std::vector<Path> paths = BatchMin(instance, PhaseReaders(instance), Always);
    ASSERT_EQ(paths.size(), instance.block_count());
    ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, FromPaths(paths)));
    EXPECT_NEAR(static_cast<double>(time.picoseconds) * 1e-12, test_support::LeastSeconds(instance),
                1e-11)
        << "round " << round;
  }
}

// Blocks read one after another, round after round, over a link; `fit` of them fit into the GPU's
// memory.
Instance CyclicScan(uint32_t blocks, uint32_t fit, uint32_t rounds) {
  Instance instance = test_support::Synthetic(
      {.model = test_support::SyntheticModel::kStream, .blocks = blocks, .steps = 1});
  instance.tiers[0].capacity_bytes = fit * instance.classes[0].bytes;
  instance.phase_count = blocks * rounds;
  instance.base_load.assign(instance.phase_count * instance.resources.size(), 0);
  instance.death.assign(blocks, instance.phase_count);
  instance.first_access = {0};
  instance.access_phase.clear();
  for (uint32_t block = 0; block < blocks; ++block) {
    for (uint32_t r = 0; r < rounds; ++r) instance.access_phase.push_back(r * blocks + block);
    instance.first_access.push_back(instance.access_phase.size());
  }
  EXPECT_THAT(Check(instance), IsOk());
  return instance;
}

constexpr size_t kLink = 1;  // resource of CyclicScan

double MissSeconds(const Instance& instance) {
  return static_cast<double>(instance.classes[0].bytes) /
         static_cast<double>(instance.resources[kLink].units_per_second);
}

TEST(BatchMinTest, OfACyclicScanItMissesWhatDoesNotFit) {
  constexpr uint32_t kBlocks = 10, kFit = 4, kRounds = 6;
  const Instance instance = CyclicScan(kBlocks, kFit, kRounds);
  const std::vector<Path> paths = BatchMin(instance, PhaseReaders(instance), Always);
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, FromPaths(paths)));
  EXPECT_NEAR(static_cast<double>(time.picoseconds) * 1e-12,
              kRounds * (kBlocks - kFit) * MissSeconds(instance), 1e-9);
}

std::vector<Path> Dive(const Instance& instance, const Prices& prices) {
  return DivePriced(instance, PathPrices(instance, prices), PhaseCuts(instance),
                    PhaseReaders(instance), Always);
}

TEST(PriceDiveTest, IsFeasibleAndNotFarFromTheBestOfAll) {
  Rng rng(test_support::TestSeed(12));
  constexpr int kRounds = 40;
  for (const test_support::BoundModel model : test_support::kBoundModels) {
    int found = 0, positive = 0;
    double sum_of_ratios = 0;
    for (int round = 0; round < kRounds; ++round) {
      const Instance instance = test_support::RandomInstance(model, {}, rng);
      const std::vector<Path> paths = Dive(instance, test_support::SearchPrices(instance, 40, rng));
      if (paths.empty()) continue;
      ++found;
      Schedule schedule = FromPaths(paths);
      InlineExecutor executor;
      (void)SplitOptions(instance, schedule, executor);
      ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, schedule));
      const double seconds = static_cast<double>(time.picoseconds) * 1e-12;
      const double least = test_support::LeastSeconds(instance, test_support::Recomputed::kWhole);
      // A picosecond a phase is rounding.
      ASSERT_GE(seconds + 1e-12 * instance.phase_count, least * (1 - 1e-9)) << NameOf(model);
      if (least == 0) continue;
      ++positive;
      sum_of_ratios += seconds / least;
    }
    std::cout << NameOf(model) << ": " << found << " of " << kRounds << " found, "
              << sum_of_ratios / positive << " of the best time on average\n";
    EXPECT_GE(found, kRounds * 95 / 100) << NameOf(model);
    // Seven seeds gave 1.29 at worst, for three tiers, and 1.07 on average.
    EXPECT_LE(sum_of_ratios / positive, 1.5) << NameOf(model);
  }
}

TEST(PriceDiveTest, IsFeasibleAtAnyPrices) {
  Rng rng(test_support::TestSeed(13));
  int found = 0;
  constexpr int kRounds = 400;
  for (int round = 0; round < kRounds; ++round) {
    const auto model = test_support::kBoundModels[rng.Below(test_support::kBoundModels.size())];
    const Instance instance = test_support::RandomInstance(model, {20, 30, 2}, rng);
    const std::vector<Path> paths = Dive(instance, test_support::RandomPrices(instance, rng));
    if (paths.empty()) continue;
    ++found;
    EXPECT_THAT(CheckSchedule(instance, FromPaths(paths)), IsOk()) << NameOf(model) << round;
  }
  EXPECT_GE(found, kRounds * 95 / 100);
}

TEST(PriceDiveTest, IsFeasibleWhereRoomIsTight) {
  // A tenth of the blocks are read in each phase, and the GPU's memory holds little more; the
  // largest block is three times the smallest, and some are born on the way.
  Rng rng(test_support::TestSeed(14));
  using test_support::SyntheticModel;
  for (const SyntheticModel model :
       {SyntheticModel::kExclusive, SyntheticModel::kInclusive, SyntheticModel::kThreeTiers,
        SyntheticModel::kStream, SyntheticModel::kStrict}) {
    for (int round = 0; round < 10; ++round) {
      const Instance instance = test_support::Synthetic({.model = model,
                                                         .blocks = 200,
                                                         .steps = 30,
                                                         .layers = round % 2 == 0 ? 1u : 2u,
                                                         .growing_share = 0.3,
                                                         .classes = 3,
                                                         .seed = rng.Next()});
      const std::vector<Path> paths = Dive(instance, test_support::RandomPrices(instance, rng));
      ASSERT_FALSE(paths.empty()) << static_cast<int>(model) << " " << round;
      EXPECT_THAT(CheckSchedule(instance, FromPaths(paths)), IsOk())
          << static_cast<int>(model) << " " << round;
    }
  }
}

TEST(PriceDiveTest, OfACyclicScanItKeepsWhatIsReadSoonest) {
  constexpr uint32_t kBlocks = 10, kFit = 4, kRounds = 6;
  const Instance instance = CyclicScan(kBlocks, kFit, kRounds);
  // Every block gains by room up to its next read; what is in waits for it less long than what was
  // just read, so that it is dearer to give up.
  Prices prices(instance.phase_count, instance.resources.size(), instance.tiers.size());
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    prices.Share(phase)[kLink] = 1;
    prices.Room(phase)[0] =
        MissSeconds(instance) / static_cast<double>(instance.classes[0].bytes) / (2 * kBlocks);
  }
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time,
                       CheckSchedule(instance, FromPaths(Dive(instance, prices))));
  EXPECT_NEAR(static_cast<double>(time.picoseconds) * 1e-12,
              kRounds * (kBlocks - kFit) * MissSeconds(instance), 1e-9);
}

TEST(PriceDiveTest, NothingLeavesThatCannotBeBackInTime) {
  // Two blocks fit into the memory that all are read from. The third is born and read in phase 3,
  // with the first; that could have come back for nothing, but in phase 1 only. The second can in
  // phase 4, at a price.
  Instance instance = test_support::Synthetic(
      {.model = test_support::SyntheticModel::kStrict, .blocks = 3, .steps = 3});
  ASSERT_EQ(instance.phase_count, 6u);
  instance.tiers[0].capacity_bytes = 2 * instance.classes[0].bytes;
  instance.birth = {0, 0, 3};
  instance.access_phase = {0, 3, 0, 1, 5, 3};
  instance.first_access = {0, 2, 5, 6};
  ASSERT_THAT(Check(instance), IsOk());
  Prices prices(6, instance.resources.size(), instance.tiers.size());
  for (uint32_t phase = 2; phase < 6; ++phase) prices.Share(phase)[kLink] = 1;
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time,
                       CheckSchedule(instance, FromPaths(Dive(instance, prices))));
  EXPECT_NEAR(static_cast<double>(time.picoseconds) * 1e-12, MissSeconds(instance), 1e-9);
}

TEST(PriceDiveTest, MovesWhereThePhaseHasTimeWhateverThePricesSay) {
  // All blocks start behind the link and are read in the last phase. The first phase's link is busy
  // already, though its price is nothing; the second has a floor under which all of them can come.
  constexpr uint32_t kBlocks = 10;
  Instance instance = CyclicScan(kBlocks, kBlocks, 1);
  instance.tiers[0].capacity_bytes = kUnitsMax;
  instance.phase_count = 3;
  instance.death.assign(kBlocks, 3);
  instance.access_phase.assign(kBlocks, 2);
  instance.classes[0].start_states = 0b10;
  instance.base_load.assign(3 * instance.resources.size(), 0);
  instance.base_load[kLink] = 5 * instance.classes[0].bytes;
  const double floor_seconds = (kBlocks + 1) * MissSeconds(instance);
  instance.base_load[instance.resources.size() + instance.compute_resource] = static_cast<uint64_t>(
      floor_seconds *
      static_cast<double>(instance.resources[instance.compute_resource].units_per_second));
  ASSERT_THAT(Check(instance), IsOk());
  Prices prices(3, instance.resources.size(), instance.tiers.size());
  prices.Share(1)[kLink] = 0.1;
  prices.Share(2)[kLink] = 1;
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time,
                       CheckSchedule(instance, FromPaths(Dive(instance, prices))));
  EXPECT_NEAR(static_cast<double>(time.picoseconds) * 1e-12,
              5 * MissSeconds(instance) + floor_seconds, 1e-9);
}

TEST(PriceDiveTest, StopsWhenTold) {
  const Instance instance = CyclicScan(10, 4, 6);
  const PathPrices prices(
      instance, Prices(instance.phase_count, instance.resources.size(), instance.tiers.size()));
  for (const int last : {0, 1, 30}) {
    int asked = 0;
    EXPECT_TRUE(
        DivePriced(instance, prices, PhaseCuts(instance), PhaseReaders(instance), [&asked, last] {
          return asked++ < last;
        }).empty());
    EXPECT_EQ(asked, last + 1);
  }
}

TEST(StaticFillTest, TheMostReadBlocksShareTheFastTierInBalance) {
  // Ten blocks, read in every phase; the fast tier is eight times as fast and holds all of them.
  // In balance one block in nine is read from the slow one.
  Instance instance = test_support::Synthetic({.blocks = 10, .steps = 4, .read_share = 1});
  instance.tiers[0].capacity_bytes = 10 * instance.classes[0].bytes;
  const PathPrices prices(instance, Prices(4, instance.resources.size(), instance.tiers.size()));
  const PhaseCuts cuts(instance);
  WorkingSchedule schedule(instance, cuts);
  ASSERT_TRUE(FillStatically(schedule, prices, [] { return true; }));
  int slow = 0;
  for (size_t block = 0; block < 10; ++block) {
    ASSERT_EQ(schedule.path(block).size(), 1u);
    slow += schedule.path(block)[0].state == 1 ? 1 : 0;
  }
  EXPECT_EQ(slow, 1);
}

}  // namespace
}  // namespace kvtier::bound
