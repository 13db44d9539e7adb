#include "client/cli/simulation_report.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/policy/policy_factory.h"

namespace kvtier::cli {
namespace {

double Seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// Runs of phases of equal length, but for the last: no more than this.
constexpr size_t kStepsMax = 100;

Json StepsJson(const sim::SimulationResult& result) {
  const size_t phases = result.phase_ns.size();
  const size_t each = std::max<size_t>(1, (phases + kStepsMax - 1) / kStepsMax);
  Json steps = Json::array();
  for (size_t first = 0; first < phases; first += each) {
    const size_t end = std::min(first + each, phases);
    const auto sum = [&](const auto& of_phases) {
      return std::accumulate(of_phases.begin() + static_cast<std::ptrdiff_t>(first),
                             of_phases.begin() + static_cast<std::ptrdiff_t>(end), int64_t{0});
    };
    steps.push_back({{"phases", end - first},
                     {"time_s", Seconds(sum(result.phase_ns))},
                     {"stall_s", Seconds(sum(result.phase_stall_ns))},
                     {"accesses", sum(result.phase_accesses)},
                     {"hits", sum(result.phase_hits)}});
  }
  return steps;
}

Json PhaseTimesJson(const sim::SimulationResult& result) {
  std::vector<int64_t> sorted = result.phase_ns;
  std::sort(sorted.begin(), sorted.end());
  const auto quantile = [&](double share) {
    if (sorted.empty()) return 0.0;
    const auto last = static_cast<double>(sorted.size() - 1);
    return Seconds(sorted[static_cast<size_t>(share * last)]);
  };
  return {
      {"mean", sorted.empty() ? 0 : Seconds(result.time_ns) / static_cast<double>(sorted.size())},
      {"p50", quantile(0.5)},
      {"p99", quantile(0.99)},
      {"max", quantile(1)}};
}

}  // namespace

absl::Status CheckPolicies(absl::string_view option, const std::vector<std::string>& policies) {
  const std::vector<std::string> known = sim::PolicyNames();
  const bool may_be_none = option == "--policies";
  if (may_be_none && policies == std::vector<std::string>{"none"}) return absl::OkStatus();
  for (auto policy = policies.begin(); policy != policies.end(); ++policy) {
    if (std::find(known.begin(), known.end(), *policy) == known.end()) {
      return UsageError(absl::StrCat(option, " has \"", *policy, "\"; ",
                                     may_be_none ? "none, or " : "", "one or more of ",
                                     absl::StrJoin(known, ", "), " are needed"));
    }
    if (std::find(policies.begin(), policy, *policy) != policy)
      return UsageError(absl::StrCat(option, " has ", *policy, " twice"));
  }
  return absl::OkStatus();
}

Json PolicyJson(const sim::SimulationResult& result) {
  Json by_tier = Json::object();
  for (const sim::SimulationResult::Tier& tier : result.tiers)
    by_tier[tier.name] = Share(tier.read_blocks, result.accesses);
  Json by_link = Json::object();
  for (const sim::SimulationResult::Port& port : result.ports) {
    if (port.name != "compute") by_link[port.name] = port.units;
  }
  return {{"knows_future", sim::KnowsFuture(result.policy)},
          {"time_s", Seconds(result.time_ns)},
          {"stall_s", Seconds(result.stall_ns)},
          {"hit_rate", result.HitRate()},
          {"hit_rate_last_half", result.HitRateLastHalf()},
          {"hit_rate_by_tier", std::move(by_tier)},
          {"bytes_by_link", std::move(by_link)}};
}

Json SimulationJson(const sim::SimulationResult& result, double seconds, bool phases) {
  Json json = PolicyJson(result);
  json["phase_s"] = PhaseTimesJson(result);
  json["steps"] = StepsJson(result);
  json["accesses"] = result.accesses;
  json["hits"] = result.hits;
  Json tiers = Json::object();
  for (const sim::SimulationResult::Tier& tier : result.tiers) {
    tiers[tier.name] = {{"slots", tier.slots},
                        {"read_blocks", tier.read_blocks},
                        {"read_bytes", tier.read_bytes},
                        {"stored_bytes", tier.stored_bytes},
                        {"moved_in_bytes", tier.moved_in_bytes}};
  }
  json["tiers"] = std::move(tiers);
  Json planes = Json::array();
  for (const sim::SimulationResult::Plane& plane : result.planes) {
    Json one = Json::object();
    for (size_t tier = 0; tier < result.tiers.size(); ++tier) {
      one[result.tiers[tier].name] = {{"read_blocks", plane.read_blocks[tier]},
                                      {"read_bytes", plane.read_bytes[tier]}};
    }
    planes.push_back(std::move(one));
  }
  json["planes"] = std::move(planes);
  Json ports = Json::object();
  for (const sim::SimulationResult::Port& port : result.ports) {
    ports[port.name] = {{"units", port.units},
                        {"operations", port.operations},
                        {"busy_s", Seconds(port.busy_ns)},
                        {"queued_s", Seconds(port.waited_ns)}};
  }
  json["ports"] = std::move(ports);
  json["dropped_chunks"] = result.dropped_chunks;
  json["refused_chunks"] = result.refused_chunks;
  json["moves_done"] = result.moves_done;
  json["moves_failed"] = result.moves_failed;
  json["seconds"] = seconds;
  if (!phases) return json;
  Json times = Json::array();
  for (const int64_t ns : result.phase_ns) times.push_back(Seconds(ns));
  json["phase_times_s"] = std::move(times);
  json["phase_hits"] = result.phase_hits;
  return json;
}

std::string StarredPolicy(const std::string& policy) {
  return sim::KnowsFuture(policy) ? policy + "*" : policy;
}

void PrintRefused(const std::vector<sim::SimulationResult>& results) {
  const auto most = std::max_element(
      results.begin(), results.end(),
      [](const auto& a, const auto& b) { return a.refused_chunks < b.refused_chunks; });
  if (most == results.end() || most->refused_chunks == 0) return;
  std::printf(
      "%llu chunks were computed and not stored (%s): prompts for which there was no room as a "
      "whole.\n",
      static_cast<unsigned long long>(most->refused_chunks), most->policy.c_str());
}

void PrintStar(const std::vector<sim::SimulationResult>& results) {
  for (const sim::SimulationResult& result : results) {
    if (!sim::KnowsFuture(result.policy)) continue;
    std::printf("* knows the future, as no policy in use can\n");
    return;
  }
}

}  // namespace kvtier::cli
