#include "tiering/host/memory_reserve.h"

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

Bytes Sum(const std::map<int, Bytes>& by_node) {
  Bytes sum;
  for (const auto& [node, bytes] : by_node) sum += bytes;
  return sum;
}

}  // namespace

absl::Status MemoryReserve::Claim(const std::string& owner, int node, Bytes bytes) {
  KVTIER_CHECK(bytes >= Bytes(0));
  // The kernel is asked under the lock: otherwise memory could be touched and settled between the
  // two readings, and count for neither.
  MutexLock lock(mutex_);
  KVTIER_ASSIGN_OR_RETURN(const MachineMemory machine, options_.machine_memory());
  const Bytes untouched = Sum(untouched_);
  if (machine.available - untouched - bytes < options_.reserve) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("pool %s cannot grow by %s: %s available (%s), %s of it promised already, "
                        "and %s stay reserved for the "
                        "machine",
                        owner, FormatBytes(bytes), FormatBytes(machine.available), machine.limit,
                        FormatBytes(untouched), FormatBytes(options_.reserve)));
  }
  if (node >= 0) {
    KVTIER_ASSIGN_OR_RETURN(const Bytes available, options_.node_memory(node));
    const Bytes on_node = untouched_[node];
    if (available - on_node - bytes < Bytes(0)) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "pool %s cannot grow by %s: NUMA node %d has %s available, %s of it promised already",
          owner, FormatBytes(bytes), node, FormatBytes(available), FormatBytes(on_node)));
    }
  }
  untouched_[node] += bytes;
  return absl::OkStatus();
}

void MemoryReserve::Settle(int node, Bytes bytes) {
  MutexLock lock(mutex_);
  Bytes& untouched = untouched_[node];
  KVTIER_CHECK(bytes >= Bytes(0) && bytes <= untouched);
  untouched -= bytes;
}

bool MemoryReserve::ClaimHugePages(int node, Bytes bytes) {
  MutexLock lock(mutex_);
  Bytes& claimed = huge_claimed_[node];
  if (options_.free_huge_pages(node) - claimed < bytes) return false;
  claimed += bytes;
  return true;
}

void MemoryReserve::ReleaseHugePages(int node, Bytes bytes) {
  MutexLock lock(mutex_);
  Bytes& claimed = huge_claimed_[node];
  KVTIER_CHECK(bytes >= Bytes(0) && bytes <= claimed);
  claimed -= bytes;
}

Bytes MemoryReserve::untouched() const {
  MutexLock lock(mutex_);
  return Sum(untouched_);
}

}  // namespace kvtier
