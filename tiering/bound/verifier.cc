#include "tiering/bound/verifier.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/numeric/int128.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "proto/wire/sha256.h"
#include "tiering/bound/instance_file.h"

namespace kvtier::bound {
namespace {

using Wide = unsigned __int128;

// Paths stay below this, and it stands for ways that are forbidden: the sum of two is no overflow.
constexpr int64_t kForbidden = int64_t{1} << 61;
constexpr Wide kBaseQuantaMax = Wide{1} << 86;
// Phases whose costs are held at a time, and those of aligned runs of 2, 4, 8, ... of them.
constexpr uint32_t kWindow = 512;
constexpr uint32_t kLevels = 10;
static_assert(kWindow == 1u << (kLevels - 1));
// Fewer blocks than these are taken through every phase.
constexpr size_t kRunsPay = 8;
// Blocks that are taken through a window together.
constexpr size_t kBatch = size_t{1} << 14;

Wide QuantaOf(uint64_t units, uint64_t quanta_per_second, uint64_t rate) {
  return Wide{units} * quanta_per_second / rate;
}

// What one option takes of one resource, for a block of one class.
struct Term {
  size_t resource;
  int64_t quanta;
};

// An option's loads for blocks of one class. Those of a list stand together.
class ClassCosts {
 public:
  // False if a path over all phases could come to kForbidden.
  bool Prepare(const Instance& instance, const Certificate& certificate,
               const BlockClass& block_class, Wide room_sum) {
    const OptionTable& table = instance.tables[block_class.table];
    terms_.clear();
    first_term_.assign(1, 0);
    first_option_.assign(1, 0);
    const Wide quanta_max = Wide{kForbidden / 2} / instance.phase_count;
    if (room_sum > (Wide{kForbidden / 2 - 1} << kRoomBits) / block_class.bytes) return false;
    for (size_t accesses = 0; accesses <= table.accesses_max(); ++accesses) {
      for (StateIndex from = 0; from < table.state_count(); ++from) {
        for (StateIndex to = 0; to < table.state_count(); ++to) {
          for (const Option& option : table.Options(accesses, from, to)) {
            for (size_t r = 0; r < instance.resources.size(); ++r) {
              uint64_t units = option.per_byte[r] * block_class.bytes;
              if (r == instance.compute_resource)
                units += option.recomputes * block_class.recompute_units;
              if (units == 0) continue;
              const Wide quanta = QuantaOf(units, certificate.quanta_per_second,
                                           instance.resources[r].units_per_second);
              if (quanta > quanta_max) return false;
              terms_.push_back({r, static_cast<int64_t>(quanta)});
            }
            first_term_.push_back(terms_.size());
          }
          first_option_.push_back(first_term_.size() - 1);
        }
      }
    }
    return true;
  }

  // The cheapest option of list number `list`, at one phase's shares.
  int64_t Cheapest(size_t list, const uint64_t* share) const {
    int64_t cheapest = kForbidden;
    for (size_t option = first_option_[list]; option < first_option_[list + 1]; ++option) {
      Wide cost = 0;
      for (size_t i = first_term_[option]; i < first_term_[option + 1]; ++i)
        cost += Wide{share[terms_[i].resource]} * static_cast<uint64_t>(terms_[i].quanta);
      cheapest = std::min(cheapest, static_cast<int64_t>(cost >> kShareBits));
    }
    return cheapest;
  }

 private:
  std::vector<Term> terms_;
  std::vector<size_t> first_term_;    // by option, and one more
  std::vector<size_t> first_option_;  // by (accesses, from, to), and one more
};

// Blocks of one class, taken from phase to phase.
class ClassWalk {
 public:
  ClassWalk(const Instance& instance, const Certificate& certificate, const ClassCosts& costs,
            const BlockClass& block_class)
      : instance_(instance),
        certificate_(certificate),
        costs_(costs),
        block_class_(block_class),
        table_(instance.tables[block_class.table]) {}

  // The sum of the blocks' cheapest ways; none if `go_on` ended it.
  std::optional<__int128> Sum(const uint32_t* blocks, size_t count,
                              const std::function<bool()>& go_on) {
    uint32_t first = instance_.phase_count, last = 0;
    const size_t states = table_.state_count();
    reached_.resize(count);
    reached_cost_.resize(count * states);
    for (size_t i = 0; i < count; ++i) {
      first = std::min(first, instance_.birth[blocks[i]]);
      last = std::max(last, instance_.death[blocks[i]]);
      for (StateIndex state = 0; state < states; ++state)
        reached_cost_[i * states + state] =
            (block_class_.start_states >> state & 1) != 0 ? 0 : kForbidden;
      reached_[i] = instance_.first_access[blocks[i]];
    }
    while (first < last) {
      if (go_on && !go_on()) return std::nullopt;
      const uint32_t end = first + std::min(kWindow, last - first);
      FillIdle(first, end, count >= kRunsPay ? kLevels : 1);
      levels_ = 1;
      if (count >= kRunsPay) JoinRuns(end - first);
      for (size_t i = 0; i < count; ++i)
        Advance(blocks[i], first, end, &reached_cost_[i * states], reached_[i]);
      first = end;
    }
    __int128 sum = 0;
    for (const int64_t* cost = reached_cost_.data(); count > 0; --count, cost += states)
      sum += *std::min_element(cost, cost + states);
    return sum;
  }

 private:
  int64_t RoomCost(uint32_t phase, StateIndex state) const {
    Wide per_byte = 0;
    for (size_t tier = 0; tier < certificate_.tier_count; ++tier) {
      if ((table_.states()[state] >> tier & 1) != 0)
        per_byte += certificate_.room[size_t{phase} * certificate_.tier_count + tier];
    }
    return static_cast<int64_t>(per_byte * block_class_.bytes >> kRoomBits);
  }

  // Writes what each pair of states costs in the phase.
  void FillEdges(uint32_t phase, size_t accesses, int64_t* edges) const {
    const size_t states = table_.state_count();
    const uint64_t* share = certificate_.share.data() + size_t{phase} * certificate_.resource_count;
    for (StateIndex from = 0; from < states; ++from) {
      const int64_t room = RoomCost(phase, from);
      for (StateIndex to = 0; to < states; ++to) {
        const size_t list = (accesses * states + from) * states + to;
        edges[from * states + to] = std::min(kForbidden, room + costs_.Cheapest(list, share));
      }
    }
  }

  // With room for so many levels of runs.
  void FillIdle(uint32_t first, uint32_t end, size_t levels) {
    const size_t pairs = table_.state_count() * table_.state_count();
    idle_.resize(pairs * kWindow * levels);
    for (uint32_t phase = first; phase < end; ++phase)
      FillEdges(phase, 0, idle_.data() + (phase - first) * pairs);
    once_.resize(pairs * kWindow);
    once_filled_.fill(false);
  }

  // The costs of run `run` of 2^level phases of the window.
  int64_t* Idle(uint32_t level, uint32_t run) {
    return idle_.data() +
           (size_t{level} * kWindow + run) * table_.state_count() * table_.state_count();
  }

  // Each run out of its two halves.
  void JoinRuns(uint32_t phases) {
    for (; phases >> levels_ != 0; ++levels_) {
      for (uint32_t run = 0; run < phases >> levels_; ++run) {
        Join(Idle(levels_ - 1, 2 * run), Idle(levels_ - 1, 2 * run + 1), Idle(levels_, run));
      }
    }
  }
  void Join(const int64_t* before, const int64_t* behind, int64_t* joined) const {
    const size_t states = table_.state_count();
    for (size_t from = 0; from < states; ++from) {
      for (size_t to = 0; to < states; ++to) {
        int64_t cheapest = kForbidden;
        for (size_t between = 0; between < states; ++between) {
          cheapest =
              std::min(cheapest, before[from * states + between] + behind[between * states + to]);
        }
        joined[from * states + to] = cheapest;
      }
    }
  }

  // Costs of a phase with one access: kept for the blocks of the class that are read in it too.
  const int64_t* OneAccess(uint32_t phase, uint32_t window) {
    int64_t* const edges =
        once_.data() + (phase - window) * table_.state_count() * table_.state_count();
    if (!once_filled_[phase - window]) FillEdges(phase, 1, edges);
    once_filled_[phase - window] = true;
    return edges;
  }

  // Takes the block from `cost`, what it costs at least to be in each state, and its next access
  // through the window.
  using Advancing = void (ClassWalk::*)(uint32_t block, uint32_t window, uint32_t end,
                                        int64_t* cost, uint64_t& access);
  template <size_t... kFewer>
  static constexpr std::array<Advancing, kStatesMax> ByStates(std::index_sequence<kFewer...>) {
    return {&ClassWalk::AdvanceStates<kFewer + 1>...};
  }
  void Advance(uint32_t block, uint32_t window, uint32_t end, int64_t* cost, uint64_t& access) {
    static constexpr std::array<Advancing, kStatesMax> kByStates =
        ByStates(std::make_index_sequence<kStatesMax>());
    (this->*kByStates[table_.state_count() - 1])(block, window, end, cost, access);
  }

  template <size_t kStates>
  void AdvanceStates(uint32_t block, uint32_t window, uint32_t end, int64_t* reached_cost,
                     uint64_t& access) {
    const uint64_t last_access = instance_.first_access[block + 1];
    std::array<int64_t, kStates> cost;
    std::copy_n(reached_cost, kStates, cost.begin());
    uint32_t phase = std::max(window, instance_.birth[block]);
    end = std::min(end, instance_.death[block]);
    while (phase < end) {
      const uint32_t next =
          access == last_access ? end : std::min(end, instance_.access_phase[access]);
      while (phase < next) {
        // The longest run that begins here and does not go beyond `next`.
        const uint32_t at = phase - window;
        const auto fits = static_cast<uint32_t>(std::bit_width(next - phase)) - 1;
        const uint32_t level =
            std::min({fits, levels_ - 1, static_cast<uint32_t>(std::countr_zero(at | kWindow))});
        Step<kStates>(Idle(level, at >> level), cost);
        phase += 1u << level;
      }
      if (phase == end) break;
      size_t accesses = 0;
      for (; access < last_access && instance_.access_phase[access] == phase; ++access) ++accesses;
      if (accesses == 1) {
        Step<kStates>(OneAccess(phase, window), cost);
      } else {
        std::array<int64_t, kStates * kStates> edges;
        FillEdges(phase, accesses, edges.data());
        Step<kStates>(edges.data(), cost);
      }
      ++phase;
    }
    std::copy(cost.begin(), cost.end(), reached_cost);
  }

  // Written out by the compiler: as a loop it took three times as long with three states.
  template <size_t kStates>
  static void Step(const int64_t* edges, std::array<int64_t, kStates>& cost) {
    cost = Next(edges, cost, std::make_index_sequence<kStates>());
  }
  template <size_t kStates, size_t... kTo>
  static std::array<int64_t, kStates> Next(const int64_t* edges,
                                           const std::array<int64_t, kStates>& cost,
                                           std::index_sequence<kTo...>) {
    return {Cheapest(edges + kTo, cost, std::make_index_sequence<kStates>())...};
  }
  template <size_t kStates, size_t... kFrom>
  static int64_t Cheapest(const int64_t* into, const std::array<int64_t, kStates>& cost,
                          std::index_sequence<kFrom...>) {
    int64_t cheapest = kForbidden;
    ((cheapest = std::min(cheapest, cost[kFrom] + into[kFrom * kStates])), ...);
    return cheapest;
  }

  const Instance& instance_;
  const Certificate& certificate_;
  const ClassCosts& costs_;
  const BlockClass& block_class_;
  const OptionTable& table_;
  std::vector<int64_t> idle_;  // [level][run of 2^level phases of the window][from][to]
  uint32_t levels_ = 1;        // that are filled
  std::vector<int64_t> once_;  // [phase of the window][from][to], with one access
  std::array<bool, kWindow> once_filled_{};
  // How far blocks have come: what it costs at least to be in each state, and the next access.
  std::vector<int64_t> reached_cost_;  // [block][state]
  std::vector<uint64_t> reached_;      // [block]
};

absl::Status CheckPrices(const Instance& instance, const Certificate& certificate) {
  if (certificate.phase_count != instance.phase_count ||
      certificate.resource_count != instance.resources.size() ||
      certificate.tier_count != instance.tiers.size() ||
      certificate.share.size() != size_t{certificate.phase_count} * certificate.resource_count ||
      certificate.room.size() != size_t{certificate.phase_count} * certificate.tier_count)
    return absl::InvalidArgumentError(absl::StrFormat(
        "prices for %d phases of %d resources and %d tiers; the instance has %d of %d and %d",
        certificate.phase_count, certificate.resource_count, certificate.tier_count,
        instance.phase_count, instance.resources.size(), instance.tiers.size()));
  if (certificate.quanta_per_second == 0 || certificate.quanta_per_second > kQuantaPerSecondMax)
    return absl::InvalidArgumentError(absl::StrFormat("%d quanta a second; there can be 1 to %d",
                                                      certificate.quanta_per_second,
                                                      kQuantaPerSecondMax));
  for (uint32_t phase = 0; phase < certificate.phase_count; ++phase) {
    const auto begin = certificate.share.begin() +
                       static_cast<ptrdiff_t>(size_t{phase} * certificate.resource_count);
    const Wide sum = std::accumulate(begin, begin + certificate.resource_count, Wide{0});
    if (sum > Wide{1} << kShareBits)
      return absl::InvalidArgumentError(absl::StrFormat(
          "the shares of phase %d sum to more than 1, which is 2^%d", phase, kShareBits));
  }
  for (size_t i = 0; i < certificate.room.size(); ++i) {
    if (certificate.room[i] > kRoomMax)
      return absl::InvalidArgumentError(absl::StrFormat(
          "room in tier %d in phase %d has the price %d; the limit is %d",
          i % certificate.tier_count, i / certificate.tier_count, certificate.room[i], kRoomMax));
  }
  return absl::OkStatus();
}

// What base loads cost, less the price of all room.
absl::StatusOr<__int128> FixedQuanta(const Instance& instance, const Certificate& certificate) {
  __int128 fixed = 0;
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    Wide cost = 0;
    for (size_t r = 0; r < instance.resources.size(); ++r) {
      const Wide quanta = QuantaOf(instance.BaseLoad(phase)[r], certificate.quanta_per_second,
                                   instance.resources[r].units_per_second);
      if (quanta > kBaseQuantaMax)
        return absl::InvalidArgumentError(
            absl::StrFormat("the base load of resource %s in phase %d takes more than 2^86 quanta",
                            instance.resources[r].name, phase));
      cost += quanta * certificate.share[size_t{phase} * certificate.resource_count + r];
    }
    fixed += static_cast<__int128>(cost >> kShareBits);
    for (size_t tier = 0; tier < instance.tiers.size(); ++tier) {
      const Wide price = Wide{certificate.room[size_t{phase} * certificate.tier_count + tier]} *
                         instance.tiers[tier].capacity_bytes;
      fixed -= static_cast<__int128>((price + ((Wide{1} << kRoomBits) - 1)) >> kRoomBits);
    }
  }
  return fixed;
}

// Blocks' numbers, those of class 0 first; class c's begin at first[c].
struct ByClass {
  std::vector<uint32_t> blocks;
  std::vector<size_t> first;
};

ByClass SortByClass(const Instance& instance) {
  ByClass sorted{.blocks = std::vector<uint32_t>(instance.block_count()),
                 .first = std::vector<size_t>(instance.classes.size() + 1)};
  for (const uint32_t block_class : instance.block_class) ++sorted.first[block_class + 1];
  std::partial_sum(sorted.first.begin(), sorted.first.end(), sorted.first.begin());
  std::vector<size_t> next = sorted.first;
  for (uint32_t block = 0; block < instance.block_count(); ++block)
    sorted.blocks[next[instance.block_class[block]]++] = block;
  return sorted;
}

std::string HexText(const wire::Sha256Digest& digest) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

}  // namespace

absl::StatusOr<__int128> ProvenQuanta(const Instance& instance, const Certificate& certificate,
                                      const std::function<bool()>& go_on) {
  const absl::Status status = CheckPrices(instance, certificate);
  if (!status.ok()) return status;
  absl::StatusOr<__int128> quanta = FixedQuanta(instance, certificate);
  if (!quanta.ok()) return quanta;
  const Wide room_sum = std::accumulate(certificate.room.begin(), certificate.room.end(), Wide{0});
  const ByClass sorted = SortByClass(instance);
  ClassCosts costs;
  for (size_t c = 0; c < instance.classes.size(); ++c) {
    const size_t count = sorted.first[c + 1] - sorted.first[c];
    if (count == 0) continue;
    if (!costs.Prepare(instance, certificate, instance.classes[c], room_sum))
      return absl::InvalidArgumentError(
          absl::StrFormat("a block of class %d could cost 2^61 quanta or more", c));
    ClassWalk walk(instance, certificate, costs, instance.classes[c]);
    for (size_t done = 0; done < count; done += kBatch) {
      const std::optional<__int128> sum = walk.Sum(sorted.blocks.data() + sorted.first[c] + done,
                                                   std::min(kBatch, count - done), go_on);
      if (!sum) return absl::CancelledError("the evaluation of prices was ended");
      *quanta += *sum;
    }
  }
  return quanta;
}

absl::StatusOr<double> VerifiedSeconds(const Instance& instance, const Certificate& certificate,
                                       const std::function<bool()>& go_on) {
  const wire::Sha256Digest digest = InstanceDigest(instance);
  if (certificate.instance_digest != digest)
    return absl::FailedPreconditionError(absl::StrFormat(
        "the certificate is for another instance: a placement problem of another trace, machine, "
        "model, or of other options. It has prices for %d phases of %d resources and %d tiers; "
        "this problem has %d of %d and %d, and %d blocks with %d accesses. The digest of its "
        "problem is %s, that of this one is %s",
        certificate.phase_count, certificate.resource_count, certificate.tier_count,
        instance.phase_count, instance.resources.size(), instance.tiers.size(),
        instance.block_count(), instance.access_count(), HexText(certificate.instance_digest),
        HexText(digest)));
  const absl::StatusOr<__int128> proven = ProvenQuanta(instance, certificate, go_on);
  if (!proven.ok()) return proven.status();
  if (certificate.claimed_quanta > *proven)
    return absl::FailedPreconditionError(
        absl::StrFormat("the certificate claims %d quanta, and its prices prove %d",
                        absl::int128(certificate.claimed_quanta), absl::int128(*proven)));
  return SecondsOf(certificate.claimed_quanta, certificate.quanta_per_second);
}

double SecondsOf(__int128 quanta, uint64_t quanta_per_second) {
  if (quanta == 0) return 0;
  // Three roundings to the nearest at most: of either number and of the quotient.
  double seconds = static_cast<double>(quanta) / static_cast<double>(quanta_per_second);
  for (int i = 0; i < 3; ++i)
    seconds = std::nextafter(seconds, -std::numeric_limits<double>::infinity());
  return seconds;
}

}  // namespace kvtier::bound
