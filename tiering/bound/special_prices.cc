#include "tiering/bound/special_prices.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "tiering/bound/price_space.h"
#include "tiering/bound/resource_use.h"

namespace kvtier::bound {
namespace {

using Shares = std::array<double, kResourcesMax>;

constexpr size_t kSharesSearched = 2;
constexpr int kRoomTries = 14;

// In proportion to rates.
Shares Roofline(const Instance& instance, const std::vector<bool>& included) {
  Shares shares{};
  double sum = 0;
  for (size_t r = 0; r < included.size(); ++r) {
    if (!included[r]) continue;
    shares[r] = static_cast<double>(instance.resources[r].units_per_second);
    sum += shares[r];
  }
  for (double& share : shares) share = sum > 0 ? share / sum : 0;
  return shares;
}

// Resources whose loads are bytes.
std::vector<bool> Carriers(const Instance& instance) {
  const ResourceUse use = UseOf(instance);
  std::vector<bool> carriers(instance.resources.size());
  for (size_t r = 0; r < carriers.size(); ++r) {
    carriers[r] = use.loaded[r] && r != instance.compute_resource;
  }
  return carriers;
}

std::vector<Shares> Candidates(const Instance& instance) {
  std::vector<Shares> candidates;
  for (size_t r = 0; r < instance.resources.size(); ++r) {
    candidates.emplace_back()[r] = 1;
  }
  const std::vector<bool> carriers = Carriers(instance);
  candidates.push_back(Roofline(instance, carriers));
  for (size_t r = 0; r < carriers.size(); ++r) {
    if (!carriers[r]) continue;
    std::vector<bool> others = carriers;
    others[r] = false;
    candidates.push_back(Roofline(instance, others));
  }
  return candidates;
}

void SetShare(const Shares& shares, uint32_t phase, Prices& prices) {
  std::copy_n(shares.begin(), prices.resource_count, prices.Share(phase).begin());
}

class Search {
 public:
  Search(Evaluator& evaluator, const std::function<bool()>& go_on)
      : evaluator_(evaluator),
        go_on_(go_on),
        instance_(evaluator.instance()),
        candidates_(Candidates(instance_)),
        seconds_(candidates_.size()),
        phase_seconds_(instance_.phase_count, -1),
        phase_best_(instance_.phase_count, 0) {}

  Priced Run() {
    for (size_t i = 0; i < candidates_.size(); ++i) TryShares(i);
    if (ended_) return std::move(best_);
    Prices mixed = Empty();
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      SetShare(candidates_[phase_best_[phase]], phase, mixed);
    }
    Offer(mixed);
    const std::vector<uint64_t> read = ReadBytes();
    for (const size_t candidate : MostPromising()) {
      const Prices shares = Uniform(candidates_[candidate]);
      for (size_t tier = 0; tier < instance_.tiers.size(); ++tier) {
        if (instance_.tiers[tier].capacity_bytes >= all_bytes_) continue;  // it never binds
        TryRoom(shares, tier);
        TryFullRoom(shares, candidates_[candidate], tier, read);
      }
    }
    return std::move(best_);
  }

 private:
  Prices Empty() const {
    return Prices(instance_.phase_count, instance_.resources.size(), instance_.tiers.size());
  }
  Prices Uniform(const Shares& shares) const {
    Prices prices = Empty();
    for (uint32_t phase = 0; phase < prices.phase_count; ++phase) SetShare(shares, phase, prices);
    return prices;
  }

  double Offer(const Prices& prices) {
    const double bound = Evaluate(prices, nullptr);
    Offer(prices, bound);
    return bound;
  }
  // Less than any bound once it has been ended, but for the first prices.
  double Evaluate(const Prices& prices, Evaluation* evaluation) {
    if (ended_) return -std::numeric_limits<double>::infinity();
    const double bound = evaluator_.Hard(prices, evaluation);
    ended_ = evaluator_.stopped() || (go_on_ && !go_on_());
    return bound;
  }
  void Offer(const Prices& prices, double bound) {
    if (!best_.prices.share.empty() && bound <= best_.bound) return;
    best_.prices = prices;
    best_.bound = bound;
  }

  void TryShares(size_t candidate) {
    Evaluation evaluation;
    const Prices prices = Uniform(candidates_[candidate]);
    seconds_[candidate] = Evaluate(prices, &evaluation);
    Offer(prices, seconds_[candidate]);
    if (evaluation.load.empty()) return;
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      double seconds = 0;
      for (size_t r = 0; r < prices.resource_count; ++r) {
        seconds += prices.Share(phase)[r] * evaluation.load[phase * prices.resource_count + r] /
                   static_cast<double>(instance_.resources[r].units_per_second);
      }
      if (seconds <= phase_seconds_[phase]) continue;
      phase_seconds_[phase] = seconds;
      phase_best_[phase] = candidate;
    }
  }

  // Without room prices a resource that everything can avoid promises nothing, so it is those of
  // least loads' cost among the carriers' rooflines that room prices help most; all but one come
  // first, then all.
  std::vector<size_t> MostPromising() {
    std::vector<size_t> order;
    for (size_t i = instance_.resources.size(); i < candidates_.size(); ++i) order.push_back(i);
    std::vector<double> promise(candidates_.size());
    for (const size_t i : order) promise[i] = Promise(candidates_[i]);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return promise[a] > promise[b]; });
    order.resize(std::min(order.size(), kSharesSearched));
    return order;
  }

  // With a middling room price for the first tier that can bind.
  double Promise(const Shares& shares) {
    Prices prices = Uniform(shares);
    for (size_t tier = 0; tier < instance_.tiers.size(); ++tier) {
      if (instance_.tiers[tier].capacity_bytes >= all_bytes_) continue;
      SetRoom(tier, room_unit_, prices);
      break;
    }
    return Offer(prices);
  }

  static void SetRoom(size_t tier, double room, Prices& prices) {
    for (uint32_t phase = 0; phase < prices.phase_count; ++phase) prices.Room(phase)[tier] = room;
  }

  // The bound is concave in the room price: a search by thirds of its logarithm.
  void TryRoom(Prices prices, size_t tier) {
    double low = std::log(room_unit_ * 1e-2), high = std::log(room_unit_ * 1e2);
    for (int tries = 0; tries < kRoomTries / 2; ++tries) {
      const double third = (high - low) / 3;
      SetRoom(tier, std::exp(low + third), prices);
      const double lower = Offer(prices);
      SetRoom(tier, std::exp(high - third), prices);
      const double upper = Offer(prices);
      (lower < upper ? low : high) += lower < upper ? third : -third;
    }
  }

  void TryFullRoom(Prices prices, const Shares& shares, size_t tier,
                   const std::vector<uint64_t>& read) {
    double rate = 0;
    for (size_t r = 0; r < prices.resource_count; ++r) {
      if (shares[r] > 0) rate += static_cast<double>(instance_.resources[r].units_per_second);
    }
    if (rate == 0) return;
    for (uint32_t phase = 0; phase < prices.phase_count; ++phase) {
      if (read[phase] > instance_.tiers[tier].capacity_bytes) prices.Room(phase)[tier] = 1 / rate;
    }
    Offer(prices);
  }

  // Of blocks that are accessed in each phase.
  std::vector<uint64_t> ReadBytes() {
    const PriceSpace space(instance_);
    room_unit_ = space.room_unit();
    std::vector<uint64_t> read(instance_.phase_count, 0);
    for (size_t block = 0; block < instance_.block_count(); ++block) {
      const uint64_t bytes = instance_.ClassOf(block).bytes;
      all_bytes_ += bytes;
      const auto accesses = instance_.Accesses(block);
      for (size_t i = 0; i < accesses.size(); ++i) {
        if (i == 0 || accesses[i] != accesses[i - 1]) read[accesses[i]] += bytes;
      }
    }
    return read;
  }

  Evaluator& evaluator_;
  const std::function<bool()>& go_on_;
  bool ended_ = false;
  const Instance& instance_;
  const std::vector<Shares> candidates_;
  std::vector<double> seconds_;
  std::vector<double> phase_seconds_;
  std::vector<size_t> phase_best_;
  uint64_t all_bytes_ = 0;
  double room_unit_ = 0;
  Priced best_;
};

}  // namespace

Priced BestSpecialPrices(Evaluator& evaluator, const std::function<bool()>& go_on) {
  return Search(evaluator, go_on).Run();
}

Priced RooflinePrices(Evaluator& evaluator) {
  const Instance& instance = evaluator.instance();
  std::vector<Shares> candidates = {Roofline(instance, Carriers(instance))};
  if (instance.compute_resource != kNoResource) {
    candidates.emplace_back()[instance.compute_resource] = 1;
  }
  Priced best;
  for (const Shares& shares : candidates) {
    Prices prices(instance.phase_count, instance.resources.size(), instance.tiers.size());
    for (uint32_t phase = 0; phase < prices.phase_count; ++phase) SetShare(shares, phase, prices);
    const double bound = evaluator.Hard(prices, nullptr);
    if (best.prices.share.empty() || bound > best.bound) best = {std::move(prices), bound};
  }
  return best;
}

}  // namespace kvtier::bound
