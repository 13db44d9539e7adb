// The MemoryPool seam: one memory (a GPU's HBM, a NUMA node's DRAM) that grows by segments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/base/bytes.h"
#include "tiering/base/ids.h"

namespace kvtier {

enum class PoolKind : uint8_t { kHbm, kDram, kRemote };

inline const char* PoolKindName(PoolKind kind) {
  switch (kind) {
    case PoolKind::kHbm:
      return "hbm";
    case PoolKind::kDram:
      return "dram";
    case PoolKind::kRemote:
      return "remote";
  }
  return "unknown";
}

struct PoolDescription {
  std::string name;  // "hbm:0", "dram:1"
  PoolKind kind = PoolKind::kDram;
  bool emulated = false;   // HBM without a GPU: host memory that stands in for it
  int numa_node = -1;      // -1: not bound
  Bytes page_bytes{4096};  // page size behind the segments, as far as known
};

// Owned by the engine, called by the engine's thread only, except Address(), which any thread may
// call for a segment that exists. Implementations: DramPool and EmulatedHbmPool (tiering/host),
// SimPool (sim).
class MemoryPool {
 public:
  virtual ~MemoryPool() = default;

  virtual const PoolDescription& description() const = 0;

  // Size of every segment; a multiple of 4 KiB; constant.
  virtual Bytes segment_bytes() const = 0;

  // Most segments that this pool may ever have at once; constant. The byte limit is the product.
  virtual uint32_t segments_max() const = 0;

  // Adds a segment of zeroed bytes and returns its index, below segments_max(). An index given back
  // by ReleaseSegment may be returned again, what was in its segment may not: it can be another
  // tenant's. Must not block for long: what is slow (pre-faulting) goes on in the background.
  // RESOURCE_EXHAUSTED: segments_max() is reached, or the machine's memory reserve would be
  // touched, or the pool is not ready to grow yet; nothing changed, and a later call may succeed.
  virtual absl::StatusOr<SegmentIndex> AddSegment() = 0;

  // Gives an empty segment, which `owner` had, back to the machine. Its addresses become invalid.
  virtual void ReleaseSegment(SegmentIndex segment, TenantId owner) = 0;

  // How many segments that `owner` had and that were given back have not become the machine's
  // again, because processes outside keep them. They do not count towards segments_max(). Falls by
  // itself. Always 0 for pools whose memory no process outside gets, or that cannot tell.
  virtual uint64_t kept(TenantId /*owner*/) { return 0; }

  // Where the segment's bytes are in this process; stays valid until ReleaseSegment. Null when the
  // bytes cannot be addressed by the CPU (a simulated pool).
  virtual std::byte* Address(SegmentIndex segment) const = 0;
};

}  // namespace kvtier
