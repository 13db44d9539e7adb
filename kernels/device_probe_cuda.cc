#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "kernels/device_probe.h"

namespace kvtier {
namespace {

std::string ErrorText(const std::string& call, cudaError_t error) {
  return call + ": " + cudaGetErrorName(error) + " (" + std::to_string(static_cast<int>(error)) +
         "): " + cudaGetErrorString(error);
}

}  // namespace

DeviceReport ProbeDevices() {
  DeviceReport report{.built_with_cuda = true, .reason = "", .devices = {}};
  int driver_version = 0;
  // The one call that succeeds without a driver and says so, with version 0.
  if (cudaDriverGetVersion(&driver_version) != cudaSuccess || driver_version == 0) {
    report.reason = "no driver";
    return report;
  }
  int count = 0;  // cudaGetDeviceCount leaves it untouched when it fails
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess) {
    report.reason = ErrorText("cudaGetDeviceCount", counted);
    return report;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    char bus_id[32] = {};
    cudaError_t error = cudaGetDeviceProperties(&properties, i);
    if (error == cudaSuccess) error = cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), i);
    if (error != cudaSuccess) {
      report.reason = ErrorText("device " + std::to_string(i), error);
      continue;
    }
    std::string bus(bus_id);
    for (char& c : bus) c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    report.devices.push_back(DeviceInfo{.index = i,
                                        .name = properties.name,
                                        .pci_bus_id = std::move(bus),
                                        .memory_bytes = properties.totalGlobalMem,
                                        .compute_major = properties.major,
                                        .compute_minor = properties.minor});
  }
  if (!report.devices.empty()) {
    report.reason.clear();
  } else if (report.reason.empty()) {
    report.reason = "no device (driver " + std::to_string(driver_version) + ")";
  }
  return report;
}

}  // namespace kvtier
