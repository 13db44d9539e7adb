#include "tiering/host/topology_discovery.h"

#include <hwloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

// A machine with thousands of cores takes a few MB.
constexpr size_t kFileBytesMax = 64 << 20;
constexpr uint16_t kVendorNvidia = 0x10de;
// Display controllers: VGA (0x0300) and 3D (0x0302), as GPUs without an output call themselves.
constexpr uint16_t kPciClassDisplay = 0x03;

struct DestroyTopology {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using TopologyHandle = std::unique_ptr<hwloc_topology, DestroyTopology>;

// Ready for a source to be set. hwloc leaves out I/O devices unless asked for them.
absl::StatusOr<TopologyHandle> NewTopology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return absl::UnavailableError("hwloc_topology_init failed");
  TopologyHandle topology(raw);
  if (hwloc_topology_set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_ALL) != 0) {
    return absl::UnavailableError("hwloc keeps no I/O devices");
  }
  return topology;
}

// hwloc shows the memory of some GPUs as NUMA nodes, and says so by this subtype.
bool IsGpuMemory(hwloc_obj_t node) {
  return node->subtype != nullptr && std::strcmp(node->subtype, "GPUMemory") == 0;
}

NumaNode MakeNode(hwloc_topology_t topology, hwloc_obj_t object) {
  NumaNode node;
  node.os_index = static_cast<int>(object->os_index);
  node.memory_bytes = Bytes(static_cast<int64_t>(object->attr->numanode.local_memory));
  node.is_gpu_memory = IsGpuMemory(object);
  if (object->cpuset == nullptr || node.is_gpu_memory) return node;
  node.cores =
      std::max(0, hwloc_get_nbobjs_inside_cpuset_by_type(topology, object->cpuset, HWLOC_OBJ_CORE));
  for (int cpu = hwloc_bitmap_first(object->cpuset); cpu >= 0;
       cpu = hwloc_bitmap_next(object->cpuset, cpu)) {
    node.cpus.push_back(cpu);
  }
  return node;
}

// The host node nearest to a device: of those around its place in the tree, if there is just one.
int NearestNode(hwloc_topology_t topology, hwloc_obj_t device) {
  hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(topology, device);
  if (place == nullptr || place->nodeset == nullptr) return -1;
  int nearest = -1;
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    if (IsGpuMemory(node) || !hwloc_bitmap_isset(place->nodeset, node->os_index)) continue;
    if (nearest >= 0) return -1;
    nearest = static_cast<int>(node->os_index);
  }
  return nearest;
}

bool IsNvidiaGpu(hwloc_obj_t device) {
  const auto& pci = device->attr->pcidev;
  return pci.vendor_id == kVendorNvidia && (pci.class_id >> 8) == kPciClassDisplay;
}

Topology Convert(hwloc_topology_t source) {
  Topology topology;
  topology.is_this_system = hwloc_topology_is_thissystem(source) != 0;
  const char* product = hwloc_obj_get_info_by_name(hwloc_get_root_obj(source), "DMIProductName");
  if (product != nullptr) topology.machine = product;
  if (topology.is_this_system) topology.page_bytes = Bytes(sysconf(_SC_PAGESIZE));
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(source, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    topology.nodes.push_back(MakeNode(source, node));
  }
  for (hwloc_obj_t device = nullptr; (device = hwloc_get_next_pcidev(source, device)) != nullptr;) {
    if (!IsNvidiaGpu(device)) continue;
    const auto& pci = device->attr->pcidev;
    topology.gpus.push_back(
        {.pci_bus_id = absl::StrFormat("%04x:%02x:%02x.%x", pci.domain, pci.bus, pci.dev, pci.func),
         .pci_vendor = pci.vendor_id,
         .pci_device = pci.device_id,
         .numa_node = NearestNode(source, device)});
  }
  std::sort(topology.nodes.begin(), topology.nodes.end(),
            [](const NumaNode& a, const NumaNode& b) { return a.os_index < b.os_index; });
  std::sort(topology.gpus.begin(), topology.gpus.end(),
            [](const GpuDevice& a, const GpuDevice& b) { return a.pci_bus_id < b.pci_bus_id; });
  return topology;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    const std::string message = absl::StrFormat("topology file %s: %s", path, std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::InvalidArgumentError(message);
  }
  std::string text;
  char buffer[65536];
  while (file.read(buffer, sizeof(buffer)) || file.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(file.gcount()));
    if (text.size() > kFileBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrFormat("topology file %s: larger than %d bytes", path, kFileBytesMax));
    }
  }
  if (file.bad() || text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("topology file %s: empty or not readable", path));
  }
  return text;
}

// Why hwloc would refuse the text: it only says that it does.
std::string RefusalReason(absl::string_view text) {
  const size_t root = text.find("<topology");
  if (root == absl::string_view::npos)
    return "it has no <topology> element, so it is not hwloc's XML";
  if (text.substr(0, root).find("<!--") != absl::string_view::npos) {
    return "it has a comment before its <topology> element; hwloc 2.9 cannot read that, remove the "
           "comment";
  }
  const absl::string_view element = text.substr(root, text.find('>', root) - root);
  if (element.find("version=\"3") != absl::string_view::npos) {
    return "it is in hwloc's XML version 3; this hwloc reads version 2 (export it with lstopo 2)";
  }
  return "hwloc cannot parse it";
}

}  // namespace

absl::StatusOr<Topology> DiscoverTopology() {
  KVTIER_ASSIGN_OR_RETURN(const TopologyHandle handle, NewTopology());
  if (hwloc_topology_load(handle.get()) != 0) {
    return absl::UnavailableError(
        absl::StrFormat("hwloc cannot read this machine's topology: %s", std::strerror(errno)));
  }
  return Convert(handle.get());
}

absl::StatusOr<Topology> ReadTopologyFile(const std::string& path) {
  KVTIER_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const auto refuse = [&](const std::string& reason) {
    return absl::InvalidArgumentError(absl::StrFormat("topology file %s: %s", path, reason));
  };
  KVTIER_ASSIGN_OR_RETURN(const TopologyHandle handle, NewTopology());
  // The length includes the terminating zero, by hwloc's contract.
  if (hwloc_topology_set_xmlbuffer(handle.get(), text.c_str(), static_cast<int>(text.size() + 1)) !=
          0 ||
      hwloc_topology_load(handle.get()) != 0) {
    return refuse(RefusalReason(text));
  }
  Topology topology = Convert(handle.get());
  // A file never describes this system as far as binding goes, whatever the environment tells
  // hwloc.
  topology.is_this_system = false;
  const auto is_host = [](const NumaNode& node) { return !node.is_gpu_memory; };
  if (std::none_of(topology.nodes.begin(), topology.nodes.end(), is_host)) {
    return refuse("it has no NUMA node with host memory");
  }
  return topology;
}

}  // namespace kvtier
