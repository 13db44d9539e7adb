// Products of any run of consecutive phases' matrices out of two stored ones (a disjoint sparse
// table).
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace kvtier::bound {

// Where entries stand and in which order they are made; what they hold is the caller's. Level 0
// has each phase's own matrix. Level l cuts the phases into halves of 2^l: an entry of an even half
// is the product of its phase and all behind it in the half, one of an odd half that of all before
// it in the half and its own. The run [first, last], first < last, is then entry (l, first) times
// entry (l, last), l being the level at which the two fall into the halves of one pair; that of one
// phase is entry (0, first).
class PhaseTable {
 public:
  explicit PhaseTable(uint32_t phases)
      : phases_(phases),
        levels_(phases > 1 ? static_cast<uint32_t>(std::bit_width(phases - 1)) : 1) {}

  uint32_t phases() const { return phases_; }
  uint32_t levels() const { return levels_; }
  size_t entries() const { return size_t{phases_} * levels_; }
  size_t Entry(uint32_t level, uint32_t phase) const { return size_t{level} * phases_ + phase; }
  static uint32_t LevelOf(uint32_t first, uint32_t last) {
    return static_cast<uint32_t>(std::bit_width((first ^ last) | 1)) - 1;
  }

  // Of a level above 0: calls start(phase) for entries that are their phase's matrix, and
  // join(phase, neighbour) for those that are the product of it and entry `neighbour` of the level
  // (in the order of the two phases), which was visited before. Halves without a partner have no
  // use and are left out.
  template <typename Start, typename Join>
  void Build(uint32_t level, const Start& start, const Join& join) const {
    ForHalves(level, [&](uint32_t begin, uint32_t end, bool behind) {
      if (behind) {
        start(begin);
        for (uint32_t phase = begin + 1; phase < end; ++phase) join(phase, phase - 1);
      } else {
        start(end - 1);
        for (uint32_t phase = end - 1; phase-- > begin;) join(phase, phase + 1);
      }
    });
  }

  // The same joins, each before those that it was made of.
  template <typename Split>
  void Unwind(uint32_t level, const Split& split) const {
    ForHalves(level, [&](uint32_t begin, uint32_t end, bool behind) {
      if (behind) {
        for (uint32_t phase = end - 1; phase > begin; --phase) split(phase, phase - 1);
      } else {
        for (uint32_t phase = begin; phase + 1 < end; ++phase) split(phase, phase + 1);
      }
    });
  }

 private:
  template <typename Half>
  void ForHalves(uint32_t level, const Half& half) const {
    const uint64_t size = uint64_t{1} << level;
    for (uint64_t begin = 0; begin + size < phases_; begin += 2 * size) {
      const auto middle = static_cast<uint32_t>(begin + size);
      half(static_cast<uint32_t>(begin), middle, false);
      half(middle, static_cast<uint32_t>(std::min<uint64_t>(phases_, begin + 2 * size)), true);
    }
  }

  uint32_t phases_ = 0;
  uint32_t levels_ = 0;
};

}  // namespace kvtier::bound
