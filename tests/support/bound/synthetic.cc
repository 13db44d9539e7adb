#include "tests/support/bound/synthetic.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "tiering/base/check.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

using bound::Instance;
using bound::Option;
using bound::OptionTable;
using bound::StateIndex;

// Roughly normal, of mean 0 and deviation 1: a sum of four uniform numbers out of one draw.
float NormalLike(Rng& rng) {
  const uint64_t bits = rng.Next();
  const auto sum = static_cast<float>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                      ((bits >> 32) & 0xffff) + (bits >> 48));
  return (sum / 65536.0f - 2.0f) * 1.7320508f;
}

enum Load : uint8_t { kGpu, kSlow, kPeer, kLoads };

Option Loads(std::initializer_list<Load> loads) {
  Option option;
  for (const Load load : loads) ++option.per_byte[load];
  return option;
}

// Between the GPU's memory and a slower one; `keeps` says that leaving is free.
OptionTable TwoTiers(bool keeps) {
  constexpr StateIndex kIn = 0, kOut = 1;
  OptionTable table({static_cast<bound::TierSet>(keeps ? 3 : 1), 2}, 1);
  table.Add(0, kIn, kIn, {});
  table.Add(0, kIn, kOut, keeps ? Option() : Loads({kGpu, kSlow}));
  table.Add(0, kOut, kIn, Loads({kGpu, kSlow}));
  table.Add(0, kOut, kOut, {});
  table.Add(1, kIn, kIn, Loads({kGpu}));
  table.Add(1, kIn, kOut, keeps ? Loads({kGpu}) : Loads({kGpu, kSlow}));
  if (keeps) {
    table.Add(1, kIn, kIn, Loads({kSlow}));
    table.Add(1, kIn, kOut, Loads({kSlow}));
  }
  table.Add(1, kOut, kIn, Loads({kGpu, kSlow}));
  table.Add(1, kOut, kOut, Loads({kSlow}));
  return table;
}

OptionTable ThreeTiers() {
  // Which loads a copy in each state can be read through; the host's copy is always there.
  const std::vector<std::vector<Load>> readable = {{kGpu, kSlow}, {kPeer, kSlow}, {kSlow}};
  OptionTable table({5, 6, 4}, 1);
  for (size_t accesses = 0; accesses <= 1; ++accesses) {
    for (StateIndex from = 0; from < 3; ++from) {
      for (StateIndex to = 0; to < 3; ++to) {
        const bool promoted = from != to && to != 2;
        if (accesses == 0 && !promoted) {
          table.Add(0, from, to, {});
          continue;
        }
        for (const Load read : readable[from]) {
          Option option = Loads({read});
          if (promoted) ++option.per_byte[to == 0 ? kGpu : kPeer];
          table.Add(accesses, from, to, option);
        }
      }
    }
  }
  return table;
}

// Only the link counts: reads of the GPU's own memory are part of the floor.
OptionTable Link(bool strict) {
  constexpr StateIndex kIn = 0, kOut = 1;
  OptionTable table({3, 2}, 1);
  for (size_t accesses = 0; accesses <= 1; ++accesses) {
    table.Add(accesses, kIn, kIn, {});
    table.Add(accesses, kIn, kOut, {});
    if (accesses == 1 && strict) continue;
    table.Add(accesses, kOut, kIn, Loads({kSlow}));
    table.Add(accesses, kOut, kOut, accesses == 0 ? Option() : Loads({kSlow}));
  }
  return table;
}

OptionTable TableOf(SyntheticModel model) {
  switch (model) {
    case SyntheticModel::kExclusive:
    case SyntheticModel::kInclusive:
      return TwoTiers(model == SyntheticModel::kInclusive);
    case SyntheticModel::kThreeTiers:
      return ThreeTiers();
    case SyntheticModel::kStream:
    case SyntheticModel::kStrict:
      return Link(model == SyntheticModel::kStrict);
  }
  KVTIER_CHECK(false);
}

// Steps in which each block of one layer is read, ascending.
using Reads = std::vector<std::vector<uint32_t>>;

// Of a layer's blocks, block b is born in step birth[b], ascending.
Reads ReadsOfLayer(const SyntheticOptions& options, const std::vector<uint32_t>& birth, Rng& rng) {
  const size_t count = birth.size();
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
  std::vector<float> lasting(count), drift(count), score;
  for (size_t b = 0; b < count; ++b) {
    lasting[b] = static_cast<float>(-options.rank_exponent * std::log(order[b] + 1.0));
    drift[b] = static_cast<float>(options.drift) * NormalLike(rng);
  }
  lasting[0] += 4;  // the sink that attention always reads
  const auto memory = static_cast<float>(options.persistence);
  const auto fresh =
      static_cast<float>(options.drift * std::sqrt(1 - options.persistence * options.persistence));
  const auto noise = static_cast<float>(options.noise);
  Reads reads(count);
  size_t living = 0;
  for (uint32_t step = 0; step < options.steps; ++step) {
    while (living < count && birth[living] <= step) ++living;
    score.resize(living);
    for (size_t b = 0; b < living; ++b) {
      drift[b] = memory * drift[b] + fresh * NormalLike(rng);
      score[b] = lasting[b] + drift[b] + noise * NormalLike(rng) + (b + 8 >= living ? 2.0f : 0.0f);
    }
    const auto wanted = static_cast<size_t>(
        std::max(1.0, std::round(options.read_share * static_cast<double>(living))));
    std::vector<float> ranked = score;
    std::nth_element(ranked.begin(), ranked.begin() + static_cast<ptrdiff_t>(wanted - 1),
                     ranked.end(), std::greater<>());
    const float threshold = ranked[wanted - 1];
    size_t taken = 0;
    for (size_t b = 0; b < living && taken < wanted; ++b) {
      if (score[b] < threshold) continue;
      reads[b].push_back(step);
      ++taken;
    }
  }
  return reads;
}

void AddMachine(const SyntheticOptions& options, uint64_t all_bytes, Instance& instance) {
  const bool three = options.model == SyntheticModel::kThreeTiers;
  const auto share = [all_bytes](double part) {
    return static_cast<uint64_t>(part * static_cast<double>(all_bytes));
  };
  instance.tiers = {{"gpu", share(options.gpu_share)}};
  if (three) instance.tiers.push_back({"peer", share(options.peer_share)});
  instance.tiers.push_back({"host", all_bytes});  // never binds
  instance.resources = {{"gpu", options.gpu_rate}, {"host", options.slow_rate}};
  if (three) instance.resources.push_back({"peer", 3 * options.slow_rate});
  instance.compute_resource = static_cast<uint8_t>(instance.resources.size());
  instance.resources.push_back({"compute", 1'000'000'000'000});
}

}  // namespace

Instance Synthetic(const SyntheticOptions& options) {
  KVTIER_CHECK(options.layers > 0 && options.steps > 0 && options.classes > 0);
  KVTIER_CHECK(options.blocks >= options.layers && options.blocks % options.layers == 0);
  Rng rng(options.seed);
  const bool strict = options.model == SyntheticModel::kStrict;
  const uint32_t halves = strict ? 2 : 1;
  Instance instance;
  instance.tables = {TableOf(options.model)};
  for (uint32_t c = 0; c < options.classes; ++c) {
    bound::BlockClass block_class;
    block_class.bytes = (c + 1) * options.block_bytes;
    block_class.start_states =
        static_cast<bound::StateSet>((1u << instance.tables[0].state_count()) - 1);
    instance.classes.push_back(block_class);
  }
  instance.phase_count = options.steps * options.layers * halves;

  const uint32_t in_layer = options.blocks / options.layers;
  std::vector<uint32_t> birth(in_layer, 0);
  const auto old = static_cast<uint32_t>(
      std::clamp((1 - options.growing_share) * in_layer, 1.0, static_cast<double>(in_layer)));
  for (uint32_t b = old; b < in_layer; ++b) {
    birth[b] = static_cast<uint32_t>(uint64_t{b - old} * options.steps / (in_layer - old));
  }
  uint64_t all_bytes = 0;
  std::vector<uint64_t> read_bytes(instance.phase_count, 0);
  instance.first_access.push_back(0);
  for (uint32_t layer = 0; layer < options.layers; ++layer) {
    const Reads reads = ReadsOfLayer(options, birth, rng);
    for (uint32_t b = 0; b < in_layer; ++b) {
      const uint32_t number = static_cast<uint32_t>(instance.block_class.size());
      const uint32_t block_class = number % options.classes;
      instance.block_class.push_back(block_class);
      instance.birth.push_back(birth[b] * options.layers * halves);
      instance.death.push_back(instance.phase_count);
      all_bytes += instance.classes[block_class].bytes;
      for (const uint32_t step : reads[b]) {
        const uint32_t phase = (step * options.layers + layer) * halves + (halves - 1);
        instance.access_phase.push_back(phase);
        read_bytes[phase] += instance.classes[block_class].bytes;
      }
      instance.first_access.push_back(instance.access_phase.size());
    }
  }
  AddMachine(options, all_bytes, instance);
  instance.base_load.assign(instance.phase_count * instance.resources.size(), 0);
  const double floor_units = options.floor_share * 1e12 / static_cast<double>(options.slow_rate);
  for (uint32_t phase = 0; phase < instance.phase_count; ++phase) {
    instance.base_load[phase * instance.resources.size() + instance.compute_resource] =
        static_cast<uint64_t>(floor_units * static_cast<double>(read_bytes[phase]));
  }
  return instance;
}

}  // namespace kvtier::test_support
