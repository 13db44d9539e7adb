#include "tiering/bound/price_space.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/types/span.h"
#include "tiering/bound/resource_use.h"

namespace kvtier::bound {
namespace {

// A phase with fewer accesses than this part of the average counts as if it had so many.
constexpr double kLeastWeight = 0.1;
// Room prices move so much further than shares: on synthetic problems of each model this brought
// ascents of 300 iterations nearest to the optimum, or as near as any of 0.1 to 40.
constexpr double kRoomStride = 5;
// Below it a share moves as if it were so much, lest it stay at zero.
constexpr double kLeastShare = 1e-3;

double ReachOf(double share, Reach reach) {
  return reach == Reach::kEven ? 1 : std::sqrt(std::max(share, kLeastShare));
}

}  // namespace

PriceSpace::PriceSpace(const Instance& instance)
    : instance_(instance), phase_weight_(instance.phase_count, 0) {
  double accessed_bytes = 0, living_bytes = 0, recompute_units = 0, bytes = 0;
  for (size_t block = 0; block < instance.block_count(); ++block) {
    const BlockClass& block_class = instance.ClassOf(block);
    const auto size = static_cast<double>(block_class.bytes);
    const auto accesses = instance.Accesses(block);
    bytes += size;
    accessed_bytes += size * static_cast<double>(accesses.size());
    living_bytes += size * (instance.death[block] - instance.birth[block]);
    recompute_units +=
        static_cast<double>(block_class.recompute_units) * static_cast<double>(accesses.size());
    for (const uint32_t phase : accesses) phase_weight_[phase] += size;
  }
  const ResourceUse uses = UseOf(instance);
  for (size_t r = 0; r < instance.resources.size(); ++r) {
    if (!uses.loaded[r] || r == instance.compute_resource) continue;
    unit_ = std::max(unit_, 1 / static_cast<double>(instance.resources[r].units_per_second));
  }
  if (uses.recomputes && accessed_bytes > 0) {
    const Resource& compute = instance.resources[instance.compute_resource];
    unit_ = std::max(
        unit_, recompute_units / accessed_bytes / static_cast<double>(compute.units_per_second));
  }
  if (unit_ == 0) unit_ = 1 / static_cast<double>(instance.resources[0].units_per_second);
  const double average = std::max(1.0, accessed_bytes / static_cast<double>(instance.phase_count));
  for (double& weight : phase_weight_) weight = std::max(kLeastWeight, weight / average);
  const auto blocks = static_cast<double>(std::max<size_t>(1, instance.block_count()));
  room_unit_ = kRoomStride * unit_ * std::max(accessed_bytes, 1.0) / std::max(living_bytes, 1.0);
  value_unit_ = unit_ * std::max(1.0, bytes / blocks);
}

Prices PriceSpace::Start() const {
  const size_t resources = instance_.resources.size();
  Prices prices(instance_.phase_count, resources, instance_.tiers.size());
  const ResourceUse uses = UseOf(instance_);
  const size_t compute = instance_.compute_resource;
  for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
    const auto share = prices.Share(phase);
    const auto base = instance_.BaseLoad(phase);
    double rates = 0;
    for (size_t r = 0; r < resources; ++r) {
      if (r == compute || !(uses.loaded[r] || base[r] > 0)) continue;
      share[r] = static_cast<double>(instance_.resources[r].units_per_second);
      rates += share[r];
    }
    const bool computes = compute < resources && (base[compute] > 0 || uses.recomputes);
    const double rest = !computes ? 1 : rates > 0 ? 0.5 : 0;
    for (double& of_resource : share) of_resource *= rates > 0 ? rest / rates : 0;
    if (computes) share[compute] = 1 - rest;
  }
  return prices;
}

double PriceSpace::ShareSlope(const Evaluation& slope, size_t index) const {
  const size_t resource = index % instance_.resources.size();
  return slope.load[index] /
         (static_cast<double>(instance_.resources[resource].units_per_second) * value_unit_);
}

double PriceSpace::RoomSlope(const Evaluation& slope, size_t index) const {
  const size_t tier = index % instance_.tiers.size();
  return (slope.occupancy[index] - static_cast<double>(instance_.tiers[tier].capacity_bytes)) *
         room_unit_ / value_unit_;
}

Prices PriceSpace::Step(const Prices& point, const Evaluation& slope, double curvature,
                        Reach reach) const {
  Prices next = point;
  std::array<double, kResourcesMax> reaches;
  for (uint32_t phase = 0; phase < point.phase_count; ++phase) {
    const size_t first = phase * point.resource_count;
    const double length = 1 / (curvature * phase_weight_[phase]);
    for (size_t r = 0; r < point.resource_count; ++r) {
      reaches[r] = ReachOf(point.share[first + r], reach);
      next.share[first + r] += length * reaches[r] * ShareSlope(slope, first + r);
    }
    ProjectOnSimplex(next.Share(phase), absl::MakeConstSpan(reaches.data(), point.resource_count));
  }
  for (size_t i = 0; i < next.room.size(); ++i) {
    next.room[i] = std::max(0.0, next.room[i] + RoomSlope(slope, i) / curvature * room_unit_);
  }
  return next;
}

double PriceSpace::Gain(const Evaluation& slope, const Prices& from, const Prices& to) const {
  double gain = 0;
  for (size_t i = 0; i < from.share.size(); ++i) {
    gain += ShareSlope(slope, i) * (to.share[i] - from.share[i]);
  }
  for (size_t i = 0; i < from.room.size(); ++i) {
    gain += RoomSlope(slope, i) * (to.room[i] - from.room[i]) / room_unit_;
  }
  return gain;
}

double PriceSpace::HalfSquare(const Prices& from, const Prices& to, Reach reach) const {
  double square = 0;
  for (size_t i = 0; i < from.share.size(); ++i) {
    const double moved = to.share[i] - from.share[i];
    square +=
        phase_weight_[i / from.resource_count] * moved * moved / ReachOf(from.share[i], reach);
  }
  for (size_t i = 0; i < from.room.size(); ++i) {
    const double moved = (to.room[i] - from.room[i]) / room_unit_;
    square += moved * moved;
  }
  return square / 2;
}

double PriceSpace::FirstCurvature(const Evaluation& slope) const {
  double most = 0;
  for (size_t i = 0; i < slope.load.size(); ++i) {
    most = std::max(most, ShareSlope(slope, i) / phase_weight_[i / instance_.resources.size()]);
  }
  return std::max(10 * most, 1e-6);
}

void ProjectOnSimplex(absl::Span<double> point, absl::Span<const double> reach) {
  // With all coordinates higher by as many reaches the nearest is the same; so the highest is at
  // zero here, as far from the simplex the one that all sum up to would be lost in rounding.
  std::array<double, kResourcesMax> height;
  std::array<size_t, kResourcesMax> order;
  for (size_t i = 0; i < point.size(); ++i) {
    height[i] = point[i] / reach[i];
    order[i] = i;
  }
  std::sort(order.begin(), order.begin() + point.size(),
            [&](size_t a, size_t b) { return height[a] > height[b]; });
  const double highest = height[order[0]];
  double sum = 0, reaches = 0, level = 0;
  for (size_t i = 0; i < point.size(); ++i) {
    const size_t next = order[i];
    height[next] -= highest;
    sum += height[next] * reach[next];
    reaches += reach[next];
    const double candidate = (sum - 1) / reaches;
    if (height[next] > candidate) level = candidate;
  }
  for (size_t i = 0; i < point.size(); ++i) {
    point[i] = std::max(0.0, (height[i] - level) * reach[i]);
  }
}

void ProjectOnSimplex(absl::Span<double> point) {
  std::array<double, kResourcesMax> ones;
  ones.fill(1);
  ProjectOnSimplex(point, absl::MakeConstSpan(ones.data(), point.size()));
}

}  // namespace kvtier::bound
