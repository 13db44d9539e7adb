#include "tiering/bound/price_rounding.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "tiering/base/check.h"
#include "tiering/bound/instance_file.h"
#include "tiering/bound/table_reach.h"
#include "tiering/bound/verifier.h"

namespace kvtier::bound {
namespace {

constexpr double kOne = uint64_t{1} << kShareBits;
// The longest way that a block may have to go, in quanta: half of what the verifier takes, as this
// is estimated in floating point.
constexpr double kPathQuantaMax = 0x1p59;

absl::Status CheckFinite(absl::Span<const double> prices, size_t in_a_phase, const char* what) {
  for (size_t i = 0; i < prices.size(); ++i) {
    if (!std::isfinite(prices[i]))
      return absl::InvalidArgumentError(absl::StrFormat("%s %d in phase %d is %f", what,
                                                        i % in_a_phase, i / in_a_phase, prices[i]));
  }
  return absl::OkStatus();
}

// What all room costs together, in seconds for a byte that takes it in every tier all the time.
double RoomSum(const Prices& prices) {
  double sum = 0;
  for (const double room : prices.room) sum += std::max(room, 0.0);
  return sum;
}

// The most that a block can cost in all phases together, in seconds.
double LongestPath(const Instance& instance, double room_sum) {
  std::vector<double> counts;
  for (const OptionTable& table : instance.tables)
    counts.push_back(static_cast<double>(LargestCount(table)));
  std::vector<bool> used(instance.classes.size());
  for (const uint32_t block_class : instance.block_class) used[block_class] = true;
  double longest = 0;
  for (size_t i = 0; i < instance.classes.size(); ++i) {
    if (!used[i]) continue;
    const BlockClass& block_class = instance.classes[i];
    double slowest = 0;
    for (size_t r = 0; r < instance.resources.size(); ++r) {
      auto units = static_cast<double>(block_class.bytes);
      if (r == instance.compute_resource) units += static_cast<double>(block_class.recompute_units);
      slowest = std::max(slowest, units * counts[block_class.table] /
                                      static_cast<double>(instance.resources[r].units_per_second));
    }
    longest = std::max(longest, slowest * instance.phase_count +
                                    static_cast<double>(block_class.bytes) * room_sum);
  }
  return longest;
}

// The parts that are lost by rounding down go to where most was lost, so that the sum stays.
void RoundShares(absl::Span<const double> share, absl::Span<uint64_t> rounded) {
  double sum = 0;
  for (const double part : share) sum += std::max(part, 0.0);
  const double scale = kOne / std::max(sum, 1.0);
  std::vector<double> rest(share.size());
  int64_t left = std::llround(std::min(sum, 1.0) * kOne);
  for (size_t r = 0; r < share.size(); ++r) {
    const double exact = std::max(share[r], 0.0) * scale;
    rounded[r] = static_cast<uint64_t>(exact);
    rest[r] = exact - rounded[r];
    left -= rounded[r];
  }
  for (; left > 0; --left) {
    const auto most = std::max_element(rest.begin(), rest.end());
    if (*most <= 0) return;
    ++rounded[static_cast<size_t>(most - rest.begin())];
    *most = 0;
  }
}

}  // namespace

absl::StatusOr<Certificate> Certify(const Instance& instance, const Prices& prices,
                                    const std::function<bool()>& go_on) {
  KVTIER_CHECK(prices.phase_count == instance.phase_count &&
               prices.resource_count == instance.resources.size() &&
               prices.tier_count == instance.tiers.size());
  absl::Status status = CheckFinite(prices.share, prices.resource_count, "the share of resource");
  if (status.ok())
    status = CheckFinite(prices.room, prices.tier_count, "the price of room in tier");
  if (!status.ok()) return status;

  if (go_on && !go_on()) return absl::CancelledError("a certificate's making was ended");
  Certificate certificate{.instance_digest = InstanceDigest(instance),
                          .quanta_per_second = kQuantaPerSecondMax,
                          .phase_count = prices.phase_count,
                          .resource_count = static_cast<uint32_t>(prices.resource_count),
                          .tier_count = static_cast<uint32_t>(prices.tier_count),
                          .share = std::vector<uint64_t>(prices.share.size()),
                          .room = std::vector<uint64_t>(prices.room.size())};
  const double room_sum = RoomSum(prices);
  const double longest = LongestPath(instance, room_sum);
  const double dearest =
      prices.room.empty() ? 0 : *std::max_element(prices.room.begin(), prices.room.end()) * 0x1p32;
  while (certificate.quanta_per_second > 1 &&
         (longest * static_cast<double>(certificate.quanta_per_second) > kPathQuantaMax ||
          dearest * static_cast<double>(certificate.quanta_per_second) > 0x1p59))
    certificate.quanta_per_second /= 2;
  for (uint32_t phase = 0; phase < prices.phase_count; ++phase)
    RoundShares(prices.Share(phase),
                absl::MakeSpan(certificate.share)
                    .subspan(size_t{phase} * prices.resource_count, prices.resource_count));
  const double room_scale = 0x1p32 * static_cast<double>(certificate.quanta_per_second);
  for (size_t i = 0; i < prices.room.size(); ++i) {
    const double exact = std::max(prices.room[i], 0.0) * room_scale;
    if (exact > static_cast<double>(kRoomMax))
      return absl::InvalidArgumentError(
          absl::StrFormat("room in tier %d in phase %d is priced at %g seconds a byte, too much to "
                          "be certified: where blocks have nowhere to be, there is no schedule, "
                          "and no price is too high",
                          i % prices.tier_count, i / prices.tier_count, prices.room[i]));
    certificate.room[i] = static_cast<uint64_t>(std::llround(exact));
  }
  const absl::StatusOr<__int128> proven = ProvenQuanta(instance, certificate, go_on);
  if (!proven.ok()) return proven.status();
  certificate.claimed_quanta = *proven;
  return certificate;
}

double RoundingSeconds(const Instance& instance, const Prices& prices,
                       const Certificate& certificate) {
  const double quantum = 1 / static_cast<double>(certificate.quanta_per_second);
  const double room_unit = quantum / 0x1p32;  // seconds a byte
  const auto blocks = static_cast<double>(instance.block_count());
  double all_s = blocks * LongestPath(instance, RoomSum(prices));
  for (size_t i = 0; i < instance.base_load.size(); ++i) {
    all_s +=
        static_cast<double>(instance.base_load[i]) /
        static_cast<double>(instance.resources[i % instance.resources.size()].units_per_second);
  }
  double bytes = 0;
  for (const uint32_t block_class : instance.block_class)
    bytes += static_cast<double>(instance.classes[block_class].bytes);
  const auto tiers = static_cast<double>(instance.tiers.size());
  for (const Tier& tier : instance.tiers) bytes += static_cast<double>(tier.capacity_bytes);
  // Each share is off by less than a unit. In each phase each sum is off by a quantum or two: base
  // loads, each tier's room, and each block's loads and room.
  return all_s * static_cast<double>(instance.resources.size()) / kOne +
         instance.phase_count * (quantum * (2 + tiers + 3 * blocks) + room_unit * tiers * bytes);
}

}  // namespace kvtier::bound
