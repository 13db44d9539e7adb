// What a simulation of one policy on one trace and machine came to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace kvtier::sim {

// Plain data. Times are simulated nanoseconds; a phase is a request's prefill or a decode step or a
// layer of one.
struct SimulationResult {
  struct Tier {
    std::string name;
    uint64_t slots = 0;        // blocks that it has room for
    uint64_t read_blocks = 0;  // a chunk of a prefix is one
    uint64_t read_bytes = 0;
    uint64_t stored_bytes = 0;  // of new blocks
    uint64_t moved_in_bytes = 0;
  };
  struct Plane {
    std::vector<uint64_t> read_blocks;  // by tier
    std::vector<uint64_t> read_bytes;
  };
  struct Port {
    std::string name;
    uint64_t units = 0;  // bytes or floating-point operations
    uint64_t operations = 0;
    int64_t busy_ns = 0;
    int64_t waited_ns = 0;  // of operations in its queue
  };

  std::string policy;
  std::vector<int64_t> phase_ns;
  std::vector<int64_t> phase_stall_ns;
  int64_t time_ns = 0;   // their sum
  int64_t stall_ns = 0;  // beyond what the processor needs alone
  uint64_t accesses = 0;
  // Chunks of a prefix that were found in some tier; of attention, blocks that were found in the
  // first one.
  uint64_t hits = 0;
  // Of the last half of the phases.
  uint64_t accesses_last_half = 0;
  uint64_t hits_last_half = 0;
  std::vector<uint32_t> phase_accesses;
  std::vector<uint32_t> phase_hits;
  std::vector<Tier> tiers;
  std::vector<Plane> planes;
  std::vector<Port> ports;
  uint64_t dropped_chunks = 0;
  uint64_t refused_chunks = 0;  // computed, and not stored: no room for the prompt as a whole
  uint64_t moves_done = 0;
  uint64_t moves_failed = 0;
  uint64_t lost_blocks = 0;  // by faults

  double Seconds() const { return static_cast<double>(time_ns) / 1e9; }
  double HitRate() const { return Rate(hits, accesses); }
  double HitRateLastHalf() const { return Rate(hits_last_half, accesses_last_half); }

 private:
  static double Rate(uint64_t part, uint64_t whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  }
};

class SimulatedEngine;

void StartResult(std::string policy, size_t tiers, size_t planes, SimulationResult& result);
// After each phase, whose hits are in result.hits already.
void AddPhase(int64_t time_ns, int64_t stall_ns, uint64_t accesses, uint64_t hits, bool last_half,
              SimulationResult& result);
// What the engine and the machine counted.
void FinishResult(SimulatedEngine& sim, SimulationResult& result);

}  // namespace kvtier::sim
