// Proves that bounds which are wrong by a little are found out: each of four mistakes makes a
// number above the best schedule's time, and the verifier refuses it for the problem as it really
// is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "tests/support/bound/brute_force.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/status_matchers.h"
#include "tiering/base/rng.h"
#include "tiering/bound/instance_file.h"
#include "tiering/bound/price_rounding.h"
#include "tiering/bound/standard_tables.h"
#include "tiering/bound/verifier.h"

namespace kvtier::bound {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using ::testing::HasSubstr;

constexpr StateIndex kBoth = 0, kDramOnly = 1;

// One block of three bytes that DRAM keeps and HBM may hold, read in each of `phases` phases.
Instance OneBlock(uint32_t phases, StateSet start_states) {
  Instance instance;
  instance.tiers = {{.name = "hbm", .capacity_bytes = 3}, {.name = "dram", .capacity_bytes = 3}};
  instance.resources = {{.name = "hbm", .units_per_second = 2},
                        {.name = "dram", .units_per_second = 1}};
  instance.tables = {*MakeTable(
      {.tiers = {{.memory = 0, .on_gpu = true}, {.memory = 1}}, .states = {0b11, 0b10}})};
  instance.classes = {{.bytes = 3, .table = 0, .start_states = start_states}};
  instance.phase_count = phases;
  instance.base_load.resize(size_t{phases} * 2);
  instance.block_class = {0};
  instance.birth = {0};
  instance.death = {phases};
  for (uint32_t phase = 0; phase < phases; ++phase) instance.access_phase.push_back(phase);
  instance.first_access = {0, phases};
  EXPECT_THAT(Check(instance), IsOk());
  return instance;
}

// The table with one list replaced.
OptionTable With(const OptionTable& table, size_t accesses, StateIndex from, StateIndex to,
                 const Option& only) {
  OptionTable changed(table.states(), table.accesses_max());
  for (size_t a = 0; a <= table.accesses_max(); ++a) {
    for (StateIndex f = 0; f < table.state_count(); ++f) {
      for (StateIndex t = 0; t < table.state_count(); ++t) {
        if (a == accesses && f == from && t == to) {
          changed.Add(a, f, t, only);
          continue;
        }
        for (const Option& option : table.Options(a, f, t)) changed.Add(a, f, t, option);
      }
    }
  }
  return changed;
}

// `wrong` is what somebody took the problem `right` for.
void ExpectFoundOut(const Instance& right, const Instance& wrong) {
  Rng rng(5);
  const Prices prices = test_support::SearchPrices(wrong, 4000, rng);
  absl::StatusOr<Certificate> certificate = Certify(wrong, prices);
  ASSERT_THAT(certificate, IsOk());
  const double least = test_support::LeastSeconds(right);
  EXPECT_GT(SecondsOf(certificate->claimed_quanta, certificate->quanta_per_second), least * 1.01)
      << "all placements do not find it out";
  EXPECT_THAT(VerifiedSeconds(right, *certificate),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another instance")));
  certificate->instance_digest = InstanceDigest(right);
  EXPECT_THAT(VerifiedSeconds(right, *certificate),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("prices prove")));
  // Done rightly, the bound holds.
  certificate = Certify(right, test_support::SearchPrices(right, 4000, rng));
  ASSERT_THAT(certificate, IsOk());
  const absl::StatusOr<double> seconds = VerifiedSeconds(right, *certificate);
  ASSERT_THAT(seconds, IsOk());
  EXPECT_LE(*seconds, least);
  EXPECT_GT(*seconds, 0);
}

TEST(WrongBound, ADroppedOption) {
  // Either copy may be read, and both at once are faster than one.
  const Instance right = OneBlock(2, 1 << kBoth);
  Instance wrong = right;
  Option from_hbm;
  from_hbm.per_byte[0] = 1;
  for (const StateIndex to : {kBoth, kDramOnly})
    wrong.tables[0] = With(wrong.tables[0], 1, kBoth, to, from_hbm);
  ExpectFoundOut(right, wrong);
}

TEST(WrongBound, AnOverchargedPromotion) {
  // The read that serves the access serves the promotion as well.
  const Instance right = OneBlock(3, 1 << kDramOnly);
  Instance wrong = right;
  Option read_twice;
  read_twice.per_byte[0] = 1;
  read_twice.per_byte[1] = 2;
  wrong.tables[0] = With(wrong.tables[0], 1, kDramOnly, kBoth, read_twice);
  ExpectFoundOut(right, wrong);
}

TEST(WrongBound, ACapacityOffByOne) {
  Instance right = OneBlock(2, 1 << kBoth | 1 << kDramOnly);
  right.resources[0].units_per_second =
      100;  // so that one byte in DRAM takes longer than all in HBM
  Instance wrong = right;
  --wrong.tiers[0].capacity_bytes;
  ExpectFoundOut(right, wrong);
}

TEST(WrongBound, ARoundingTheWrongWay) {
  // A block that takes 1/3 of a second to read and room that is worth nothing: with one quantum a
  // second, what is rounded up claims a second.
  Instance instance = OneBlock(1, 1 << kDramOnly);
  instance.classes[0].bytes = 1;
  instance.resources[1].units_per_second = 3;
  ASSERT_THAT(Check(instance), IsOk());
  const double least = test_support::LeastSeconds(instance);
  EXPECT_NEAR(least, 1.0 / 3, 1e-12);
  Certificate certificate{.instance_digest = InstanceDigest(instance),
                          .quanta_per_second = 1,
                          .phase_count = 1,
                          .resource_count = 2,
                          .tier_count = 2,
                          .share = {0, uint64_t{1} << kShareBits},
                          .room = {0, 0}};
  certificate.claimed_quanta = 1;
  EXPECT_GT(SecondsOf(certificate.claimed_quanta, certificate.quanta_per_second), least);
  EXPECT_THAT(VerifiedSeconds(instance, certificate),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("prices prove 0")));
  // The same of each other rounding: of room that capacity has, of base loads, of a share's part.
  const auto proven = [&] { return *ProvenQuanta(instance, certificate); };
  certificate.claimed_quanta = 0;
  EXPECT_EQ(proven(), 0);
  certificate.room = {1, 0};  // 2^-32 quanta a byte of three: counts as a whole one
  EXPECT_EQ(proven(), -1);
  certificate.room = {0, 0};
  instance.base_load = {0, 2};
  EXPECT_EQ(proven(), 0);
  certificate.quanta_per_second = 3;  // 1 quantum for the block, 2 for the base load
  EXPECT_EQ(proven(), 3);
  certificate.share = {0, (uint64_t{1} << kShareBits) - 1};
  EXPECT_EQ(proven(), 1);
  // The block's room in DRAM, 2^32 - 1 parts of a quantum, is less than one; three bytes are dear.
  certificate.share = {0, 0};
  certificate.room = {0, 0xffffffff};
  EXPECT_EQ(proven(), -3);
}

}  // namespace
}  // namespace kvtier::bound
