// How much memory this machine can still give, as the kernel tells it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "tiering/base/bytes.h"

namespace kvtier {

// A value read at one moment.
struct MachineMemory {
  Bytes available;    // what can be used without swapping; never negative
  std::string limit;  // what sets it: "MemAvailable" or the path of a control group's memory.max
};

// Where the kernel's files are; tests put their own.
struct MemoryFiles {
  std::string proc = "/proc";
  std::string cgroup = "/sys/fs/cgroup";
  std::string nodes = "/sys/devices/system/node";
};

// The smallest of /proc/meminfo's MemAvailable and of what each control group around this process
// (version 2, or version 1's memory controller) leaves: its limit less its usage, page cache that
// can be dropped counted as free. Control groups that cannot be read are taken as unlimited.
// UNAVAILABLE when meminfo cannot be read. Thread-safe, as all here.
absl::StatusOr<MachineMemory> ReadMachineMemory(const MemoryFiles& files = {});

// What NUMA node `node` can still give: free memory and droppable page cache. UNAVAILABLE when its
// files cannot be read.
absl::StatusOr<Bytes> ReadNodeMemory(int node, const MemoryFiles& files = {});

// Free huge pages of 2 MiB, in bytes; of one node, or of the machine less what others have reserved
// (node -1). Zero when there are none or they cannot be read.
Bytes ReadFreeHugePages(int node, const MemoryFiles& files = {});

}  // namespace kvtier
