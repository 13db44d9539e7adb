#include "sim/attention_generator.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

// Scores are whole numbers of 2^-16: what a library's logarithm returns is not the same everywhere.
constexpr int64_t kOne = 1 << 16;
constexpr int64_t kLn2 = 45'426;       // x kOne
constexpr int64_t kBoost = 64 * kOne;  // above what any score is

// log2(number) x kOne, rounded down; by squaring, a bit at a time.
int64_t Log2(uint64_t number) {
  int64_t whole = 0;
  while (number >> whole > 1) ++whole;
  unsigned __int128 part = (static_cast<unsigned __int128>(number) << 62) >> whole;  // 1 to 2
  int64_t result = whole * kOne;
  for (int64_t bit = kOne / 2; bit > 0; bit /= 2) {
    part = (part * part) >> 62;
    if (part >> 63 != 0) {
      part >>= 1;
      result += bit;
    }
  }
  return result;
}

int64_t SquareRoot(int64_t number) {
  int64_t root = 0;
  for (int64_t bit = int64_t{1} << 31; bit > 0; bit /= 2) {
    if ((root + bit) * (root + bit) <= number) root += bit;
  }
  return root;
}

class Plane {
 public:
  Plane(const AttentionOptions& options, uint64_t seed)
      : options_(options),
        rng_(seed),
        fresh_(SquareRoot(kOne * kOne -
                          Milli(options.persistence_milli) * Milli(options.persistence_milli))) {
    const uint32_t blocks = options.geometry.BlocksAt(options.geometry.steps);
    std::vector<uint32_t> rank(blocks);
    std::iota(rank.begin(), rank.end(), 1);
    for (size_t i = rank.size(); i > 1; --i) std::swap(rank[i - 1], rank[rng_.Below(i)]);
    for (const uint32_t one : rank) {
      const int64_t ln = Log2(one) * kLn2 / kOne;
      base_.push_back(-ln * options.rank_exponent_milli / 1000);
      process_.push_back(Normal());
    }
    score_.resize(blocks);
  }

  // Reads of the step, ascending, with their masses.
  void Step(uint32_t step, std::vector<uint32_t>& blocks, std::vector<uint8_t>& mass) {
    blocks.clear();
    mass.clear();
    const uint32_t whole = options_.geometry.BlocksAt(step);
    if (whole == 0) return;
    for (uint32_t i = 0; i < whole; ++i) {
      process_[i] = (Milli(options_.persistence_milli) * process_[i] + fresh_ * Normal()) / kOne;
      score_[i] =
          base_[i] + (process_[i] * options_.drift_milli + Normal() * options_.noise_milli) / 1000;
      if (i < options_.sink_blocks || i + options_.recent_blocks >= whole) score_[i] += kBoost;
    }
    const auto reads =
        static_cast<uint32_t>(std::max<uint64_t>(1, uint64_t{whole} * options_.read_milli / 1000));
    order_.resize(whole);
    std::iota(order_.begin(), order_.end(), 0);
    std::nth_element(order_.begin(), order_.begin() + (reads - 1), order_.end(),
                     [this](uint32_t a, uint32_t b) {
                       return score_[a] != score_[b] ? score_[a] > score_[b] : a < b;
                     });
    blocks.assign(order_.begin(), order_.begin() + reads);
    std::sort(blocks.begin(), blocks.end());
    // A boost says that the block is read, not how much.
    const auto weight = [this](uint32_t block) {
      return score_[block] > kBoost / 2 ? score_[block] - kBoost : score_[block];
    };
    int64_t most = weight(blocks.front());
    for (const uint32_t block : blocks) most = std::max(most, weight(block));
    for (const uint32_t block : blocks) {
      const int64_t below = (most - weight(block)) * 8 / kLn2;
      mass.push_back(static_cast<uint8_t>(std::min<int64_t>(below, 255)));
    }
  }

 private:
  static int64_t Milli(uint32_t number) { return int64_t{number} * kOne / 1000; }

  // Mean 0, variance 1, x kOne: the sum of the four quarters of a random word. Their variance
  // together is (2^32 - 1) / 3, and sqrt(3) is 1.73205.
  int64_t Normal() {
    const uint64_t word = rng_.Next();
    int64_t sum = -2 * 0xffff;
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<uint16_t>(word >> shift);
    return sum * 173'205 / 100'000;
  }

  const AttentionOptions& options_;
  Rng rng_;
  const int64_t fresh_;
  std::vector<int64_t> base_, process_, score_;
  std::vector<uint32_t> order_;
};

absl::Status CheckOptions(const AttentionOptions& options) {
  struct Limit {
    const char* name;
    uint32_t value, min, max;
  };
  const Limit limits[] = {{"read share (thousandths)", options.read_milli, 1, 1000},
                          {"rank exponent (thousandths)", options.rank_exponent_milli, 0, 4000},
                          {"persistence (thousandths)", options.persistence_milli, 0, 1000},
                          {"drift (thousandths)", options.drift_milli, 0, 4000},
                          {"noise (thousandths)", options.noise_milli, 0, 4000}};
  for (const Limit& limit : limits) {
    if (limit.value >= limit.min && limit.value <= limit.max) continue;
    return absl::InvalidArgumentError(absl::StrCat(limit.name, " is ", limit.value, "; ", limit.min,
                                                   " to ", limit.max, " is needed"));
  }
  return absl::OkStatus();
}

std::string Provenance(const AttentionOptions& options) {
  return absl::StrCat("made by kvtier: read ", options.read_milli, " rank exponent ",
                      options.rank_exponent_milli, " persistence ", options.persistence_milli,
                      " drift ", options.drift_milli, " noise ", options.noise_milli,
                      " (thousandths), recent ", options.recent_blocks, " sinks ",
                      options.sink_blocks, " seed ", options.seed);
}

}  // namespace

absl::StatusOr<std::string> GenerateAttentionTrace(const AttentionOptions& options,
                                                   const std::function<absl::Status()>& check) {
  AttentionOptions named = options;
  named.geometry.provenance = Provenance(options);
  KVTIER_RETURN_IF_ERROR(CheckGeometry(named.geometry, "the trace"));
  KVTIER_RETURN_IF_ERROR(CheckOptions(named));
  std::vector<Plane> planes;
  for (uint32_t i = 0; i < named.geometry.planes; ++i)
    planes.emplace_back(named, Rng(named.seed ^ (uint64_t{i} << 40)).Next());
  AttentionTraceWriter writer(named.geometry);
  std::vector<uint32_t> blocks;
  std::vector<uint8_t> mass;
  for (uint32_t step = 0; step < named.geometry.steps; ++step) {
    KVTIER_RETURN_IF_ERROR(check());
    for (Plane& plane : planes) {
      plane.Step(step, blocks, mass);
      writer.Add(blocks, mass);
    }
  }
  return writer.Finish();
}

}  // namespace kvtier::sim
