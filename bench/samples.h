// What figures of short accesses share: the clock, the keys, and samples beside their ceiling.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "bench/figure.h"
#include "proto/wire/chunk_key.h"
#include "tiering/base/rng.h"

namespace kvtier::bench {

using Clock = std::chrono::steady_clock;

// Of one of `accesses`.
inline double NsSince(Clock::time_point start, uint64_t accesses) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count() /
         static_cast<double>(accesses);
}

// The key of a chunk with this number, spread like a hash.
inline wire::ChunkKey KeyOf(uint64_t number) {
  wire::ChunkKey key;
  const uint64_t words[] = {Rng(number).Next(), Rng(number ^ 0x5851f42d4c957f2dull).Next()};
  std::memcpy(key.bytes.data(), words, sizeof(words));
  return key;
}

// Nanoseconds, each measured beside its ceiling.
class Samples {
 public:
  void Add(double ns, double ceiling_ns) {
    ns_.push_back(ns);
    ceiling_ns_.push_back(ceiling_ns);
    ratios_.push_back(ns / ceiling_ns);
  }
  // There are some.
  Figure ToFigure(std::string name, std::string note) const {
    Figure figure;
    figure.name = std::move(name);
    figure.p50 = Quantile(ns_, 0.5);
    figure.p99 = Quantile(ns_, 0.99);
    figure.value = figure.p50;
    figure.unit = "ns";
    figure.ceiling = Quantile(ceiling_ns_, 0.5);
    figure.ratio = Quantile(ratios_, 0.5);
    figure.runs = static_cast<int>(ns_.size());
    figure.note = std::move(note);
    return figure;
  }

 private:
  std::vector<double> ns_, ceiling_ns_, ratios_;
};

}  // namespace kvtier::bench
