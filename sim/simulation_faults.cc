#include "sim/simulation_faults.h"

namespace kvtier::sim {
namespace {

constexpr uint64_t kSlowdownMax = 16;

}  // namespace

void StartFaults(const SimFaults& faults, SimulatedEngine& sim) {
  if (faults.fail_copy_one_in == 0) return;
  sim.copies().FailOneIn(faults.fail_copy_one_in,
                         absl::UnavailableError("a fault of the simulation"));
}

uint32_t DrawFaults(const SimFaults& faults, Rng& rng, SimulatedEngine& sim) {
  SimPorts& ports = sim.machine().ports();
  if (faults.slow_port_one_in > 0) {
    for (uint32_t port = 0; port < ports.ports().size(); ++port) ports.set_slowdown(port, 1);
    if (rng.OneIn(faults.slow_port_one_in)) {
      const auto port = static_cast<uint32_t>(rng.Below(ports.ports().size()));
      ports.set_slowdown(port, static_cast<uint32_t>(2 + rng.Below(kSlowdownMax - 1)));
    }
  }
  if (faults.lose_pool_one_in == 0 || !rng.OneIn(faults.lose_pool_one_in)) return 0;
  const size_t tier = rng.Below(sim.machine().tier_count());
  sim.pool(tier).LoseContents();
  return 1u << tier;
}

}  // namespace kvtier::sim
