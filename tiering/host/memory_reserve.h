// Keeps pools from taking the memory that the machine needs for everything else.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/base/bytes.h"
#include "tiering/base/mutex.h"
#include "tiering/host/machine_memory.h"

namespace kvtier {

// All pools of a process share one. Memory that was promised to a segment but not touched yet still
// looks available to the kernel; it is counted here, so that two segments are not promised the same
// memory. Thread-safe.
class MemoryReserve {
 public:
  struct Options {
    Bytes reserve = GiB(1);  // the machine keeps at least this much available
    // What the machine, and a NUMA node, can still give, and a node's free huge pages (-1: the
    // machine's); tests say their own.
    std::function<absl::StatusOr<MachineMemory>()> machine_memory = [] {
      return ReadMachineMemory();
    };
    std::function<absl::StatusOr<Bytes>(int)> node_memory = [](int node) {
      return ReadNodeMemory(node);
    };
    std::function<Bytes(int)> free_huge_pages = [](int node) { return ReadFreeHugePages(node); };
  };
  explicit MemoryReserve(Options options) : options_(std::move(options)) {}

  // Promises `bytes` to `owner` (a pool's name, for messages), bound to `node`, or anywhere (-1).
  // RESOURCE_EXHAUSTED when less than the reserve would be left, on the machine or on the node;
  // UNAVAILABLE when that cannot be known. Nothing is promised then.
  absl::Status Claim(const std::string& owner, int node, Bytes bytes);

  // `bytes` of what was claimed for `node` now are in the kernel's own accounts: touched, or given
  // up.
  void Settle(int node, Bytes bytes);

  // Sets huge pages aside among the pools of this process; false when too few are free. Returned by
  // ReleaseHugePages with the same arguments.
  bool ClaimHugePages(int node, Bytes bytes);
  void ReleaseHugePages(int node, Bytes bytes);

  Bytes reserve() const { return options_.reserve; }
  // Claimed and not settled, over all nodes.
  Bytes untouched() const;

 private:
  const Options options_;
  mutable Mutex mutex_;
  std::map<int, Bytes> untouched_ ABSL_GUARDED_BY(mutex_);     // by node
  std::map<int, Bytes> huge_claimed_ ABSL_GUARDED_BY(mutex_);  // by node
};

}  // namespace kvtier
