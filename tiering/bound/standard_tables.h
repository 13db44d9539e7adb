// Option tables out of what a machine can do, so that no cheap way is forgotten by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/option_table.h"

namespace kvtier::bound {

// What a tier's operations load: indexes of resources in bytes, or kNoResource where a load is not
// counted.
struct TierPorts {
  uint8_t memory = kNoResource;    // its port, which reads and writes share
  uint8_t link_in = kNoResource;   // from it to the GPU; kNoResource for the GPU's own memory
  uint8_t link_out = kNoResource;  // from the GPU to it; likewise
  bool on_gpu = false;             // the GPU's own memory
  bool serves_reads = true;        // an access may read the copy where it lies
};

struct TableSpec {
  std::vector<TierPorts> tiers;  // 1 to kTiersMax
  std::vector<TierSet> states;   // 1 to kStatesMax different sets of those tiers
  size_t accesses_max = 1;       // at most kAccessesMax
  // An access may be served by computing the block again. Where nothing reads it, none is computed.
  bool recompute = false;
  // Accesses are served only by copies that are there at the start of the phase (copy, then read).
  bool strict = false;
  // A copy between two tiers that are not on the GPU goes through it, as a read and a store: for
  // what is to be feasible whatever the paths between them are.
  bool far_copies_through_gpu = false;
};

// The table of all that sequences of these operations can do in one phase (docs/BOUND.md):
//   read tier j       loads its memory and link in; it serves one access, or none, and the GPU then
//                     has the data in hand until the phase ends;
//   recompute         in a phase with accesses: serves one, or none, and likewise;
//   store in tier j   of what is in hand: loads link out and its memory;
//   copy tier i to j  loads both memories, and the link's direction if one of them is on the GPU
//                     (between two others the path is not known, so nothing more is charged,
//                     but with far_copies_through_gpu);
//   drop from tier j  loads nothing.
// A list holds the loads that are not above a mix of two others of the list: what is left out never
// makes a minimum lower. INVALID_ARGUMENT if a limit above is broken, the spec names a tier that
// is not there, or it is strict and has accesses recomputed.
absl::StatusOr<OptionTable> MakeTable(const TableSpec& spec);

}  // namespace kvtier::bound
