// What the machine has: NUMA nodes, GPUs and how they hang together. A value; the engine and the
// operator's commands read it, tiering/host fills it from hwloc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tiering/base/bytes.h"

namespace kvtier {

struct NumaNode {
  int os_index = 0;
  Bytes memory_bytes;
  int cores = 0;               // physical cores whose nearest node this is
  std::vector<int> cpus;       // OS indices of its processing units, ascending
  bool is_gpu_memory = false;  // a GPU's memory shown as a node: never bind host pools to it
};

struct GpuDevice {
  std::string pci_bus_id;  // "0000:1b:00.0"
  uint32_t pci_vendor = 0;
  uint32_t pci_device = 0;
  int numa_node = -1;  // nearest host node; -1 when unknown
};

struct Topology {
  std::string machine;          // product name as far as known
  bool is_this_system = false;  // false when read from a file: nothing may be bound by it
  std::vector<NumaNode> nodes;  // ascending os_index
  std::vector<GpuDevice> gpus;  // ascending bus id
  Bytes page_bytes{4096};
};

}  // namespace kvtier
