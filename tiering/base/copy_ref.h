// Where one copy of a block is, in 32 bits: pool, segment and slot.
#pragma once

#include <cstdint>

#include "tiering/base/check.h"
#include "tiering/base/ids.h"

namespace kvtier {

// 4 bits pool, 14 bits segment, 14 bits slot: 15 pools (the sixteenth would collide with "none"),
// each of at most 16,384 segments of at most 16,384 slots: 1 TiB a pool with the default segments
// of 64 MiB. Larger pools take larger segments.
class CopyRef {
 public:
  static constexpr uint32_t kPoolsMax = 15;
  static constexpr uint32_t kSegmentsMax = 1u << 14;
  static constexpr uint32_t kSlotsMax = 1u << 14;

  constexpr CopyRef() = default;  // none
  constexpr CopyRef(PoolId pool, SegmentIndex segment, uint32_t slot)
      : bits_(uint32_t{pool.value()} << 28 | segment.value() << 14 | slot) {
    KVTIER_CHECK(pool.value() < kPoolsMax && segment.value() < kSegmentsMax && slot < kSlotsMax);
  }

  constexpr bool valid() const { return bits_ != kNone; }
  constexpr PoolId pool() const { return PoolId(static_cast<uint8_t>(bits_ >> 28)); }
  constexpr SegmentIndex segment() const { return SegmentIndex(bits_ >> 14 & 0x3fff); }
  constexpr uint32_t slot() const { return bits_ & 0x3fff; }
  constexpr uint32_t bits() const { return bits_; }
  constexpr bool operator==(const CopyRef&) const = default;

 private:
  static constexpr uint32_t kNone = 0xffffffffu;
  uint32_t bits_ = kNone;
};

}  // namespace kvtier
