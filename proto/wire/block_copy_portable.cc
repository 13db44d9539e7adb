// For CPUs without a kernel of their own: the callers use memcpy.
#include <stdlib.h>

#include "proto/wire/block_copy_kernels.h"

namespace kvtier::wire::internal {

bool NonTemporalAvailable() { return false; }

void CopyNonTemporal(char*, const char*, size_t) { abort(); }

uint64_t CopyPieceNonTemporal(char*, const char*, const char*) { abort(); }

void NonTemporalFence() {}

}  // namespace kvtier::wire::internal
