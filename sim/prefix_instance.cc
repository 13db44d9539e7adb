#include "sim/prefix_instance.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "tiering/base/status_macros.h"
#include "tiering/bound/standard_tables.h"

namespace kvtier::sim {
namespace {

class PrefixInstanceBuilder {
 public:
  PrefixInstanceBuilder(const PrefixWorkload& workload, PrefixInstance& result)
      : workload_(workload), result_(result), instance_(result.instance) {}

  void AddBaseLoads(const ModelSpec& model) {
    instance_.phase_count = static_cast<uint32_t>(workload_.requests.size());
    instance_.base_load.resize(workload_.requests.size() * instance_.resources.size());
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      const PrefixRequest& request = workload_.requests[phase];
      if (request.chunk_count > 0 || request.extra_flops > 0)
        Base(phase, result_.parts.hbm) = model.pass_weight_bytes;
      Base(phase, result_.parts.compute) = request.extra_flops;
    }
  }

  void AddBlocks() {
    const size_t chunks = workload_.chunks.size();
    // Phases of each chunk, one chunk after another: requests are walked in order, so each chunk's
    // phases come in order.
    std::vector<uint64_t> first(chunks + 1);
    for (const uint32_t chunk : workload_.request_chunks) ++first[chunk + 1];
    for (size_t i = 0; i < chunks; ++i) first[i + 1] += first[i];
    std::vector<uint64_t> next(first.begin(), first.end() - 1);
    std::vector<uint32_t> phases(workload_.request_chunks.size());
    for (uint32_t phase = 0; phase < instance_.phase_count; ++phase) {
      for (const uint32_t chunk : workload_.ChunksOf(workload_.requests[phase]))
        phases[next[chunk]++] = phase;
    }
    instance_.first_access.push_back(0);
    for (uint32_t chunk = 0; chunk < chunks; ++chunk)
      AddBlock(chunk,
               absl::MakeConstSpan(phases).subspan(first[chunk], first[chunk + 1] - first[chunk]));
  }

 private:
  uint64_t& Base(uint32_t phase, uint8_t resource) {
    return instance_.base_load[phase * instance_.resources.size() + resource];
  }

  void AddBlock(uint32_t number, absl::Span<const uint32_t> phases) {
    const PrefixChunk& chunk = workload_.chunks[number];
    if (phases.size() == 1) {
      Base(phases.front(), result_.parts.compute) += chunk.recompute_flops;
      return;
    }
    const auto [found, is_new] =
        classes_.try_emplace(std::pair(chunk.bytes, chunk.recompute_flops),
                             static_cast<uint32_t>(instance_.classes.size()));
    if (is_new) {
      instance_.classes.push_back({.bytes = chunk.bytes,
                                   .recompute_units = chunk.recompute_flops,
                                   .table = 0,
                                   .start_states = 1});
    }
    result_.block_chunk.push_back(number);
    instance_.block_class.push_back(found->second);
    instance_.birth.push_back(phases.front());
    instance_.death.push_back(phases.back() + 1);
    instance_.access_phase.insert(instance_.access_phase.end(), phases.begin(), phases.end());
    instance_.first_access.push_back(instance_.access_phase.size());
  }

  const PrefixWorkload& workload_;
  PrefixInstance& result_;
  bound::Instance& instance_;
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, uint32_t> classes_;
};

double UncachedSeconds(const PrefixWorkload& workload, const Machine& machine,
                       const ModelSpec& model) {
  const double weights_s = static_cast<double>(model.pass_weight_bytes) /
                           static_cast<double>(machine.tiers.front().bytes_per_second);
  double seconds = 0;
  for (const PrefixRequest& request : workload.requests) {
    if (request.chunk_count == 0 && request.extra_flops == 0) continue;
    auto flops = static_cast<double>(request.extra_flops);
    for (const uint32_t chunk : workload.ChunksOf(request))
      flops += static_cast<double>(workload.chunks[chunk].recompute_flops);
    seconds += std::max(weights_s, flops / static_cast<double>(machine.flops_per_second));
  }
  return seconds;
}

}  // namespace

absl::StatusOr<PrefixInstance> MakePrefixInstance(const PrefixWorkload& workload,
                                                  const Machine& machine, const ModelSpec& model,
                                                  const std::vector<std::string>& tier_names) {
  PrefixInstance result;
  KVTIER_ASSIGN_OR_RETURN(result.parts, MakeMachineParts(machine, model, tier_names));
  bound::Instance& instance = result.instance;
  instance.tiers = result.parts.tiers;
  instance.resources = result.parts.resources;
  instance.compute_resource = result.parts.compute;
  KVTIER_RETURN_IF_ERROR(AddTable({.tiers = result.parts.ports,
                                   .states = StatesOf(result.parts, true),
                                   .accesses_max = 1,
                                   .recompute = true},
                                  instance, result.schedules));
  PrefixInstanceBuilder builder(workload, result);
  builder.AddBaseLoads(model);
  builder.AddBlocks();
  KVTIER_RETURN_IF_ERROR(bound::Check(instance));
  result.uncached_s = UncachedSeconds(workload, machine, model);
  return result;
}

}  // namespace kvtier::sim
