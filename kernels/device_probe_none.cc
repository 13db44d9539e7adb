#include "kernels/device_probe.h"

namespace kvtier {

DeviceReport ProbeDevices() {
  return DeviceReport{.built_with_cuda = false, .reason = "built without CUDA", .devices = {}};
}

}  // namespace kvtier
