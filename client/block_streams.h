// The bytes of blocks, between the caller's memory and the daemon's streams.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/daemon_link.h"
#include "client/lease_record.h"
#include "client/reservation_record.h"
#include "kvtier/types.h"

namespace kvtier {

// Checks every block against the model and the reservation, then stores all of them by one stream
// and remembers their checksums in the record. The checksum is that of the bytes as they were sent.
// Thread-safe.
absl::Status StoreBlocks(ReservationRecord& reservation, absl::Span<const BlockSource> blocks,
                         absl::Duration timeout);

// INVALID_ARGUMENT where a block is not of the lease or the model, its buffers have another size,
// or it is named twice.
absl::Status CheckDestinations(const LeaseRecord& lease, absl::Span<const BlockDestination> blocks);

// Checks every block against the model and the lease, then fetches them into the caller's memory
// and verifies what arrived. Blocks fail one by one (BlockResult); an error of the whole call means
// that the daemon is gone, the lease ended, or the request is wrong. Thread-safe.
absl::StatusOr<GetResult> FetchBlocks(const LeaseRecord& lease,
                                      absl::Span<const BlockDestination> blocks,
                                      absl::Duration timeout);

}  // namespace kvtier
