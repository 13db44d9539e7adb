// What operations share and wait for: the ports of memories, the directions of links, a processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "sim/sim_clock.h"

namespace kvtier::sim {

// What would end later ends then, and SimPorts::overflowed() is true from there on.
inline constexpr SimTime kSimTimeMax = int64_t{1} << 61;  // 73 years

// Units of one port that an operation takes.
struct PortLoad {
  uint32_t port = 0;
  uint64_t units = 0;
};

// Each port serves one operation after another, at its rate. Deterministic; not thread-safe.
class SimPorts {
 public:
  struct Port {
    std::string name;
    uint64_t units_per_second = 0;  // above zero
    // So many times slower than that: a fault. At least 1.
    uint32_t slowdown = 1;
    SimTime free_at = 0;
    uint64_t units = 0;     // served or being served
    SimTime busy_ns = 0;    // sum over operations
    SimTime waited_ns = 0;  // sum over operations: from when they could have started
    uint64_t operations = 0;
  };

  uint32_t Add(std::string name, uint64_t units_per_second);
  const std::vector<Port>& ports() const { return ports_; }
  void set_slowdown(uint32_t port, uint32_t slowdown);

  // When an operation that comes at `earliest` would have been served. Each of its ports serves it
  // for its units over the port's rate, rounded up, as soon as it is free: a piece of an operation
  // passes one port while other pieces wait for the next.
  SimTime EndOf(absl::Span<const PortLoad> loads, SimTime earliest) const;
  // It is served. Returns its end, which is `latency_ns` later.
  SimTime Occupy(absl::Span<const PortLoad> loads, SimTime earliest, int64_t latency_ns);
  // Of all that was served so far, only when ports come free is left.
  void ForgetServed();

  bool overflowed() const { return overflowed_; }

 private:
  std::vector<Port> ports_;
  bool overflowed_ = false;
};

}  // namespace kvtier::sim
