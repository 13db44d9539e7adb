// Identifiers as types. An id of one kind does not convert to another, nor to a number by accident.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <utility>

namespace kvtier {

template <typename Tag, typename Rep>
class StrongId {
 public:
  using rep = Rep;
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  constexpr auto operator<=>(const StrongId&) const = default;

  template <typename H>
  friend H AbslHashValue(H h, StrongId id) {
    return H::combine(std::move(h), id.value_);
  }

 private:
  Rep value_ = 0;
};

// Index into the configured tenants of one engine.
using TenantId = StrongId<struct TenantTag, uint16_t>;
// Index into the registered models of one engine.
using ModelId = StrongId<struct ModelTag, uint16_t>;
// Index into the engine's pools, fastest tier first.
using PoolId = StrongId<struct PoolTag, uint8_t>;
// Index into a model's planes.
using PlaneIndex = StrongId<struct PlaneTag, uint16_t>;
// Number of a segment within one pool.
using SegmentIndex = StrongId<struct SegmentTag, uint32_t>;
// Never reused within one daemon's life; zero is no session.
using SessionId = StrongId<struct SessionTag, uint64_t>;
using LeaseId = StrongId<struct LeaseTag, uint64_t>;
using ReservationId = StrongId<struct ReservationTag, uint64_t>;
// An open read section of a thread that reads or writes slots on the engine's behalf.
using SectionId = StrongId<struct SectionTag, uint64_t>;
// A client that maps shared memory, from its attachment until its process is gone; zero is none.
using ShmClientId = StrongId<struct ShmClientTag, uint32_t>;
// Names one submitted copy.
using CopyTicket = StrongId<struct CopyTicketTag, uint64_t>;

// A chunk's row in the block table: dense, reused after the chunk is gone.
using RowIndex = uint32_t;
inline constexpr RowIndex kNoRow = 0xffffffffu;

}  // namespace kvtier
