// A machine's memories and links as ports, and what each kind of operation takes of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "sim/machine.h"
#include "sim/sim_ports.h"

namespace kvtier::sim {

// What an operation takes: its ports, and the time that passes beside.
struct OperationCost {
  absl::InlinedVector<PortLoad, 4> loads;
  int64_t latency_ns = 0;

  // Both, at the same time.
  void Add(const OperationCost& other) {
    loads.insert(loads.end(), other.loads.begin(), other.loads.end());
    latency_ns += other.latency_ns;
  }
};

// Every memory is one port, for reads and writes; each direction of a link is one, of all tiers
// behind a link of that name; and the processor is one. A GPU read of a tier takes its memory and
// its link's direction to the GPU, a store of what the GPU has in hand its memory and the other
// direction, a copy both memories and the links between: what docs/BOUND.md counts, or more. Not
// thread-safe.
class SimMachine {
 public:
  // `tiers` are indices into machine.tiers, ascending, of the memories that hold blocks.
  // The machine has passed CheckMachine. INVALID_ARGUMENT: no tier, one twice, or one that the
  // machine does not have.
  static absl::StatusOr<SimMachine> Create(const Machine& machine, std::vector<size_t> tiers);

  SimPorts& ports() { return ports_; }
  const SimPorts& ports() const { return ports_; }

  // Of tiers that hold blocks; all indices below are into these.
  size_t tier_count() const { return tiers_.size(); }
  const std::string& name(size_t tier) const { return tiers_[tier].name; }
  TierKind kind(size_t tier) const { return tiers_[tier].kind; }
  // The last tier is the machine's last and holds a copy of every block.
  bool inclusive() const { return inclusive_; }

  OperationCost Read(size_t tier, uint64_t bytes) const;
  // Where the last tier always has a copy, it is written there as well, and leaving another tier
  // for it costs nothing.
  OperationCost Store(size_t tier, uint64_t bytes) const;
  OperationCost Copy(size_t from, size_t to, uint64_t bytes) const;
  OperationCost Compute(uint64_t flops) const;
  // Of the GPU's own memory: weights, and what is written there beside blocks.
  OperationCost OwnMemory(uint64_t bytes) const;

 private:
  struct TierPorts {
    std::string name;
    TierKind kind = TierKind::kDram;
    uint32_t memory = 0;
    std::optional<uint32_t> to_gpu{}, from_gpu{};
    int64_t latency_ns = 0;
  };

  SimMachine() = default;
  OperationCost Write(size_t tier, uint64_t bytes) const;

  SimPorts ports_;
  std::vector<TierPorts> tiers_;
  uint32_t own_memory_ = 0;
  uint32_t compute_ = 0;
  bool inclusive_ = false;
};

}  // namespace kvtier::sim
