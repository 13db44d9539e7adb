// Finds out what the machine has, by hwloc: of this system, or of one described in a file.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "tiering/topology/topology.h"

namespace kvtier {

// This system, unless the environment makes hwloc look elsewhere (HWLOC_XMLFILE and the like),
// which is_this_system tells. UNAVAILABLE when hwloc fails.
absl::StatusOr<Topology> DiscoverTopology();

// A machine described by an hwloc XML file ("lstopo --of xml"). Nothing may be bound by it. Errors
// name the file: NOT_FOUND, or INVALID_ARGUMENT with the reason: too large, not hwloc's XML,
// version 3 (hwloc 2 reads version 2), a comment before the root element (which hwloc 2.9 does not
// get past), no NUMA node.
absl::StatusOr<Topology> ReadTopologyFile(const std::string& path);

}  // namespace kvtier
