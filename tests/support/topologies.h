// Where tests find machine descriptions, and a machine small enough to be written down.
#pragma once

#include <cstdlib>
#include <string>

#include "tiering/topology/topology.h"

namespace kvtier::test_support {

// Path of a file in tests/testdata/topology. CTest says where the sources are; by hand, run from
// the root.
inline std::string FixturePath(const std::string& name) {
  const char* root = std::getenv("KVTIER_SOURCE_DIR");
  return std::string(root != nullptr ? root : ".") + "/tests/testdata/topology/" + name;
}

// One node and no GPU; nothing is bound by it.
inline Topology OneNodeTopology() {
  Topology topology;
  topology.machine = "test";
  topology.nodes.push_back({.os_index = 0, .memory_bytes = GiB(16), .cores = 2, .cpus = {0, 1}});
  return topology;
}

}  // namespace kvtier::test_support
