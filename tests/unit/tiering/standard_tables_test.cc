// Proves that the tables built by closure are the ones that hold for the usual machines, that they
// leave out nothing that a sequence of operations can do, and that bad specs are refused.
#include "tiering/bound/standard_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/bound/option_hull.h"

namespace kvtier::bound {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr uint8_t kH = 0, kD = 1, kP = 2;  // resources: memories
constexpr TierSet kInH = 1, kInD = 2, kInP = 4;

// Loads of single units for each resource named.
Option Loads(std::vector<std::pair<uint8_t, uint16_t>> counts, uint16_t recomputes = 0) {
  Option option;
  for (const auto& [resource, count] : counts) option.per_byte[resource] = count;
  option.recomputes = recomputes;
  return option;
}

std::vector<Option> List(const OptionTable& table, size_t accesses, StateIndex from,
                         StateIndex to) {
  const absl::Span<const Option> options = table.Options(accesses, from, to);
  return {options.begin(), options.end()};
}

// The GPU's memory and DRAM, with memories as the only loads.
TableSpec Memories() {
  return {.tiers = {{.memory = kH, .on_gpu = true}, {.memory = kD}}, .states = {kInH, kInD}};
}

OptionTable Made(const TableSpec& spec) {
  absl::StatusOr<OptionTable> table = MakeTable(spec);
  EXPECT_TRUE(table.ok()) << table.status();
  return *std::move(table);
}

TEST(StandardTables, Inclusive) {
  TableSpec spec = Memories();
  spec.states = {kInH | kInD, kInD};
  const OptionTable table = Made(spec);
  const Option nothing, h = Loads({{kH, 1}}), d = Loads({{kD, 1}}),
                        both = Loads({{kH, 1}, {kD, 1}});
  EXPECT_THAT(List(table, 0, 1, 1), UnorderedElementsAre(nothing));
  EXPECT_THAT(List(table, 0, 1, 0), UnorderedElementsAre(both));
  EXPECT_THAT(List(table, 0, 0, 0), UnorderedElementsAre(nothing));
  EXPECT_THAT(List(table, 0, 0, 1), UnorderedElementsAre(nothing));
  EXPECT_THAT(List(table, 1, 1, 1), UnorderedElementsAre(d));
  // The read that serves the access serves the promotion as well.
  EXPECT_THAT(List(table, 1, 1, 0), UnorderedElementsAre(both));
  EXPECT_THAT(List(table, 1, 0, 0), UnorderedElementsAre(h, d));
  EXPECT_THAT(List(table, 1, 0, 1), UnorderedElementsAre(h, d));
}

TEST(StandardTables, Exclusive) {
  const OptionTable table = Made(Memories());
  const Option both = Loads({{kH, 1}, {kD, 1}});
  EXPECT_THAT(List(table, 0, 0, 1), UnorderedElementsAre(both));
  EXPECT_THAT(List(table, 0, 1, 0), UnorderedElementsAre(both));
  EXPECT_THAT(List(table, 1, 0, 1), UnorderedElementsAre(both));
  EXPECT_THAT(List(table, 1, 1, 0), UnorderedElementsAre(both));
  EXPECT_THAT(List(table, 1, 0, 0), UnorderedElementsAre(Loads({{kH, 1}})));
  EXPECT_THAT(List(table, 1, 1, 1), UnorderedElementsAre(Loads({{kD, 1}})));
}

TEST(StandardTables, SeveralAccessesInAPhase) {
  TableSpec spec = Memories();
  spec.states = {kInH | kInD, kInD};
  spec.accesses_max = 4;
  const OptionTable table = Made(spec);
  // {D: j, H: 1 + 4 - j} for j of 1 to 4, and its ends say all that a minimum can be.
  EXPECT_THAT(List(table, 4, 1, 0),
              UnorderedElementsAre(Loads({{kD, 1}, {kH, 4}}), Loads({{kD, 4}, {kH, 1}})));
  EXPECT_THAT(List(table, 4, 1, 1),
              UnorderedElementsAre(Loads({{kD, 4}}), Loads({{kD, 1}, {kH, 4}})));
  EXPECT_THAT(List(table, 4, 0, 0), UnorderedElementsAre(Loads({{kH, 4}}), Loads({{kD, 4}})));
}

TEST(StandardTables, ThreeTiersWithBacking) {
  const TableSpec spec{.tiers = {{.memory = kH, .on_gpu = true}, {.memory = kD}, {.memory = kP}},
                       .states = {kInH | kInD, kInP | kInD, kInD}};
  const OptionTable table = Made(spec);
  const Option h = Loads({{kH, 1}}), d = Loads({{kD, 1}}), p = Loads({{kP, 1}});
  EXPECT_THAT(List(table, 1, 0, 0), UnorderedElementsAre(h, d));
  EXPECT_THAT(List(table, 1, 1, 1), UnorderedElementsAre(p, d));
  EXPECT_THAT(List(table, 1, 2, 2), UnorderedElementsAre(d));
  EXPECT_THAT(List(table, 0, 2, 0), UnorderedElementsAre(Loads({{kH, 1}, {kD, 1}})));
  EXPECT_THAT(List(table, 0, 2, 1), UnorderedElementsAre(Loads({{kP, 1}, {kD, 1}})));
  // A promotion reads any tier that has a copy.
  EXPECT_THAT(List(table, 0, 1, 0),
              UnorderedElementsAre(Loads({{kH, 1}, {kD, 1}}), Loads({{kH, 1}, {kP, 1}})));
  EXPECT_THAT(List(table, 0, 0, 2), UnorderedElementsAre(Option{}));
}

TEST(StandardTables, LinksHaveDirections) {
  constexpr uint8_t kIn = 3, kOut = 4;
  TableSpec spec = Memories();
  spec.tiers[1].link_in = kIn;
  spec.tiers[1].link_out = kOut;
  const OptionTable table = Made(spec);
  EXPECT_THAT(List(table, 1, 1, 1), UnorderedElementsAre(Loads({{kD, 1}, {kIn, 1}})));
  EXPECT_THAT(List(table, 0, 1, 0), UnorderedElementsAre(Loads({{kD, 1}, {kIn, 1}, {kH, 1}})));
  EXPECT_THAT(List(table, 0, 0, 1), UnorderedElementsAre(Loads({{kD, 1}, {kOut, 1}, {kH, 1}})));
}

TEST(StandardTables, TwoLinkedTiersCopyOverAPathThatIsNotKnown) {
  const TableSpec spec{.tiers = {{.memory = kD, .link_in = 3, .link_out = 4},
                                 {.memory = kP, .link_in = 5, .link_out = 6}},
                       .states = {1, 2}};
  EXPECT_THAT(List(Made(spec), 0, 0, 1), UnorderedElementsAre(Loads({{kD, 1}, {kP, 1}})));
}

TEST(StandardTables, Stream) {
  constexpr uint8_t kLink = 0;
  const TableSpec spec{.tiers = {{.on_gpu = true}, {.link_in = kLink}},
                       .states = {kInH | kInD, kInD}};
  const OptionTable table = Made(spec);
  const Option nothing, link = Loads({{kLink, 1}});
  EXPECT_THAT(List(table, 1, 1, 1), UnorderedElementsAre(link));
  EXPECT_THAT(List(table, 1, 1, 0), UnorderedElementsAre(link));
  EXPECT_THAT(List(table, 0, 1, 0), UnorderedElementsAre(link));
  EXPECT_THAT(List(table, 1, 0, 0), UnorderedElementsAre(nothing));
  EXPECT_THAT(List(table, 1, 0, 1), UnorderedElementsAre(nothing));
}

TEST(StandardTables, StrictReadsOnlyWhatWasThereBefore) {
  constexpr uint8_t kLink = 0;
  const TableSpec spec{.tiers = {{.on_gpu = true}, {.link_in = kLink, .serves_reads = false}},
                       .states = {kInH | kInD, kInD},
                       .strict = true};
  const OptionTable table = Made(spec);
  EXPECT_TRUE(table.Options(1, 1, 0).empty());
  EXPECT_TRUE(table.Options(1, 1, 1).empty());
  EXPECT_THAT(List(table, 0, 1, 0), UnorderedElementsAre(Loads({{kLink, 1}})));
  EXPECT_THAT(List(table, 1, 0, 0), UnorderedElementsAre(Option{}));
  EXPECT_THAT(List(table, 1, 0, 1), UnorderedElementsAre(Option{}));
}

TEST(StandardTables, RecomputedBlocksCanBeStored) {
  const TableSpec spec{.tiers = {{.memory = kD, .link_in = 3, .link_out = 4}},
                       .states = {1, 0},
                       .accesses_max = 2,
                       .recompute = true};
  const OptionTable table = Made(spec);
  const Option read = Loads({{kD, 1}, {3, 1}});
  EXPECT_THAT(List(table, 1, 1, 1), UnorderedElementsAre(Loads({}, 1)));
  EXPECT_THAT(List(table, 1, 1, 0), UnorderedElementsAre(Loads({{kD, 1}, {4, 1}}, 1)));
  EXPECT_THAT(List(table, 1, 0, 0), UnorderedElementsAre(read, Loads({}, 1)));
  EXPECT_THAT(List(table, 0, 0, 1), UnorderedElementsAre(Option{}));
  EXPECT_THAT(List(table, 0, 1, 0), IsEmpty()) << "computed though nothing reads it";
  EXPECT_THAT(List(table, 2, 1, 0), UnorderedElementsAre(Loads({{kD, 1}, {4, 1}}, 2),
                                                         Loads({{kD, 2}, {3, 1}, {4, 1}}, 1)));
}

// Between two tiers beside the GPU, of which each has links of its own or both have the same.
TEST(StandardTables, CopiesBesideTheGpu) {
  for (const uint8_t second : {uint8_t{5}, uint8_t{3}}) {
    TableSpec spec{.tiers = {{.memory = kD, .link_in = 3, .link_out = 4},
                             {.memory = kP, .link_in = second, .link_out = 6}},
                   .states = {kInH, kInD}};
    EXPECT_THAT(List(Made(spec), 0, 0, 1), UnorderedElementsAre(Loads({{kD, 1}, {kP, 1}})));
    spec.far_copies_through_gpu = true;
    EXPECT_THAT(List(Made(spec), 0, 0, 1),
                UnorderedElementsAre(Loads({{kD, 1}, {3, 1}, {kP, 1}, {6, 1}})));
    EXPECT_THAT(List(Made(spec), 0, 1, 0),
                UnorderedElementsAre(Loads({{kP, 1}, {second, 1}, {kD, 1}, {4, 1}})));
    // What is read on the way is not read again.
    EXPECT_THAT(List(Made(spec), 1, 0, 1),
                UnorderedElementsAre(Loads({{kD, 1}, {3, 1}, {kP, 1}, {6, 1}})));
  }
}

// What a test does to a block in a phase, with rules of its own.
struct Walk {
  TierSet copies;
  TierSet at_start;
  bool in_hand = false;
  size_t served = 0;
  Option load{};
};

void Load(Walk& walk, uint8_t resource) {
  if (resource != kNoResource) ++walk.load.per_byte[resource];
}

// One random operation that is possible; none if the dice name one that is not.
void Operate(const TableSpec& spec, Rng& rng, Walk& walk) {
  const size_t i = rng.Below(spec.tiers.size()), j = rng.Below(spec.tiers.size());
  const auto bit = [](size_t tier) { return static_cast<TierSet>(1u << tier); };
  const bool has = (walk.copies & bit(i)) != 0;
  switch (rng.Below(5)) {
    case 0:
      if (!has) return;
      Load(walk, spec.tiers[i].memory);
      Load(walk, spec.tiers[i].link_in);
      walk.in_hand = true;
      if (walk.served < spec.accesses_max && spec.tiers[i].serves_reads &&
          (!spec.strict || (walk.at_start & bit(i)) != 0) && !rng.OneIn(4))
        ++walk.served;
      return;
    case 1:
      if (!spec.recompute) return;
      ++walk.load.recomputes;
      walk.in_hand = true;
      if (walk.served < spec.accesses_max && !rng.OneIn(4)) ++walk.served;
      return;
    case 2:
      if (!walk.in_hand) return;
      Load(walk, spec.tiers[i].memory);
      Load(walk, spec.tiers[i].link_out);
      walk.copies |= bit(i);
      return;
    case 3:
      if (!has || i == j) return;
      Load(walk, spec.tiers[i].memory);
      Load(walk, spec.tiers[j].memory);
      if (spec.tiers[j].on_gpu) Load(walk, spec.tiers[i].link_in);
      if (spec.tiers[i].on_gpu) Load(walk, spec.tiers[j].link_out);
      if (spec.far_copies_through_gpu && !spec.tiers[i].on_gpu && !spec.tiers[j].on_gpu) {
        Load(walk, spec.tiers[i].link_in);
        Load(walk, spec.tiers[j].link_out);
      }
      walk.copies |= bit(j);
      return;
    default:
      if (has) walk.copies &= static_cast<TierSet>(~bit(i));
  }
}

bool NowhereAbove(const Option& a, const Option& b) {
  for (size_t r = 0; r < kResourcesMax; ++r) {
    if (a.per_byte[r] > b.per_byte[r]) return false;
  }
  return a.recomputes <= b.recomputes;
}

double Cost(const Option& option, const std::vector<double>& prices) {
  double cost = option.recomputes * prices.back();
  for (size_t r = 0; r < kResourcesMax; ++r) cost += option.per_byte[r] * prices[r];
  return cost;
}

// A mix of the list is nowhere above `load` exactly if at all prices the list's minimum is not
// above its cost; many prices are tried unless one option does it alone.
void ExpectCovered(absl::Span<const Option> list, const Option& load, Rng& rng) {
  for (const Option& option : list) {
    if (NowhereAbove(option, load)) return;
  }
  ASSERT_FALSE(list.empty());
  std::vector<double> prices(kResourcesMax + 1);
  for (int trial = 0; trial < 200; ++trial) {
    for (double& price : prices) price = rng.OneIn(2) ? 0 : rng.Unit();
    double least = Cost(list[0], prices);
    for (const Option& option : list) least = std::min(least, Cost(option, prices));
    ASSERT_LE(least, Cost(load, prices) + 1e-9);
  }
}

TableSpec RandomSpec(Rng& rng) {
  TableSpec spec;
  const size_t tiers = 1 + rng.Below(3);
  uint8_t resource = 0;
  for (size_t i = 0; i < tiers; ++i) {
    TierPorts ports{.on_gpu = i == 0 && rng.OneIn(2), .serves_reads = !rng.OneIn(4)};
    if (!rng.OneIn(4)) ports.memory = resource++;
    if (!ports.on_gpu && !rng.OneIn(3)) {
      ports.link_in = resource++;
      ports.link_out = rng.OneIn(3) ? ports.link_in : resource++;
    }
    spec.tiers.push_back(ports);
  }
  for (TierSet set = 0; set < 1u << tiers; ++set) {
    if (spec.states.size() < kStatesMax && (rng.OneIn(2) || set == 1)) spec.states.push_back(set);
  }
  spec.accesses_max = rng.Below(4);
  spec.recompute = rng.OneIn(2);
  spec.strict = !spec.recompute && rng.OneIn(3);
  spec.far_copies_through_gpu = rng.OneIn(2);
  return spec;
}

TEST(StandardTables, NoSequenceOfOperationsIsCheaper) {
  Rng rng(test_support::TestSeed(41));
  size_t compared = 0;
  for (int round = 0; round < 300; ++round) {
    const TableSpec spec = RandomSpec(rng);
    const OptionTable table = Made(spec);
    for (int trial = 0; trial < 200; ++trial) {
      const auto from = static_cast<StateIndex>(rng.Below(spec.states.size()));
      Walk walk{.copies = spec.states[from], .at_start = spec.states[from]};
      const uint64_t operations = rng.Below(9);
      for (uint64_t i = 0; i < operations; ++i) Operate(spec, rng, walk);
      const auto to = std::find(spec.states.begin(), spec.states.end(), walk.copies);
      if (to == spec.states.end()) continue;
      if (walk.served == 0 && walk.load.recomputes > 0) continue;  // only accesses have any
      ++compared;
      ExpectCovered(
          table.Options(walk.served, from, static_cast<StateIndex>(to - spec.states.begin())),
          walk.load, rng);
      ASSERT_FALSE(HasFatalFailure());
    }
  }
  EXPECT_GT(compared, 10'000u);
}

TEST(OptionHull, KeepsWhatCanBeAMinimum) {
  const Option corner_h = Loads({{kH, 2}}), corner_d = Loads({{kD, 2}}),
               corner_p = Loads({{kP, 2}});
  const Option middle = Loads({{kH, 1}, {kD, 1}}), inner = Loads({{kH, 1}, {kD, 1}, {kP, 1}});
  EXPECT_THAT(LowerHull({corner_h, middle, corner_d, inner, corner_p, corner_h}),
              UnorderedElementsAre(corner_h, corner_d, corner_p));
  const Option bent = Loads({{kH, 1}}), far = Loads({{kD, 3}});
  EXPECT_THAT(LowerHull({corner_h, bent, far}), UnorderedElementsAre(bent, far));
  // Just under the line between two others.
  const Option left = Loads({{kH, 4}}), right = Loads({{kD, 4}}), under = Loads({{kH, 2}, {kD, 1}});
  EXPECT_THAT(LowerHull({left, under, right}), UnorderedElementsAre(left, under, right));
}

TEST(StandardTables, BadSpecsAreRefused) {
  const auto why = [](const TableSpec& spec) {
    return std::string(MakeTable(spec).status().message());
  };
  TableSpec spec = Memories();
  spec.states.push_back(kInP);
  EXPECT_THAT(why(spec), HasSubstr("state 2 is tier set 4, and there are 2 tiers"));
  spec.states = {kInH, kInH};
  EXPECT_THAT(why(spec), HasSubstr("a second time"));
  spec.states = {};
  EXPECT_THAT(why(spec), HasSubstr("0 states"));
  spec = Memories();
  spec.tiers.resize(kTiersMax + 1);
  EXPECT_THAT(why(spec), HasSubstr("5 tiers"));
  spec = Memories();
  spec.tiers[0].memory = kResourcesMax;
  EXPECT_THAT(why(spec), HasSubstr("resource 16"));
  spec = Memories();
  spec.accesses_max = kAccessesMax + 1;
  EXPECT_THAT(why(spec), HasSubstr("the limit is 1024"));
  spec = Memories();
  spec.strict = spec.recompute = true;
  EXPECT_THAT(why(spec), HasSubstr("strict"));
}

}  // namespace
}  // namespace kvtier::bound
