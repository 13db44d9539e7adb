// Where a copy of a block is, in one word of shared memory.
#pragma once

#include <cstdint>

namespace kvtier::wire {

// Pool, segment and slot, and which use of the segment is meant. The engine's CopyRef has the same
// low 32 bits (tiering/base/copy_ref.h).
//
//   63      valid
//   62..32  incarnation: number of this use of the segment by one tenant and slot size; never 0
//   31..28  pool, 27..14 segment, 13..0 slot
//
// Zero: there is no copy. The address is that of the segment in the reader's own mapping plus
// slot * slot_bytes; both come with the segment (attach_messages.h) and hold for one incarnation.
class ResidencyWord {
 public:
  static constexpr uint64_t kValid = uint64_t{1} << 63;
  static constexpr uint32_t kIncarnationMax = 0x7fffffffu;

  constexpr ResidencyWord() = default;
  constexpr explicit ResidencyWord(uint64_t bits) : bits_(bits) {}
  constexpr ResidencyWord(uint32_t copy_bits, uint32_t incarnation)
      : bits_(kValid | uint64_t{incarnation & kIncarnationMax} << 32 | copy_bits) {}

  constexpr bool valid() const { return (bits_ & kValid) != 0; }
  constexpr uint64_t bits() const { return bits_; }
  constexpr uint32_t incarnation() const {
    return static_cast<uint32_t>(bits_ >> 32) & kIncarnationMax;
  }
  constexpr uint32_t copy_bits() const { return static_cast<uint32_t>(bits_); }
  constexpr uint32_t pool() const { return copy_bits() >> 28; }
  constexpr uint32_t segment() const { return copy_bits() >> 14 & 0x3fff; }
  constexpr uint32_t slot() const { return copy_bits() & 0x3fff; }
  constexpr bool operator==(const ResidencyWord&) const = default;

 private:
  uint64_t bits_ = 0;
};

}  // namespace kvtier::wire
