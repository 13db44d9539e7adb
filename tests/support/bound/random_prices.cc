#include "tests/support/bound/random_prices.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/types/span.h"
#include "tiering/bound/naive_evaluation.h"

namespace kvtier::test_support {
namespace {

using bound::Instance;
using bound::Prices;

void DrawShares(absl::Span<double> share, Rng& rng) {
  std::fill(share.begin(), share.end(), 0.0);
  if (rng.OneIn(3)) {
    share[rng.Below(share.size())] = 1;
    return;
  }
  double sum = 0;
  for (double& part : share) sum += part = rng.OneIn(3) ? 0 : rng.Unit();
  if (sum == 0) return;
  // Now and then they sum to less than 1; a sum that rounding leaves above it is none of ours.
  const double total = (rng.OneIn(4) ? rng.Unit() : 1) * (1 - 1e-15);
  for (double& part : share) part *= total / sum;
}

double SlowestSeconds(const Instance& instance) {
  uint64_t rate = ~uint64_t{0};
  for (const bound::Resource& resource : instance.resources)
    rate = std::min(rate, resource.units_per_second);
  return 1 / static_cast<double>(rate);
}

double DrawRoom(const Instance& instance, Rng& rng) {
  return rng.OneIn(2) ? 0 : rng.Unit() * rng.Unit() * 3 * SlowestSeconds(instance);
}

// A step of the search: one phase's shares or rooms are drawn again, scaled or shifted.
void Disturb(const Instance& instance, Prices& prices, Rng& rng) {
  const auto phase = static_cast<uint32_t>(rng.Below(instance.phase_count));
  if (rng.OneIn(2)) {
    const absl::Span<double> share = prices.Share(phase);
    if (rng.OneIn(4)) return DrawShares(share, rng);
    const size_t from = rng.Below(share.size()), to = rng.Below(share.size());
    const double part = share[from] * (rng.OneIn(3) ? 1 : rng.Unit());
    share[from] -= part;
    share[to] += part;
    return;
  }
  double& room = prices.Room(phase)[rng.Below(instance.tiers.size())];
  switch (rng.Below(3)) {
    case 0:
      room = DrawRoom(instance, rng);
      break;
    case 1:
      room *= 2 * rng.Unit();
      break;
    default:
      room += rng.Unit() * 0.2 * SlowestSeconds(instance);
  }
}

}  // namespace

Prices RandomPrices(const Instance& instance, Rng& rng) {
  Prices prices(instance.phase_count, instance.resources.size(), instance.tiers.size());
  const bool room = !rng.OneIn(4);
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    DrawShares(prices.Share(phase), rng);
    if (!room) continue;
    for (double& price : prices.Room(phase)) price = DrawRoom(instance, rng);
  }
  return prices;
}

Prices SearchPrices(const Instance& instance, int evaluations, Rng& rng) {
  Prices best(instance.phase_count, instance.resources.size(), instance.tiers.size());
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    double sum = 0;
    for (const bound::Resource& resource : instance.resources)
      sum += static_cast<double>(resource.units_per_second);
    for (size_t r = 0; r < instance.resources.size(); ++r)
      best.Share(phase)[r] =
          static_cast<double>(instance.resources[r].units_per_second) / sum * (1 - 1e-15);
  }
  long double bound = bound::EvaluateNaively(instance, best).bound_seconds;
  for (int i = 1; i < evaluations; ++i) {
    Prices next = best;
    const uint64_t changes = 1 + rng.Below(3);
    for (uint64_t change = 0; change < changes; ++change) Disturb(instance, next, rng);
    const long double value = bound::EvaluateNaively(instance, next).bound_seconds;
    if (value < bound) continue;
    bound = value;
    best = std::move(next);
  }
  return best;
}

Prices PricesOf(const bound::Certificate& certificate) {
  Prices prices(certificate.phase_count, certificate.resource_count, certificate.tier_count);
  for (size_t i = 0; i < prices.share.size(); ++i)
    prices.share[i] = std::ldexp(static_cast<double>(certificate.share[i]), -bound::kShareBits);
  const auto quanta = static_cast<double>(certificate.quanta_per_second);
  for (size_t i = 0; i < prices.room.size(); ++i)
    prices.room[i] =
        std::ldexp(static_cast<double>(certificate.room[i]), -bound::kRoomBits) / quanta;
  return prices;
}

double Magnitude(const Instance& instance, const Prices& prices) {
  double size = 1e-300;
  for (size_t i = 0; i < prices.room.size(); ++i) {
    double bytes = static_cast<double>(instance.tiers[i % prices.tier_count].capacity_bytes);
    for (size_t b = 0; b < instance.block_count(); ++b) {
      bytes += static_cast<double>(instance.ClassOf(b).bytes);
    }
    size += prices.room[i] * bytes;
  }
  return size;
}

}  // namespace kvtier::test_support
