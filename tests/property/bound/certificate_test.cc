// Proves that certificates say what their prices prove and never more: the integers lose little,
// files come back as they were, what is damaged is refused, and whatever the verifier takes is
// below the best schedule.
#include "tiering/bound/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/sha256.h"
#include "tests/support/bound/brute_force.h"
#include "tests/support/bound/random_instance.h"
#include "tests/support/bound/random_prices.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/bound/instance_file.h"
#include "tiering/bound/naive_evaluation.h"
#include "tiering/bound/price_rounding.h"
#include "tiering/bound/table_reach.h"
#include "tiering/bound/verifier.h"

namespace kvtier::bound {
namespace {

using test_support::BoundModel;
using test_support::IsOk;
using test_support::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

Certificate Certified(const Instance& instance, const Prices& prices) {
  absl::StatusOr<Certificate> certificate = Certify(instance, prices);
  EXPECT_THAT(certificate, IsOk());
  return *std::move(certificate);
}

// The most that the verifier's rounding takes: a quantum for each resource and for each option.
long double RoundedDown(const Instance& instance, const Certificate& certificate) {
  const size_t each = instance.resources.size() + instance.tiers.size() + 2;
  return static_cast<long double>((instance.block_count() + 1) * instance.phase_count * each) /
         static_cast<long double>(certificate.quanta_per_second);
}

// The most that a value changes by where each share moves by 2^-40 and each price of room by half
// of its unit: what loads could cost at all, in that part.
double MovedByRounding(const Instance& instance, const Certificate& certificate) {
  double rate = 1e300, units = 0, bytes = 0;
  for (const Resource& resource : instance.resources)
    rate = std::min(rate, static_cast<double>(resource.units_per_second));
  for (const uint64_t load : instance.base_load) units += static_cast<double>(load);
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const BlockClass& block_class = instance.ClassOf(block);
    units += static_cast<double>(LargestCount(instance.TableOf(block)) *
                                 (block_class.bytes + block_class.recompute_units) *
                                 instance.resources.size() * instance.phase_count);
    bytes += static_cast<double>(block_class.bytes);
  }
  for (const Tier& tier : instance.tiers) bytes += static_cast<double>(tier.capacity_bytes);
  const double room = std::ldexp(1, -kRoomBits) * instance.phase_count * bytes *
                      static_cast<double>(instance.tiers.size()) /
                      static_cast<double>(certificate.quanta_per_second);
  return std::ldexp(1, -kShareBits) * units / rate + room;
}

class CertificateModelTest : public ::testing::TestWithParam<BoundModel> {};

TEST_P(CertificateModelTest, IntegersLoseLittleAndNeverGain) {
  Rng rng(test_support::TestSeed(2000 + static_cast<uint64_t>(GetParam())));
  // Of sixteen states, trying all placements takes long.
  const bool four = GetParam() == BoundModel::kFourTiers;
  for (int i = 0; i < (four ? 6 : 60); ++i) {
    SCOPED_TRACE(i);
    const Instance instance = test_support::RandomInstance(
        GetParam(),
        four ? test_support::RandomSize{.blocks_max = 2, .phases_max = 4}
             : test_support::RandomSize{},
        rng);
    const double least = test_support::LeastSeconds(instance);
    for (int trial = 0; trial < 12; ++trial) {
      const Prices prices = trial == 0 ? test_support::SearchPrices(instance, 100, rng)
                                       : test_support::RandomPrices(instance, rng);
      const Certificate certificate = Certified(instance, prices);
      const absl::StatusOr<double> seconds = VerifiedSeconds(instance, certificate);
      ASSERT_THAT(seconds, IsOk());
      ASSERT_LE(*seconds, least);
      // A double has 53 of the 60 bits of room's price.
      const Prices rounded = test_support::PricesOf(certificate);
      const long double exact = EvaluateNaively(instance, rounded).bound_seconds;
      const double size = test_support::Magnitude(instance, rounded);
      ASSERT_LE(*seconds, exact + 4e-16L * size);
      ASSERT_GE(*seconds,
                exact - RoundedDown(instance, certificate) - 1e-15L * (size + std::abs(exact)));
      ASSERT_NEAR(static_cast<double>(EvaluateNaively(instance, prices).bound_seconds),
                  static_cast<double>(exact), MovedByRounding(instance, certificate));
    }
  }
}

TEST_P(CertificateModelTest, FilesComeBackAsTheyWere) {
  Rng rng(test_support::TestSeed(3000 + static_cast<uint64_t>(GetParam())));
  const int count = GetParam() == BoundModel::kFourTiers ? 4 : 30;
  for (int i = 0; i < count; ++i) {
    const Instance instance = test_support::RandomInstance(GetParam(), {.blocks_max = 9}, rng);
    const std::string bytes = InstanceBytes(instance);
    const absl::StatusOr<Instance> again = ReadInstance(bytes);
    ASSERT_THAT(again, IsOk());
    ASSERT_EQ(InstanceBytes(*again), bytes);
    ASSERT_EQ(InstanceDigest(*again), InstanceDigest(instance));
    ASSERT_EQ(again->access_phase, instance.access_phase);
    ASSERT_EQ(again->tables, instance.tables);
    const Prices prices = test_support::RandomPrices(instance, rng);
    const Certificate certificate = Certified(instance, prices);
    const absl::StatusOr<Certificate> read = ReadCertificate(CertificateBytes(certificate));
    ASSERT_THAT(read, IsOk());
    ASSERT_EQ(*read, certificate);
    ASSERT_THAT(VerifiedSeconds(*again, *read), IsOk());
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CertificateModelTest,
                         ::testing::ValuesIn(test_support::kBoundModels));
INSTANTIATE_TEST_SUITE_P(FourTiers, CertificateModelTest,
                         ::testing::Values(BoundModel::kFourTiers));

// A problem with a certificate that is worth damaging.
struct Case {
  Instance instance;
  Certificate certificate;
  double least;
};

Case MakeCase(BoundModel model, Rng& rng) {
  for (;;) {
    Case made;
    made.instance = test_support::RandomInstance(model, {}, rng);
    made.least = test_support::LeastSeconds(made.instance);
    made.certificate =
        Certified(made.instance, test_support::SearchPrices(made.instance, 300, rng));
    double room = 0;
    for (const uint64_t price : made.certificate.room) room += static_cast<double>(price);
    if (made.certificate.claimed_quanta > 0 && room > 0 && made.instance.block_count() > 2)
      return made;
  }
}

TEST(CertificateFile, EveryDamagedByteIsSeen) {
  Rng rng(test_support::TestSeed(17));
  const Case made = MakeCase(BoundModel::kExclusive, rng);
  const std::string bytes = CertificateBytes(made.certificate);
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << rng.Below(8)));
    ASSERT_FALSE(ReadCertificate(damaged).ok()) << "byte " << at;
    ASSERT_FALSE(ReadCertificate(std::string_view(bytes).substr(0, at)).ok()) << "cut at " << at;
  }
  EXPECT_FALSE(ReadCertificate(bytes + '\0').ok());
  std::string twice = bytes + bytes;
  EXPECT_FALSE(ReadCertificate(twice).ok());
}

// The checksum of changed bytes put right, as somebody would who means to deceive.
std::string Signed(std::string bytes) {
  const size_t covered = bytes.size() - sizeof(wire::Sha256Digest);
  wire::Sha256 hash;
  hash.Raw(bytes.data(), covered);
  const wire::Sha256Digest digest = hash.Finish();
  std::memcpy(bytes.data() + covered, digest.data(), digest.size());
  return bytes;
}

TEST(CertificateFile, WhatIsEditedIsRefusedOrStillTrue) {
  Rng rng(test_support::TestSeed(18));
  size_t refused = 0, taken = 0;
  for (const BoundModel model : test_support::kBoundModels) {
    const Case made = MakeCase(model, rng);
    const std::string bytes = CertificateBytes(made.certificate);
    const size_t body = bytes.size() - sizeof(wire::Sha256Digest);
    for (size_t bit = 0; bit < body * 8; ++bit) {
      std::string edited = bytes;
      edited[bit / 8] = static_cast<char>(edited[bit / 8] ^ (1 << (bit % 8)));
      const absl::StatusOr<Certificate> read = ReadCertificate(Signed(edited));
      const absl::StatusOr<double> seconds =
          read.ok() ? VerifiedSeconds(made.instance, *read) : read.status();
      if (seconds.ok()) {
        ++taken;
        ASSERT_LE(*seconds, made.least) << test_support::NameOf(model) << ", bit " << bit;
      } else {
        ++refused;
      }
    }
  }
  std::cout << refused << " edited certificates refused, " << taken << " still true\n";
  EXPECT_GT(refused, 1000u);
  EXPECT_GT(taken, 10u);  // a lower claim, or a price that does not matter
}

TEST(CertificateFile, EachReasonIsNamed) {
  Rng rng(test_support::TestSeed(19));
  const Case made = MakeCase(BoundModel::kInclusive, rng);
  const auto why = [&](const auto& change) {
    Certificate changed = made.certificate;
    change(changed);
    return VerifiedSeconds(made.instance, changed).status();
  };
  EXPECT_THAT(why([](Certificate& c) { ++c.claimed_quanta; }),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("prices prove")));
  EXPECT_THAT(why([](Certificate& c) { c.claimed_quanta += __int128{1} << 100; }),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("prices prove")));
  EXPECT_THAT(why([](Certificate& c) { c.instance_digest[5] ^= 1; }),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another instance")));
  EXPECT_THAT(why([](Certificate& c) { c.share[0] += uint64_t{1} << kShareBits; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("shares of phase 0 sum to")));
  EXPECT_THAT(why([](Certificate& c) { c.quanta_per_second = 0; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 quanta a second")));
  EXPECT_THAT(why([](Certificate& c) { c.quanta_per_second = kQuantaPerSecondMax + 1; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("quanta a second")));
  EXPECT_THAT(why([](Certificate& c) { c.room[0] = kRoomMax + 1; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the price")));
  EXPECT_THAT(why([](Certificate& c) {
                for (uint64_t& room : c.room) room = kRoomMax;
              }),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(why([](Certificate& c) { ++c.phase_count; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the instance has")));
  // Both sides by what tells them apart.
  const auto counts = [](uint32_t phases, uint32_t resources, uint32_t tiers) {
    return absl::StrCat(phases, " phases of ", resources, " resources and ", tiers, " tiers");
  };
  const auto hex = [](const wire::Sha256Digest& digest) {
    return absl::BytesToHexString(std::string(digest.begin(), digest.end()));
  };
  Certificate others = made.certificate;
  others.phase_count += 3;
  others.tier_count += 2;
  others.instance_digest[31] ^= 0x80;
  EXPECT_THAT(
      std::string(VerifiedSeconds(made.instance, others).status().message()),
      AllOf(
          HasSubstr("prices for " +
                    counts(others.phase_count, others.resource_count, others.tier_count)),
          HasSubstr(absl::StrCat("this problem has ", made.instance.phase_count, " of ",
                                 made.instance.resources.size(), " and ",
                                 made.instance.tiers.size(), ", and ", made.instance.block_count(),
                                 " blocks with ", made.instance.access_count(), " accesses")),
          HasSubstr(absl::StrCat("of its problem is ", hex(others.instance_digest), ", that")),
          HasSubstr(absl::StrCat("of this one is ", hex(made.certificate.instance_digest)))));
  EXPECT_THAT(why([](Certificate& c) { c.room.pop_back(); }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the instance has")));

  const std::string bytes = CertificateBytes(made.certificate);
  std::string other = bytes;
  other[0] = 'X';
  EXPECT_THAT(ReadCertificate(other), StatusIs(absl::StatusCode::kInvalidArgument,
                                               HasSubstr("at byte 0: this is no certificate")));
  other = bytes;
  other[8] = 2;
  EXPECT_THAT(ReadCertificate(other),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("version 2")));
  other = bytes;
  other[55] = '\x7f';  // the number of phases
  EXPECT_THAT(ReadCertificate(other),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bytes that are left")));
  other = bytes;
  other[bytes.size() - 40] ^= 1;
  EXPECT_THAT(ReadCertificate(other), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  EXPECT_THAT(ReadCertificate(""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Certify, RefusesPricesThatAreNone) {
  Rng rng(test_support::TestSeed(20));
  const Instance instance = test_support::RandomInstance(BoundModel::kInclusive, {}, rng);
  Prices prices = test_support::RandomPrices(instance, rng);
  prices.share[0] = std::nan("");
  EXPECT_THAT(Certify(instance, prices),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the share of resource 0")));
  prices.share[0] = 0;
  prices.room[1] = INFINITY;
  EXPECT_THAT(Certify(instance, prices),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("room in tier 1 in phase 0")));
  prices.room[1] = 1e30;
  EXPECT_THAT(Certify(instance, prices), StatusIs(absl::StatusCode::kInvalidArgument));
}

// What rounding or a careless solver leaves is mended, and the bound stays true.
TEST(Certify, MendsSharesAboveOneAndPricesBelowZero) {
  Rng rng(test_support::TestSeed(21));
  const Case made = MakeCase(BoundModel::kThreeTiers, rng);
  Prices prices = test_support::SearchPrices(made.instance, 300, rng);
  for (double& share : prices.share) share *= 3;
  prices.share[0] -= 0.5;
  for (size_t i = 0; i < prices.room.size(); i += 2) prices.room[i] = -prices.room[i];
  const absl::StatusOr<double> seconds =
      VerifiedSeconds(made.instance, Certified(made.instance, prices));
  ASSERT_THAT(seconds, IsOk());
  EXPECT_LE(*seconds, made.least);
}

TEST(Verifier, SecondsAreRoundedDown) {
  EXPECT_EQ(SecondsOf(0, 7), 0);
  EXPECT_LT(SecondsOf(1, 3), 1.0 / 3);
  EXPECT_GT(SecondsOf(1, 3), 1.0 / 3 - 1e-15);
  EXPECT_LT(SecondsOf(-1, 3), -1.0 / 3);
  const __int128 large = (__int128{1} << 100) + 1;
  EXPECT_LE(SecondsOf(large, 1), 0x1p100);
  EXPECT_GT(SecondsOf(large, 1), 0x1p100 * (1 - 1e-14));
}

}  // namespace
}  // namespace kvtier::bound
