// That a schedule's time is exact, to the picosecond, and that each kind of schedule that no
// machine could run is refused with the block, the phase, the number and the limit.
#include "tiering/bound/primal/schedule_checker.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace kvtier::bound {
namespace {

using ::kvtier::test_support::IsOk;
using ::kvtier::test_support::StatusIs;
using ::testing::HasSubstr;

constexpr StateIndex kIn = 0, kOut = 1;

// Inclusive: the slow tier always has a copy, and what is in both can be read from either. Rates
// are 10 and 1 bytes a second. Blocks of 3 and 5 bytes, of a class each; 8 bytes fit into the fast
// tier.
Instance TwoBlocks() {
  Instance instance;
  instance.tiers = {{"fast", 8}, {"slow", 100}};
  instance.resources = {{"fast", 10}, {"slow", 1}, {"processor", 7}};
  instance.compute_resource = 2;
  OptionTable table({3, 2}, 1);
  const auto loads = [](uint16_t fast, uint16_t slow) {
    Option option;
    option.per_byte[0] = fast;
    option.per_byte[1] = slow;
    return option;
  };
  table.Add(0, kIn, kIn, {});
  table.Add(0, kIn, kOut, {});
  table.Add(0, kOut, kOut, {});
  table.Add(0, kOut, kIn, loads(1, 1));
  for (const StateIndex to : {kIn, kOut}) {
    table.Add(1, kIn, to, loads(1, 0));
    table.Add(1, kIn, to, loads(0, 1));
  }
  table.Add(1, kOut, kIn, loads(1, 1));
  table.Add(1, kOut, kOut, loads(0, 1));
  instance.tables = {table};
  instance.classes = {{3, 0, 0, 3}, {5, 0, 0, 2}};  // the second starts outside
  instance.phase_count = 4;
  instance.base_load = {0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 0, 50};
  instance.block_class = {0, 1};
  instance.birth = {0, 1};
  instance.death = {4, 4};
  instance.first_access = {0, 2, 4};
  instance.access_phase = {0, 2, 1, 3};
  return instance;
}

Schedule Good() {
  Schedule schedule;
  schedule.first_change = {0, 1, 3};
  schedule.changes = {{0, kIn}, {1, kOut}, {2, kIn}};
  return schedule;
}

TEST(ScheduleCheckerTest, TimesAreExact) {
  const Instance instance = TwoBlocks();
  ASSERT_THAT(Check(instance), IsOk());
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, Good()));
  // 3 bytes at 10 a second and 1 operation at 7; 5 bytes at 1; 20 and 3 bytes at 10; 50 operations
  // at 7, which is more than 5 bytes at 10.
  const std::vector<uint64_t> phases = {300'000'000'000, 5'000'000'000'000, 2'300'000'000'000,
                                        7'142'857'142'858};
  EXPECT_EQ(time.phase_picoseconds, phases);
  EXPECT_EQ(time.picoseconds, 14'742'857'142'858u);
  EXPECT_EQ(time.phase_load, (std::vector<uint64_t>{3, 0, 1, 5, 5, 0, 23, 0, 0, 5, 0, 50}));
  EXPECT_EQ(time.phase_bytes, (std::vector<uint64_t>{3, 3, 3, 8, 8, 8, 8, 8}));
}

TEST(ScheduleCheckerTest, PartsDivideAGroupsBytes) {
  const Instance instance = TwoBlocks();
  Schedule schedule = Good();
  // A quarter of block 0's read in phase 2 goes to the slow copy: 20 + 2.25 bytes, and 0.75.
  schedule.parts = {{2, 0, 1, kIn, kIn, 1, kWholePart / 4},
                    {2, 0, 1, kIn, kIn, 0, 3 * (kWholePart / 4)}};
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, schedule));
  EXPECT_EQ(time.phase_picoseconds[2], 2'225'000'000'000u);
  EXPECT_EQ(time.phase_load[6], 23u);
  EXPECT_EQ(time.phase_load[7], 1u);
}

TEST(ScheduleCheckerTest, PartsOfSeveralBlocksAreCountedInBlocks) {
  Instance instance = TwoBlocks();
  instance.block_class = {0, 0, 0};
  instance.birth = {0, 0, 0};
  instance.death = {1, 1, 1};
  instance.first_access = {0, 1, 2, 3};
  instance.access_phase = {0, 0, 0};
  instance.tiers[0].capacity_bytes = 9;
  Schedule schedule;
  schedule.first_change = {0, 1, 2, 3};
  schedule.changes = {{0, kIn}, {0, kIn}, {0, kIn}};
  // Of nine bytes six go to the fast copies, as two blocks or as two parts of each.
  schedule.parts = {{0, 0, 1, kIn, kIn, 0, 2 * kWholePart}, {0, 0, 1, kIn, kIn, 1, kWholePart}};
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, schedule));
  EXPECT_EQ(time.phase_load[0], 6u);
  EXPECT_EQ(time.phase_load[1], 3u);
  schedule.parts[0].part = kWholePart;
  EXPECT_THAT(CheckSchedule(instance, schedule),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("class 0 from state 0 to 0 with 1 accesses in phase 0 sum to 2 + "
                                 "0/1048576 blocks, not 3")));
}

// Three blocks that may be read or computed again; what is computed is whole.
TEST(ScheduleCheckerTest, NoPartOfABlockIsComputedAgain) {
  Instance instance = TwoBlocks();
  for (const StateIndex to : {kIn, kOut}) {
    Option again;
    again.recomputes = 1;
    instance.tables[0].Add(1, kIn, to, again);
  }
  instance.classes = {{3, 7, 0, 3}};
  instance.block_class = {0, 0, 0};
  instance.birth = {0, 0, 0};
  instance.death = {1, 1, 1};
  instance.first_access = {0, 1, 2, 3};
  instance.access_phase = {0, 0, 0};
  instance.tiers[0].capacity_bytes = 9;
  ASSERT_THAT(Check(instance), IsOk());
  Schedule schedule;
  schedule.first_change = {0, 1, 2, 3};
  schedule.changes = {{0, kIn}, {0, kIn}, {0, kIn}};
  // One is computed, in a second; the other two are read from here and there.
  schedule.parts = {{0, 0, 1, kIn, kIn, 0, kWholePart + kWholePart / 3},
                    {0, 0, 1, kIn, kIn, 1, kWholePart - kWholePart / 3},
                    {0, 0, 1, kIn, kIn, 2, kWholePart}};
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, schedule));
  EXPECT_EQ(time.phase_load[2], 7u + instance.base_load[2]);
  schedule.parts[0].part -= 1;
  schedule.parts[2].part += 1;
  EXPECT_THAT(CheckSchedule(instance, schedule),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("phase 0 1 + 1048575/1048576 blocks are computed 0 times")));
  schedule.parts = {{0, 0, 1, kIn, kIn, 2, 3 * kWholePart / 2},
                    {0, 0, 1, kIn, kIn, 0, 3 * kWholePart / 2}};
  EXPECT_THAT(CheckSchedule(instance, schedule),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("are computed 0 times, and a block is as a whole")));
}

TEST(ScheduleCheckerTest, RecomputationLoadsTheProcessor) {
  Instance instance;
  instance.tiers = {{"memory", 1}};
  instance.resources = {{"processor", 1'000'000'000'000}};
  instance.compute_resource = 0;
  OptionTable table({0}, 2);
  for (uint16_t accesses = 0; accesses <= 2; ++accesses) {
    Option option;
    option.recomputes = accesses;
    table.Add(accesses, 0, 0, option);
  }
  instance.tables = {table};
  instance.classes = {{1, 21, 0, 1}};
  instance.phase_count = 2;
  instance.base_load = {4, 0};
  instance.block_class = {0};
  instance.birth = {0};
  instance.death = {2};
  instance.first_access = {0, 3};
  instance.access_phase = {0, 1, 1};
  ASSERT_THAT(Check(instance), IsOk());
  Schedule schedule;
  schedule.first_change = {0, 1};
  schedule.changes = {{0, 0}};
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, schedule));
  EXPECT_EQ(time.phase_picoseconds, (std::vector<uint64_t>{25, 42}));
}

struct Breach {
  std::string what;  // its message has
  std::function<void(Schedule&)> break_it;
};

TEST(ScheduleCheckerTest, EachImpossibleScheduleIsRefusedByName) {
  Instance instance = TwoBlocks();
  const std::vector<Breach> breaches = {
      {"not one of 2 blocks", [](Schedule& s) { s.first_change.pop_back(); }},
      {"not one of 2 blocks",
       [](Schedule& s) {
         s.changes.push_back({3, kOut});
       }},
      {"block 0 has no state", [](Schedule& s) { s.first_change[1] = 0; }},
      {"block 1 has no state", [](Schedule& s) { s.first_change[1] = 3; }},
      {"block 0 has its first state in phase 1", [](Schedule& s) { s.changes[0].phase = 1; }},
      {"block 1 has its first state in phase 0", [](Schedule& s) { s.changes[1].phase = 0; }},
      {"block 0 is in state 2 of 2", [](Schedule& s) { s.changes[0].state = 2; }},
      {"block 1 changes state in phase 4 and dies in 4",
       [](Schedule& s) { s.changes[2].phase = 4; }},
      {"block 1 changes state in phase 1, not behind 1",
       [](Schedule& s) { s.changes[2].phase = 1; }},
      {"block 1 may not start in state 0", [](Schedule& s) { s.changes[1].state = kIn; }},
      {"part 0 names phase 4 of 4",
       [](Schedule& s) {
         s.parts = {{4, 0, 1, kIn, kIn, 0, kWholePart}};
       }},
      {"class 2 of 2",
       [](Schedule& s) {
         s.parts = {{0, 2, 1, kIn, kIn, 0, kWholePart}};
       }},
      {"part 0 names option 2 of class 0 from state 0 to 0 with 1 accesses in phase 2: none",
       [](Schedule& s) {
         s.parts = {{2, 0, 1, kIn, kIn, 2, kWholePart}};
       }},
      {"with 2 accesses",
       [](Schedule& s) {
         s.parts = {{2, 0, 2, kIn, kIn, 0, kWholePart}};
       }},
      {"from state 2",
       [](Schedule& s) {
         s.parts = {{2, 0, 1, 2, kIn, 0, kWholePart}};
       }},
      {"sum to 0 + 1048575/1048576 blocks, not 1",
       [](Schedule& s) {
         s.parts = {{2, 0, 1, kIn, kIn, 0, kWholePart - 1}};
       }},
      {"sum to 2 + 0/1048576 blocks, not 1",
       [](Schedule& s) {
         s.parts = {{2, 0, 1, kIn, kIn, 0, 2 * kWholePart}};
       }},
      {"sum to 1 + 0/1048576 blocks, not 0",
       [](Schedule& s) {
         s.parts = {{0, 1, 1, kIn, kOut, 1, kWholePart}};
       }},
      {"two parts for option 0",
       [](Schedule& s) {
         s.parts = {{2, 0, 1, kIn, kIn, 0, kWholePart / 2}, {2, 0, 1, kIn, kIn, 0, kWholePart / 2}};
       }},
      {"part 1 is of phase 0, behind one of phase 2",
       [](Schedule& s) {
         s.parts = {{2, 0, 1, kIn, kIn, 0, kWholePart}, {0, 0, 1, kIn, kIn, 0, kWholePart}};
       }},
  };
  for (const Breach& breach : breaches) {
    Schedule schedule = Good();
    breach.break_it(schedule);
    EXPECT_THAT(CheckSchedule(instance, schedule),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(breach.what)));
  }
}

TEST(ScheduleCheckerTest, RoomIsCheckedAtEachPhasesStart) {
  Instance instance = TwoBlocks();
  instance.tiers[0].capacity_bytes = 7;
  EXPECT_THAT(CheckSchedule(instance, Good()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("8 bytes in tier fast at the start of phase 2, and it has 7")));
  // Out in time, it is not there when the other comes; and what is dead occupies nothing.
  Schedule schedule = Good();
  schedule.first_change = {0, 2, 4};
  schedule.changes = {{0, kIn}, {2, kOut}, {1, kOut}, {2, kIn}};
  EXPECT_THAT(CheckSchedule(instance, schedule), IsOk());
  instance.death[0] = 2;
  instance.first_access = {0, 1, 3};
  instance.access_phase = {0, 1, 3};
  EXPECT_THAT(CheckSchedule(instance, Good()), IsOk());
}

TEST(ScheduleCheckerTest, TransitionsWithoutOptionsAreRefused) {
  Instance instance = TwoBlocks();
  OptionTable strict({3, 2}, 1);
  strict.Add(0, kIn, kIn, {});
  strict.Add(0, kIn, kOut, {});
  strict.Add(0, kOut, kIn, {});
  strict.Add(0, kOut, kOut, {});
  strict.Add(1, kIn, kIn, {});
  instance.tables = {strict};
  EXPECT_THAT(
      CheckSchedule(instance, Good()),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("block 1 in phase 1 cannot go from state 1 to 0 with 1 accesses")));
  // A state in which nothing can stay.
  OptionTable fleeting({3, 2}, 1);
  for (const StateIndex to : {kIn, kOut}) {
    for (size_t accesses : {0, 1}) fleeting.Add(accesses, kIn, to, {});
    fleeting.Add(1, kOut, to, {});
  }
  fleeting.Add(0, kOut, kIn, {});
  instance.tables = {fleeting};
  Schedule schedule = Good();
  EXPECT_THAT(CheckSchedule(instance, schedule), IsOk());
  schedule.changes = {{0, kOut}, {1, kOut}, {2, kIn}};
  EXPECT_THAT(
      CheckSchedule(instance, schedule),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("block 0 in phase 1 cannot go from state 1 to 1 with 0 accesses")));
}

TEST(ScheduleCheckerTest, StayingMayCost) {
  Instance instance = TwoBlocks();
  OptionTable table = instance.tables[0];
  OptionTable costly({3, 2}, 1);
  for (const StateIndex from : {kIn, kOut}) {
    for (const StateIndex to : {kIn, kOut}) {
      for (const size_t accesses : {0, 1}) {
        if (accesses == 0 && from == kIn && to == kIn) {
          Option refresh;
          refresh.per_byte[0] = 2;
          costly.Add(0, kIn, kIn, refresh);
          continue;
        }
        for (const Option& option : table.Options(accesses, from, to)) {
          costly.Add(accesses, from, to, option);
        }
      }
    }
  }
  instance.tables = {costly};
  ASSERT_OK_AND_ASSIGN(const ScheduleTime time, CheckSchedule(instance, Good()));
  // Block 0 stays in phases 1 and 3, block 1 reads in 1 and 3 and does not stay idle before.
  EXPECT_EQ(time.phase_load[3], 5u + 6);
  EXPECT_EQ(time.phase_load[9], 5u + 6);
}

TEST(ScheduleCheckerTest, HugeNumbersAreRefusedAndNotWrapped) {
  Instance instance = TwoBlocks();
  instance.resources[1].units_per_second = 1;
  instance.base_load[1] = kUnitsMax;
  EXPECT_THAT(CheckSchedule(instance, Good()), StatusIs(absl::StatusCode::kInvalidArgument,
                                                        HasSubstr("2^63 picoseconds by phase 0")));
}

}  // namespace
}  // namespace kvtier::bound
