// Proves that asking for GPUs always gives an answer that explains itself, with and without a
// driver.
#include "kernels/device_probe.h"

#include <gtest/gtest.h>

namespace kvtier {
namespace {

TEST(DeviceProbeTest, AReasonIsGivenExactlyWhenThereIsNoDevice) {
  const DeviceReport report = ProbeDevices();
  EXPECT_EQ(report.devices.empty(), !report.reason.empty()) << report.reason;
  if (!report.built_with_cuda) {
    EXPECT_EQ(report.reason, "built without CUDA");
  }
}

TEST(DeviceProbeTest, EveryDeviceIsDescribed) {
  const DeviceReport report = ProbeDevices();
  if (report.devices.empty()) GTEST_SKIP() << "no device: " << report.reason;
  for (const DeviceInfo& device : report.devices) {
    EXPECT_FALSE(device.name.empty());
    EXPECT_GE(device.pci_bus_id.size(), 12u) << device.pci_bus_id;
    EXPECT_GT(device.memory_bytes, 0u);
    EXPECT_GT(device.compute_major, 0);
  }
}

TEST(DeviceProbeTest, AskingTwiceGivesTheSameAnswer) {
  const DeviceReport first = ProbeDevices();
  const DeviceReport second = ProbeDevices();
  EXPECT_EQ(first.reason, second.reason);
  EXPECT_EQ(first.devices.size(), second.devices.size());
}

}  // namespace
}  // namespace kvtier
