// Proves that topologies are read as hwloc describes them: nodes, cores and GPUs of machines in
// files, this machine alive, GPU memory told apart, and that a file which cannot be read is refused
// by name and reason.
#include "tiering/host/topology_discovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/topologies.h"

// Asked by LeakSanitizer: hwloc 2.9 loses a few hundred bytes when an XML file ends too early.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhwloc\n"; }

namespace kvtier {
namespace {

using test_support::FixturePath;
using test_support::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ReadText(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(TopologyFileTest, OneNode) {
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadTopologyFile(FixturePath("one_node.xml")));
  EXPECT_EQ(topology.machine, "One node");
  EXPECT_FALSE(topology.is_this_system);
  ASSERT_EQ(topology.nodes.size(), 1u);
  EXPECT_EQ(topology.nodes[0].os_index, 0);
  EXPECT_EQ(topology.nodes[0].memory_bytes, GiB(16));
  EXPECT_EQ(topology.nodes[0].cores, 2);
  EXPECT_EQ(topology.nodes[0].cpus, (std::vector<int>{0, 1}));
  EXPECT_TRUE(topology.gpus.empty());
}

TEST(TopologyFileTest, TwoNodesWithHyperthreads) {
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadTopologyFile(FixturePath("two_nodes.xml")));
  ASSERT_EQ(topology.nodes.size(), 2u);
  for (int node = 0; node < 2; ++node) {
    EXPECT_EQ(topology.nodes[node].os_index, node);
    EXPECT_EQ(topology.nodes[node].memory_bytes, GiB(64));
    EXPECT_EQ(topology.nodes[node].cores, 4);
    EXPECT_EQ(topology.nodes[node].cpus.size(), 8u);
    EXPECT_EQ(topology.nodes[node].cpus.front(), node * 8);
  }
  EXPECT_TRUE(topology.gpus.empty());
}

TEST(TopologyFileTest, EightGpusFourOnEachNode) {
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadTopologyFile(FixturePath("dgx_h100_like.xml")));
  ASSERT_EQ(topology.nodes.size(), 2u);
  EXPECT_EQ(topology.nodes[1].memory_bytes, GiB(1024));
  // The network card and the NVSwitch, NVIDIA's as well, are not among them.
  const std::vector<std::string> bus_ids = {"0000:1b:00.0", "0000:43:00.0", "0000:52:00.0",
                                            "0000:61:00.0", "0000:9d:00.0", "0000:c3:00.0",
                                            "0000:d1:00.0", "0000:df:00.0"};
  ASSERT_EQ(topology.gpus.size(), bus_ids.size());
  for (size_t i = 0; i < bus_ids.size(); ++i) {
    EXPECT_EQ(topology.gpus[i].pci_bus_id, bus_ids[i]);
    EXPECT_EQ(topology.gpus[i].pci_vendor, 0x10deu);
    EXPECT_EQ(topology.gpus[i].pci_device, 0x2330u);
    EXPECT_EQ(topology.gpus[i].numa_node, i < 4 ? 0 : 1) << bus_ids[i];
  }
}

TEST(TopologyFileTest, GpuMemoryIsToldApart) {
  ASSERT_OK_AND_ASSIGN(const Topology topology,
                       ReadTopologyFile(FixturePath("grace_hopper_like.xml")));
  ASSERT_EQ(topology.nodes.size(), 2u);
  EXPECT_FALSE(topology.nodes[0].is_gpu_memory);
  EXPECT_EQ(topology.nodes[0].cores, 4);
  EXPECT_TRUE(topology.nodes[1].is_gpu_memory);
  EXPECT_EQ(topology.nodes[1].memory_bytes, GiB(96));
  EXPECT_EQ(topology.nodes[1].cores, 0);
}

TEST(TopologyFileTest, RefusalsNameFileAndReason) {
  const test_support::TempDir dir;
  const std::string good = ReadText(FixturePath("one_node.xml"));
  std::string version_3 = good;
  version_3.replace(version_3.find("version=\"2.0\""), 13, "version=\"3.0\"");
  std::string commented = good;
  commented.insert(commented.find("<topology"), "<!-- made by hand -->\n");
  const struct {
    const char* name;
    std::string text;
    const char* reason;
  } cases[] = {
      {"empty.xml", "", "empty"},
      {"config.yaml", "pools:\n  - name: dram\n", "not hwloc's XML"},
      {"version3.xml", version_3, "version 3"},
      {"comment.xml", commented, "comment before"},
      {"half.xml", good.substr(0, good.size() / 2), "cannot parse"},
  };
  for (const auto& refused : cases) {
    const std::string path = dir.Write(refused.name, refused.text);
    EXPECT_THAT(ReadTopologyFile(path), StatusIs(absl::StatusCode::kInvalidArgument,
                                                 AllOf(HasSubstr(path), HasSubstr(refused.reason))))
        << refused.name;
  }
  EXPECT_THAT(ReadTopologyFile(dir.path() + "/missing.xml"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("missing.xml")));
  EXPECT_THAT(ReadTopologyFile(dir.path()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(dir.path())));
}

TEST(LiveTopologyTest, DescribesThisMachine) {
  ASSERT_OK_AND_ASSIGN(const Topology topology, DiscoverTopology());
  EXPECT_TRUE(topology.is_this_system);
  EXPECT_EQ(topology.page_bytes, Bytes(sysconf(_SC_PAGESIZE)));
  ASSERT_FALSE(topology.nodes.empty());
  size_t cpus = 0;
  for (const NumaNode& node : topology.nodes) {
    EXPECT_TRUE(std::is_sorted(node.cpus.begin(), node.cpus.end()));
    EXPECT_LE(node.cores, static_cast<int>(node.cpus.size()));
    cpus += node.cpus.size();
  }
  EXPECT_GT(topology.nodes[0].memory_bytes, MiB(1));
  EXPECT_GE(cpus, 1u);
  for (const GpuDevice& gpu : topology.gpus) EXPECT_EQ(gpu.pci_vendor, 0x10deu) << gpu.pci_bus_id;
}

}  // namespace
}  // namespace kvtier
