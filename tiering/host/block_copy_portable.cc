// For CPUs without a kernel of their own: the callers use memcpy.
#include "tiering/base/check.h"
#include "tiering/host/block_copy_kernels.h"

namespace kvtier::internal {

bool NonTemporalAvailable() { return false; }

void CopyNonTemporal(char*, const char*, size_t) { KVTIER_CHECK(NonTemporalAvailable()); }

uint64_t CopyPieceNonTemporal(char*, const char*, const char*) {
  KVTIER_CHECK(NonTemporalAvailable());
  return 0;
}

void NonTemporalFence() {}

}  // namespace kvtier::internal
