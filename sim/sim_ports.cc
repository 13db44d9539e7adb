#include "sim/sim_ports.h"

#include <algorithm>
#include <utility>

#include "tiering/base/check.h"

namespace kvtier::sim {
namespace {

// Rounded up, so that no port is ever faster than its rate.
SimTime TimeOf(const SimPorts::Port& port, uint64_t units) {
  const auto numerator = static_cast<unsigned __int128>(units) * 1'000'000'000u * port.slowdown;
  const unsigned __int128 time = (numerator + port.units_per_second - 1) / port.units_per_second;
  return time > static_cast<unsigned __int128>(kSimTimeMax) ? kSimTimeMax
                                                            : static_cast<SimTime>(time);
}

}  // namespace

uint32_t SimPorts::Add(std::string name, uint64_t units_per_second) {
  KVTIER_CHECK(units_per_second > 0);
  ports_.push_back({.name = std::move(name), .units_per_second = units_per_second});
  return static_cast<uint32_t>(ports_.size() - 1);
}

void SimPorts::set_slowdown(uint32_t port, uint32_t slowdown) {
  KVTIER_CHECK(port < ports_.size() && slowdown >= 1);
  ports_[port].slowdown = slowdown;
}

void SimPorts::ForgetServed() {
  for (Port& port : ports_) {
    port.units = port.operations = 0;
    port.busy_ns = port.waited_ns = 0;
  }
}

SimTime SimPorts::EndOf(absl::Span<const PortLoad> loads, SimTime earliest) const {
  SimTime end = earliest;
  for (const PortLoad& load : loads) {
    if (load.units == 0) continue;
    const Port& port = ports_[load.port];
    end = std::max(end, std::max(earliest, port.free_at) + TimeOf(port, load.units));
  }
  return end;
}

SimTime SimPorts::Occupy(absl::Span<const PortLoad> loads, SimTime earliest, int64_t latency_ns) {
  SimTime end = earliest;
  for (const PortLoad& load : loads) {
    if (load.units == 0) continue;
    Port& port = ports_[load.port];
    const SimTime time = TimeOf(port, load.units);
    const SimTime start = std::max(earliest, port.free_at);
    port.free_at = std::min(start + time, kSimTimeMax);
    port.units += load.units;
    port.busy_ns = std::min(port.busy_ns + time, kSimTimeMax);
    port.waited_ns = std::min(port.waited_ns + (start - earliest), kSimTimeMax);
    ++port.operations;
    end = std::max(end, port.free_at);
  }
  end = std::min(end + latency_ns, kSimTimeMax);
  overflowed_ |= end == kSimTimeMax;
  return end;
}

}  // namespace kvtier::sim
