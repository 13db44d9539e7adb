// Proves that Check finds each thing that makes a placement problem none, naming object, number and
// limit, that files of instances which are damaged or lie about their size are refused, and which
// resources a problem's blocks can load.
#include "tiering/bound/instance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>

#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/bound/instance_file.h"
#include "tiering/bound/resource_use.h"
#include "tiering/bound/standard_tables.h"

namespace kvtier::bound {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using ::testing::HasSubstr;

// Two blocks over six phases, on the GPU or in DRAM; the second lives in phases 1 to 4.
Instance Small() {
  Instance instance;
  instance.tiers = {{.name = "hbm", .capacity_bytes = 10}, {.name = "dram", .capacity_bytes = 20}};
  instance.resources = {{.name = "hbm port", .units_per_second = 8},
                        {.name = "dram port", .units_per_second = 2},
                        {.name = "flops", .units_per_second = 5}};
  instance.compute_resource = 2;
  instance.tables = {*MakeTable({.tiers = {{.memory = 0, .on_gpu = true}, {.memory = 1}},
                                 .states = {0b01, 0b10},
                                 .accesses_max = 2})};
  instance.classes = {{.bytes = 4, .recompute_units = 3, .table = 0, .start_states = 0b11}};
  instance.phase_count = 6;
  instance.base_load.assign(18, 1);
  instance.block_class = {0, 0};
  instance.birth = {0, 1};
  instance.death = {6, 5};
  instance.access_phase = {0, 2, 2, 5, 1, 4};
  instance.first_access = {0, 4, 6};
  return instance;
}

void ExpectBad(const std::function<void(Instance&)>& change, std::string_view why) {
  Instance instance = Small();
  change(instance);
  EXPECT_THAT(Check(instance),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(std::string(why))));
}

TEST(CheckInstance, TakesAProblem) { EXPECT_THAT(Check(Small()), IsOk()); }

TEST(CheckInstance, Machine) {
  ExpectBad([](Instance& i) { i.tiers.clear(); }, "0 tiers; there can be 1 to 4");
  ExpectBad([](Instance& i) { i.tiers.resize(5); }, "5 tiers");
  ExpectBad([](Instance& i) { i.tiers[1].capacity_bytes = kUnitsMax + 1; },
            "tier dram has a capacity of 4611686018427387905 bytes; the limit is");
  ExpectBad([](Instance& i) { i.tiers[1].name.assign(300, 'x'); }, "300 bytes; the limit is 256");
  ExpectBad([](Instance& i) { i.resources.clear(); }, "0 resources");
  ExpectBad([](Instance& i) { i.resources[1].units_per_second = 0; },
            "resource dram port has a rate of 0");
  ExpectBad([](Instance& i) { i.resources[2].name.assign(300, 'x'); }, "the limit is 256");
  ExpectBad([](Instance& i) { i.compute_resource = 3; }, "the compute resource is number 3 of 3");
}

TEST(CheckInstance, Tables) {
  ExpectBad([](Instance& i) { i.tables.clear(); }, "0 tables");
  ExpectBad([](Instance& i) { i.tables[0] = OptionTable(); }, "table 0 has 0 states");
  ExpectBad(
      [](Instance& i) {
        i.tables[0] = OptionTable({1, 4}, 1);
      },
      "state 1 of table 0 is tier set 4, and there are 2 tiers");
  ExpectBad(
      [](Instance& i) {
        i.tables[0] = OptionTable({1, 2, 1}, 1);
      },
      "states 0 and 2 of table 0 are the same");
  ExpectBad([](Instance& i) { i.tables[0] = OptionTable({1}, kAccessesMax + 1); },
            "table 0 is for 1025 accesses");
  Option option;
  option.per_byte[3] = 1;
  ExpectBad([&](Instance& i) { i.tables[0].Add(0, 0, 0, option); },
            "an option of table 0 loads resource 3, and there are 3");
  option = {};
  option.recomputes = 1;
  ExpectBad(
      [&](Instance& i) {
        i.compute_resource = kNoResource;
        i.tables[0].Add(0, 0, 0, option);
      },
      "recomputes, and there is no compute resource");
  ExpectBad([&](Instance& i) { i.tables[0].Add(0, 0, 0, option); },
            "recomputes in phases without access");
  ExpectBad(
      [&](Instance& i) {
        for (size_t n = 0; n < kOptionsMax; ++n) {
          option.recomputes = static_cast<uint16_t>(n + 1);
          i.tables[0].Add(1, 0, 0, option);
        }
      },
      "1025 options; the limit is 1024");
}

TEST(CheckInstance, Classes) {
  ExpectBad([](Instance& i) { i.classes[0].table = 1; }, "class 0 has table 1, and there are 1");
  ExpectBad([](Instance& i) { i.classes[0].bytes = 0; }, "class 0 has 0 bytes");
  ExpectBad([](Instance& i) { i.classes[0].bytes = kBlockUnitsMax; }, "with its table it can have");
  ExpectBad([](Instance& i) { i.classes[0].recompute_units = kBlockUnitsMax; }, "to recompute");
  ExpectBad([](Instance& i) { i.classes[0].start_states = 0; }, "may start in states 0");
  ExpectBad([](Instance& i) { i.classes[0].start_states = 4; }, "its table has 2");
}

// A small file could ask for a day's work.
TEST(CheckInstance, ClassesTimesPhases) {
  constexpr uint32_t kClasses = 1 << 15;
  const auto of_phases = [](uint32_t phases) {
    Instance instance = Small();
    instance.phase_count = phases;
    instance.base_load.assign(size_t{3} * phases, 0);
    instance.classes.assign(kClasses, instance.classes[0]);
    instance.block_class.resize(kClasses);
    std::iota(instance.block_class.begin(), instance.block_class.end(), 0);
    instance.birth.assign(kClasses, 0);
    instance.death.assign(kClasses, phases);
    instance.access_phase.clear();
    instance.first_access.assign(kClasses + 1, 0);
    return Check(instance);
  };
  EXPECT_THAT(of_phases(1 << 15), IsOk());
  EXPECT_THAT(of_phases((1 << 15) + 1),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("32768 classes of blocks are 1073774592 phases in all")));
}

// Names come from files, go to terminals, and are keys in JSON.
TEST(CheckInstance, Names) {
  ExpectBad([](Instance& i) { i.tiers[1].name = "dr\x1b[2Jam"; },
            "the name of tier 1 has the byte 27, a control character");
  ExpectBad([](Instance& i) { i.resources[0].name = "a\n"; },
            "the name of resource 0 has the byte 10");
  ExpectBad([](Instance& i) { i.resources[2].name = "hbm port"; },
            "resources 0 and 2 have the same name, hbm port");
  ExpectBad([](Instance& i) { i.tiers[1].name = "hbm"; }, "tiers 0 and 1 have the same name, hbm");
}

TEST(CheckInstance, Phases) {
  ExpectBad([](Instance& i) { i.phase_count = 0; }, "0 phases");
  ExpectBad([](Instance& i) { i.phase_count = kPhasesMax + 1; }, "phases; there can be 1 to");
  ExpectBad([](Instance& i) { i.base_load.pop_back(); },
            "17 base loads for 6 phases of 3 resources");
  ExpectBad([](Instance& i) { i.base_load[4] = kUnitsMax + 1; },
            "phase 1 loads resource dram port with");
}

TEST(CheckInstance, Blocks) {
  ExpectBad([](Instance& i) { i.block_class[1] = 1; }, "block 1 is of class 1, and there are 1");
  ExpectBad([](Instance& i) { i.birth.pop_back(); }, "2 blocks with 1 births");
  ExpectBad([](Instance& i) { i.first_access = {}; }, "0 places of first accesses");
  ExpectBad([](Instance& i) { i.first_access = {0, 7, 6}; }, "do not ascend from 0 to 6");
  ExpectBad([](Instance& i) { i.first_access = {1, 4, 6}; }, "do not ascend from 0 to 6");
  ExpectBad([](Instance& i) { i.first_access = {0, 4, 5}; }, "do not ascend from 0 to 6");
  ExpectBad([](Instance& i) { i.birth[1] = 5; }, "block 1 lives in phases 5 to 5 of 6");
  ExpectBad([](Instance& i) { i.death[0] = 7; }, "block 0 lives in phases 0 to 7 of 6");
  ExpectBad([](Instance& i) { i.birth[1] = 2; },
            "block 1 is read in phase 1, and lives in phases 2 to 5");
  ExpectBad([](Instance& i) { i.death[1] = 4; }, "block 1 is read in phase 4, and lives in");
  ExpectBad([](Instance& i) { i.access_phase = {0, 2, 1, 5, 1, 4}; },
            "block 0 is read in phase 1 after phase 2");
  ExpectBad([](Instance& i) { i.access_phase = {2, 2, 2, 5, 1, 4}; },
            "block 0 is read 3 times in phase 2; its table has options for 2");
}

TEST(CheckInstance, BytesOfAllBlocks) {
  ExpectBad(
      [](Instance& i) {
        i.tables[0] = OptionTable({1}, 2);
        for (size_t accesses = 0; accesses <= 2; ++accesses) i.tables[0].Add(accesses, 0, 0, {});
        i.classes[0] = {.bytes = kBlockUnitsMax, .table = 0, .start_states = 1};
        i.block_class.assign(5, 0);
        i.birth.assign(5, 0);
        i.death.assign(5, 6);
        i.access_phase.clear();
        i.first_access.assign(6, 0);
      },
      "the first 5 blocks have 5764607523034234880 bytes; the limit is 4611686018427387904");
}

// A table in which nothing leads out of DRAM, and only what is on the GPU can be read.
TEST(CheckInstance, BlocksThatNothingCanServe) {
  OptionTable table({0b01, 0b10}, 2);
  for (size_t accesses = 0; accesses <= 2; ++accesses) table.Add(accesses, 0, 0, {});
  table.Add(0, 1, 1, {});
  Instance instance = Small();
  instance.tables[0] = table;
  EXPECT_THAT(Check(instance), IsOk());
  instance.classes[0].start_states = 0b10;
  EXPECT_THAT(Check(instance), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("block 0 has no state that can serve phase 0")));
  // Nor may the way end before the life does: here the only state cannot be kept.
  instance = Small();
  instance.tables[0] = OptionTable({0b01, 0b10}, 2);
  for (size_t accesses = 1; accesses <= 2; ++accesses) instance.tables[0].Add(accesses, 0, 0, {});
  instance.access_phase = {0, 1, 2, 3, 1, 2};
  instance.birth = {0, 1};
  instance.death = {5, 3};
  EXPECT_THAT(Check(instance),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("block 0 has no state to be in from phase 4 to phase 5")));
  instance.death[0] = 4;
  EXPECT_THAT(Check(instance), IsOk());
}

// Where a block can go with two states that alternate, over gaps of any length.
TEST(CheckInstance, FollowsLongGaps) {
  OptionTable table({0b01, 0b10}, 1);
  table.Add(0, 0, 1, {});
  table.Add(0, 1, 0, {});
  table.Add(1, 0, 0, {});
  Instance instance = Small();
  instance.tables[0] = table;
  instance.classes[0].start_states = 0b01;
  instance.phase_count = 2000;
  instance.base_load.assign(size_t{2000} * 3, 0);
  instance.block_class = {0};
  instance.birth = {0};
  instance.death = {2000};
  instance.first_access = {0, 1};
  for (uint32_t phase = 0; phase < 2000; phase += 37) {
    instance.access_phase = {phase};
    EXPECT_EQ(Check(instance).ok(), phase % 2 == 0) << phase;
  }
}

TEST(InstanceFile, RefusesWhatIsNone) {
  const std::string bytes = InstanceBytes(Small());
  ASSERT_THAT(ReadInstance(bytes), IsOk());
  for (size_t size = 0; size < bytes.size(); ++size)
    ASSERT_FALSE(ReadInstance(std::string_view(bytes).substr(0, size)).ok()) << size;
  EXPECT_THAT(ReadInstance(bytes + "x"), StatusIs(absl::StatusCode::kInvalidArgument,
                                                  HasSubstr("1 bytes more than there should be")));
  std::string changed = bytes;
  changed[3] = 'x';
  EXPECT_THAT(ReadInstance(changed),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at byte 0")));
  changed = bytes;
  changed[8] = 9;
  EXPECT_THAT(ReadInstance(changed),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("version 9")));
}

// Counts that the file's size does not justify are refused before memory is taken for them: all
// that follow are below the limits of Check.
TEST(InstanceFile, RefusesCountsThatItsSizeDoesNotJustify) {
  const std::string bytes = InstanceBytes(Small());
  const auto with = [&](size_t at, auto value) {
    std::string changed = bytes;
    std::memcpy(changed.data() + at, &value, sizeof(value));
    return ReadInstance(changed).status();
  };
  EXPECT_THAT(with(28, uint32_t{1u << 30}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("of classes cannot be in")));
  EXPECT_THAT(with(32, uint32_t{1u << 30}), StatusIs(absl::StatusCode::kInvalidArgument,
                                                     HasSubstr("of base loads cannot be in")));
  EXPECT_THAT(with(36, uint64_t{1} << 30), StatusIs(absl::StatusCode::kInvalidArgument,
                                                    HasSubstr("of blocks' classes cannot be in")));
  EXPECT_THAT(with(44, ~uint64_t{0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("of accesses cannot be in")));
}

// Whatever is read is what was written: a changed byte gives another instance or none.
TEST(InstanceFile, EveryByteCounts) {
  Rng rng(test_support::TestSeed(3));
  const std::string bytes = InstanceBytes(Small());
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ (1 << rng.Below(8)));
    const absl::StatusOr<Instance> instance = ReadInstance(changed);
    if (!instance.ok()) continue;
    EXPECT_EQ(InstanceBytes(*instance), changed) << at;
  }
}

TEST(ResourceUse, IsOfAllTables) {
  Instance instance = Small();
  ResourceUse use = UseOf(instance);
  EXPECT_TRUE(use.loaded[0] && use.loaded[1]);
  EXPECT_FALSE(use.loaded[2] || use.recomputes);
  OptionTable more({0b01, 0b10}, 1);
  Option option;
  option.per_byte[2] = 1;
  more.Add(1, 1, 0, option);
  instance.tables.push_back(more);
  use = UseOf(instance);
  EXPECT_TRUE(use.loaded[2]) << "the last resource of the last table";
  EXPECT_FALSE(use.recomputes);
  option.recomputes = 1;
  instance.tables[1].Add(1, 1, 1, option);
  EXPECT_TRUE(UseOf(instance).recomputes);
}

}  // namespace
}  // namespace kvtier::bound
