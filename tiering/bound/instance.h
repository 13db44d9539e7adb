// A placement problem: blocks that are read in phases, tiers that may hold them, resources that
// reading and moving them loads. docs/BOUND.md has the formulation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "tiering/bound/option_table.h"

namespace kvtier::bound {

// What of all blocks is in a tier at the start of any phase is at most this.
struct Tier {
  std::string name;
  uint64_t capacity_bytes = 0;
};

// A memory's port or one direction of a link, in bytes, or a processor, in floating-point
// operations. The rate is an upper limit of the machine, above zero.
struct Resource {
  std::string name;
  uint64_t units_per_second = 0;
};

inline constexpr uint8_t kNoResource = 0xff;

// Limits that Check holds instances to, so that sums have room.
inline constexpr uint64_t kUnitsMax = uint64_t{1} << 62;       // a capacity, a rate, a base load
inline constexpr uint64_t kBlockUnitsMax = uint64_t{1} << 60;  // what a block loads in a phase
inline constexpr size_t kBlocksMax = size_t{1} << 31;
inline constexpr uint32_t kPhasesMax = uint32_t{1} << 31;
// Phases from the first birth to the last death of a class, summed over classes: what a class's
// blocks cost is rounded by its bytes, so that it is found for each class by itself.
inline constexpr uint64_t kClassPhasesMax = uint64_t{1} << 30;
inline constexpr size_t kTablesMax = 256;
inline constexpr size_t kAccessesMax = 1024;  // of a block in a phase
inline constexpr size_t kOptionsMax = 1024;   // in a list
inline constexpr size_t kNameBytesMax = 256;  // of a tier or a resource

// Blocks that differ only in when they live and are read.
struct BlockClass {
  uint64_t bytes = 0;            // above zero
  uint64_t recompute_units = 0;  // load of Instance::compute_resource when it is recomputed
  uint8_t table = 0;             // index into Instance::tables
  StateSet start_states = 0;     // those it may be in when it is born; not zero
};

// Phases run one after another. A phase takes the longest of its resources' times, which are base
// load plus the load of the options that blocks take in it, over units_per_second; a floor under a
// phase's time is a base load of the compute resource. A schedule's time is the sum over phases.
//
// A block lives in phases [birth, death): it has a state at the start of each of them, takes an
// option in each of them, and its state at the start of phase `death` is free and occupies nothing.
// Accesses are in phases it lives in, ascending; a phase that stands m times is m accesses in that
// phase.
//
// Plain data, written by builders and readers; Check says whether it is a problem at all.
// Everything else in this library takes only instances that passed.
struct Instance {
  std::vector<Tier> tiers;          // 1 to kTiersMax
  std::vector<Resource> resources;  // 1 to kResourcesMax
  uint8_t compute_resource = kNoResource;
  std::vector<OptionTable> tables;
  std::vector<BlockClass> classes;

  uint32_t phase_count = 0;
  std::vector<uint64_t> base_load;  // [phase][resource], units

  std::vector<uint32_t> block_class;   // by block
  std::vector<uint32_t> birth, death;  // by block
  std::vector<uint64_t> first_access;  // by block, and one more: where its accesses begin
  std::vector<uint32_t> access_phase;  // all blocks' accesses, one block after another

  size_t block_count() const { return block_class.size(); }
  uint64_t access_count() const { return access_phase.size(); }
  absl::Span<const uint32_t> Accesses(size_t block) const {
    return absl::MakeConstSpan(access_phase)
        .subspan(first_access[block], first_access[block + 1] - first_access[block]);
  }
  absl::Span<const uint64_t> BaseLoad(uint32_t phase) const {
    return absl::MakeConstSpan(base_load).subspan(phase * resources.size(), resources.size());
  }
  const BlockClass& ClassOf(size_t block) const { return classes[block_class[block]]; }
  const OptionTable& TableOf(size_t block) const { return tables[ClassOf(block).table]; }
};

// INVALID_ARGUMENT names the object, the number and the limit. Checks all that the comments above
// say, that every block has a path (no access that none of its states can serve), and that the
// bytes of all blocks are at most kUnitsMax. Names are without control characters; those of tiers
// differ, and those of resources. What a phase can load in all is below 2^92: sums of
// loads over blocks are for __int128. Takes time in proportion to accesses and phases.
absl::Status Check(const Instance& instance);

}  // namespace kvtier::bound
