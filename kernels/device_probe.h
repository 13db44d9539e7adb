// What GPUs this machine offers, asked without needing one: no CUDA type appears here, and a build
// without CUDA, a machine without a driver and a driver without a device all answer with a reason.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvtier {

struct DeviceInfo {
  int index = 0;           // CUDA ordinal
  std::string name;        // as the driver names it
  std::string pci_bus_id;  // "0000:1b:00.0", lower case: the key into the topology
  uint64_t memory_bytes = 0;
  int compute_major = 0;
  int compute_minor = 0;
};

struct DeviceReport {
  bool built_with_cuda = false;
  std::string reason;  // why `devices` is empty; empty when it is not
  std::vector<DeviceInfo> devices;
};

// Never fails and never aborts. Thread-safe. With a driver the first call takes as long as the
// driver needs to start (up to seconds); without one, under 2 ms.
DeviceReport ProbeDevices();

}  // namespace kvtier
