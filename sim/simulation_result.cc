#include "sim/simulation_result.h"

#include <utility>

#include "sim/simulated_engine.h"

namespace kvtier::sim {

void StartResult(std::string policy, size_t tiers, size_t planes, SimulationResult& result) {
  result.policy = std::move(policy);
  result.tiers.resize(tiers);
  result.planes.resize(planes);
  for (SimulationResult::Plane& plane : result.planes) {
    plane.read_blocks.resize(tiers);
    plane.read_bytes.resize(tiers);
  }
}

void AddPhase(int64_t time_ns, int64_t stall_ns, uint64_t accesses, uint64_t hits, bool last_half,
              SimulationResult& result) {
  result.phase_ns.push_back(time_ns);
  result.phase_stall_ns.push_back(stall_ns);
  result.phase_accesses.push_back(static_cast<uint32_t>(accesses));
  result.phase_hits.push_back(static_cast<uint32_t>(hits));
  result.time_ns += time_ns;
  result.stall_ns += stall_ns;
  result.accesses += accesses;
  if (!last_half) return;
  result.accesses_last_half += accesses;
  result.hits_last_half += hits;
}

void FinishResult(SimulatedEngine& sim, SimulationResult& result) {
  const std::vector<PoolStatus> pools = sim.engine().Pools();
  for (size_t tier = 0; tier < result.tiers.size(); ++tier) {
    SimulationResult::Tier& of = result.tiers[tier];
    of.name = sim.machine().name(tier);
    of.slots = sim.slots(tier);
    of.moved_in_bytes =
        pools[tier].moved_in_blocks * static_cast<uint64_t>(sim.slot_bytes().count());
  }
  for (const SimPorts::Port& port : sim.machine().ports().ports()) {
    result.ports.push_back({port.name, port.units, port.operations, port.busy_ns, port.waited_ns});
  }
  const EngineCounters counters = sim.engine().counters();
  result.dropped_chunks = counters.dropped_chunks;
  result.moves_done = counters.moves_done;
  result.moves_failed = counters.moves_failed;
}

}  // namespace kvtier::sim
