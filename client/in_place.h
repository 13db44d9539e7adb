// Blocks copied between the caller's memory and memory shared with the daemon, by the client alone.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/block_finder.h"
#include "client/lease_record.h"
#include "client/reservation_record.h"
#include "kvtier/client.h"

namespace kvtier {

// Checks every block against the model and the reservation, which is in place, then copies them
// into their slots and remembers their checksums in the record. Thread-safe.
absl::Status PutInPlace(ReservationRecord& reservation, absl::Span<const BlockSource> blocks);

// Copies blocks of a lease into the caller's memory, verified unless that is off. What could not be
// read here but may be elsewhere (not in the index, not mapped) has UNAVAILABLE in its result.
// Inside a section of the lease's memory. The blocks are checked (CheckDestinations).
void GetInPlace(const LeaseRecord& lease, Verify verify, BlockFinder::Complain complain,
                absl::Span<const BlockDestination> blocks, absl::Span<BlockResult> results);

}  // namespace kvtier
