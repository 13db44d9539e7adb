// What every CopyEngine refuses before it starts anything, in one place so that all refuse the
// same.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "tiering/memory/memory_pool.h"
#include "tiering/move/copy_engine.h"

namespace kvtier {

// INVALID_ARGUMENT unless `address` and `bytes` lie within a segment that `pools` could have.
// `role` is "source" or "destination". Whether the segment exists is for the pool to know.
inline absl::Status CheckSlotAddress(const char* role, const SlotAddress& address, Bytes bytes,
                                     absl::Span<MemoryPool* const> pools) {
  if (address.pool.value() >= pools.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("copy %s: pool %d, but there are %d pools",
                                                      role, address.pool.value(), pools.size()));
  }
  const MemoryPool& pool = *pools[address.pool.value()];
  if (address.segment.value() >= pool.segments_max()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("copy %s: segment %d of pool %s, which has at most %d segments", role,
                        address.segment.value(), pool.description().name, pool.segments_max()));
  }
  const int64_t limit = pool.segment_bytes().count();
  if (bytes.count() <= 0 || bytes.count() > limit || address.offset.count() < 0 ||
      address.offset.count() > limit - bytes.count()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "copy %s: %d bytes at offset %d do not fit a segment of pool %s, which has %d bytes", role,
        bytes.count(), address.offset.count(), pool.description().name, limit));
  }
  return absl::OkStatus();
}

inline absl::Status CheckCopyRequest(const CopyRequest& request,
                                     absl::Span<MemoryPool* const> pools) {
  absl::Status status = CheckSlotAddress("source", request.source, request.bytes, pools);
  if (!status.ok()) return status;
  status = CheckSlotAddress("destination", request.destination, request.bytes, pools);
  if (!status.ok()) return status;
  const bool same_segment = request.source.pool == request.destination.pool &&
                            request.source.segment == request.destination.segment;
  if (same_segment && request.source.offset < request.destination.offset + request.bytes &&
      request.destination.offset < request.source.offset + request.bytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "copy of %d bytes within pool %s segment %d: offsets %d and %d overlap",
        request.bytes.count(), pools[request.source.pool.value()]->description().name,
        request.source.segment.value(), request.source.offset.count(),
        request.destination.offset.count()));
  }
  return absl::OkStatus();
}

}  // namespace kvtier
