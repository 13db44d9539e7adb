// A machine as a bound and a simulation see it: memories, the links to them, and a processor.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvtier::sim {

// How the GPU gets at what is not in its own memory.
enum class ReadMode : uint8_t {
  kInPlace,  // it reads all memories at the same time, each by its own path
  kStream,   // a miss goes through a small staging buffer while the GPU works
};

// Both directions work at the same time. Rates are upper limits: what the link carries at best.
struct MachineLink {
  std::string name;  // "pcie", "nvlink", "c2c"
  uint64_t to_gpu_bytes_per_second = 0;
  uint64_t from_gpu_bytes_per_second = 0;
  uint64_t latency_ns = 0;  // of an operation; the bound has none
};

enum class TierKind : uint8_t { kHbm, kPeer, kDram };

struct MachineTier {
  std::string name;
  TierKind kind = TierKind::kDram;
  uint64_t capacity_bytes = 0;
  // Of the memory itself: reads and writes share it. An upper limit.
  uint64_t bytes_per_second = 0;
  uint64_t latency_ns = 0;
  std::optional<MachineLink> link{};  // to the GPU; none: the GPU's own memory
};

// Plain data: read from a file (spec_reader.h), possibly overridden, then checked.
struct Machine {
  std::string name;
  // Fastest first; the first is the GPU's own memory, and only that one is.
  std::vector<MachineTier> tiers;
  uint64_t flops_per_second = 0;  // dense, 16 bits
  ReadMode read_mode = ReadMode::kStream;
  // The last tier always holds a copy of every block: to leave a faster one costs nothing.
  bool inclusive = false;
};

inline constexpr size_t kMachineTiersMax = 4;
inline constexpr uint64_t kCapacityBytesMax = uint64_t{1} << 50;  // 1 PiB
// Slower than the first, a second has too few units to be simulated; faster than the second, the
// arithmetic of bounds ends.
inline constexpr uint64_t kRateMin = 1'000'000;
inline constexpr uint64_t kByteRateMax = 1'000'000'000'000'000;
inline constexpr uint64_t kFlopRateMax = 1'000'000'000'000'000'000;
inline constexpr uint64_t kLatencyNsMax = 1'000'000'000;

// INVALID_ARGUMENT "NAME: tiers.dram.capacity is N; ..." for what no machine can be.
absl::Status CheckMachine(const Machine& machine);

// Of the tier's link, as a resource: "dram.pcie", or "pcie" alone where several of the machine's
// tiers are behind it and share it. The tier has a link.
inline std::string LinkName(const Machine& machine, const MachineTier& tier) {
  const auto shares = [&](const MachineTier& one) {
    return one.link && one.link->name == tier.link->name;
  };
  return std::count_if(machine.tiers.begin(), machine.tiers.end(), shares) > 1
             ? tier.link->name
             : tier.name + "." + tier.link->name;
}

// Index of the tier of that name; none if there is none.
std::optional<size_t> FindTier(const Machine& machine, absl::string_view name);

}  // namespace kvtier::sim
