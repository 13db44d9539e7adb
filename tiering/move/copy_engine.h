// The CopyEngine seam: asynchronous copies between slots, with verification.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"

namespace kvtier {

// One slot's bytes: `offset` within segment `segment` of `pool`.
struct SlotAddress {
  PoolId pool;
  SegmentIndex segment;
  Bytes offset;
  bool operator==(const SlotAddress&) const = default;
};

enum class CopyPriority : uint8_t { kDemand, kPrefetch, kMigration };

struct CopyRequest {
  CopyTicket ticket;  // chosen by the caller, unique among copies in flight
  SlotAddress source;
  SlotAddress destination;
  Bytes bytes;
  uint64_t checksum = 0;  // expected value of wire::BlockChecksum over the source bytes
  CopyPriority priority = CopyPriority::kMigration;
};

// OK; DATA_LOSS: the bytes at the source do not have the expected checksum (what was written to the
// destination is undefined); UNAVAILABLE: link or pool failed; CANCELLED.
struct CopyCompletion {
  CopyTicket ticket;
  absl::Status status;
};

// Called by the engine's thread only; an implementation may use threads of its own. Copies may
// complete in any order. Source and destination stay allocated until the completion has been
// polled: also after Cancel(). Implementations: CpuCopyEngine (tiering/host), SimCopyEngine (sim).
class CopyEngine {
 public:
  virtual ~CopyEngine() = default;

  // Copies that may be in flight at once; constant.
  virtual uint32_t in_flight_max() const = 0;

  // Starts a copy. RESOURCE_EXHAUSTED when in_flight_max() copies are in flight; INVALID_ARGUMENT
  // when an address or size does not fit its pool or the ranges overlap; in both cases nothing was
  // started.
  virtual absl::Status Submit(const CopyRequest& request) = 0;

  // Asks for early completion with CANCELLED. The copy still completes exactly once, possibly with
  // OK.
  virtual void Cancel(CopyTicket ticket) = 0;

  // Appends the completions that arrived since the last call; never blocks.
  virtual void Poll(std::vector<CopyCompletion>& completions) = 0;
};

}  // namespace kvtier
