// What a block's path costs at the bound's prices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiering/bound/instance.h"
#include "tiering/bound/prices.h"

namespace kvtier::bound {

// Which part of each kind of priced cost counts beside what a path really adds to phases' times.
struct PriceWeights {
  double edges = 0;  // of what reads and moves load
  double room = 0;   // of what is kept
};

// Seconds. Immutable; safe to read from any thread. `instance` stays valid.
class PathPrices {
 public:
  PathPrices(const Instance& instance, const Prices& prices);

  // Of a whole block's cheapest option; the edge has one.
  double Edge(uint32_t block_class, uint32_t phase, size_t accesses, StateIndex from,
              StateIndex to) const;
  // Of being in a state at the starts of phases [begin, end), for one byte.
  double Stay(size_t table, StateIndex state, uint32_t begin, uint32_t end) const {
    const double* const sum = &room_sum_[(table * states_ + state) * (phases_ + 1)];
    return sum[end] - sum[begin];
  }
  // That sum from the first phase on.
  const double* RoomSum(size_t table, StateIndex state) const {
    return &room_sum_[(table * states_ + state) * (phases_ + 1)];
  }

 private:
  const Instance* instance_;
  size_t phases_;
  size_t states_ = 0;               // the most of any table
  std::vector<double> unit_price_;  // [phase][resource], seconds a unit
  std::vector<double> room_sum_;    // [table][state][phase, and one more]
};

}  // namespace kvtier::bound
