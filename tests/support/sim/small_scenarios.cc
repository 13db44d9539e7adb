#include "tests/support/sim/small_scenarios.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sim/attention_generator.h"
#include "sim/spec_fields.h"
#include "sim/spec_reader.h"
#include "tiering/base/check.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

constexpr const char* kMachines[] = {"h100-pcie5", "h100-sxm", "2xh100-nvlink", "gh200",
                                     "arxiv-2508.13231"};

sim::Trace Prompts(Rng& rng) {
  sim::Trace trace{.block_tokens = 16};
  const uint64_t groups = 1 + rng.Below(4);
  const size_t requests = 5 + rng.Below(40);
  for (size_t i = 0; i < requests; ++i) {
    sim::TraceRequest request;
    request.at_s = static_cast<double>(i);
    request.first_block = trace.ids.size();
    request.block_count = static_cast<uint32_t>(1 + rng.Below(10));
    const uint64_t group = rng.Below(groups);
    const uint64_t shared = rng.Below(request.block_count + 1);
    for (uint32_t block = 0; block < request.block_count; ++block) {
      // A prefix in common, and then one of few continuations, so that they come again, too.
      trace.ids.push_back(block < shared ? group * 1000 + block
                                         : 1'000'000 + group * 1000 + rng.Below(6) * 100 + block);
    }
    const uint64_t missing = rng.OneIn(3) ? rng.Below(trace.block_tokens) : 0;
    request.tokens = uint64_t{request.block_count} * trace.block_tokens - missing;
    // A block has one length: what is cut off elsewhere has another name.
    trace.ids.back() += 10'000'000 * missing;
    trace.requests.push_back(request);
  }
  return trace;
}

sim::AttentionTrace Attention(const sim::ModelSpec& model, Rng& rng) {
  sim::AttentionOptions options;
  options.geometry.model = model.name;
  options.geometry.provenance = "small";
  options.geometry.planes = model.layers;
  options.geometry.block_tokens = 16;
  options.geometry.prompt_tokens = 16 * (2 + rng.Below(30)) + rng.Below(16);
  options.geometry.steps = static_cast<uint32_t>(2 + rng.Below(30));
  options.read_milli = static_cast<uint32_t>(50 + rng.Below(600));
  options.persistence_milli = static_cast<uint32_t>(rng.Below(1000));
  options.seed = rng.Next();
  const auto bytes = sim::GenerateAttentionTrace(options, [] { return absl::OkStatus(); });
  KVTIER_CHECK(bytes.ok());
  auto trace = sim::DecodeAttentionTrace(*bytes, "small");
  KVTIER_CHECK(trace.ok());
  return *std::move(trace);
}

// From a tenth of it to all of it, evenly on a logarithmic scale.
uint64_t Slower(uint64_t rate, uint64_t times_max, Rng& rng) {
  uint64_t slower = rate;
  for (uint64_t times = 1; times < times_max; times *= 4)
    slower = rng.OneIn(2) ? slower / 4 : slower;
  return std::max(slower, sim::kRateMin);
}

}  // namespace

SmallScenario MakeSmallScenario(uint64_t seed) {
  Rng rng(seed);
  SmallScenario scenario;
  const char* const machine = kMachines[rng.Below(std::size(kMachines))];
  scenario.machine = *sim::ReadMachine(machine);
  scenario.model = *sim::ReadModel("llama-3.1-8b");
  scenario.model.layers = static_cast<uint32_t>(1 + rng.Below(4));
  // Little of what is not about blocks, so that it seldom binds.
  if (!rng.OneIn(4)) scenario.model.pass_weight_bytes /= 100'000;
  if (!rng.OneIn(4)) scenario.model.active_parameters /= 100'000;
  const bool attention = rng.OneIn(2);
  uint64_t blocks = 0;
  uint64_t block_bytes = 16 * scenario.model.KvBytesPerToken();
  if (attention) {
    sim::AttentionTrace trace = Attention(scenario.model, rng);
    const sim::AttentionGeometry& geometry = trace.geometry;
    blocks = uint64_t{geometry.BlocksAt(geometry.steps)} * geometry.planes;
    block_bytes /= scenario.model.layers;
    scenario.trace = std::move(trace);
    scenario.problem.phase =
        rng.OneIn(2) ? sim::AttentionPhase::kStep : sim::AttentionPhase::kLayer;
  } else {
    sim::Trace trace = Prompts(rng);
    blocks = trace.ids.size() / 2;
    scenario.trace = std::move(trace);
  }
  scenario.text = absl::StrCat("seed ", seed, ": ", attention ? "attention" : "prompts", " on ",
                               machine, ", ", blocks, " blocks or so");
  // The first tier has room for a part of them, beside the weights; of attention the last one has
  // room for all.
  for (size_t i = 0; i < scenario.machine.tiers.size(); ++i) {
    sim::MachineTier& tier = scenario.machine.tiers[i];
    const bool last = i + 1 == scenario.machine.tiers.size();
    const uint64_t most = attention && last ? 4 * blocks + 128 : 2 + rng.Below(blocks + 8);
    tier.capacity_bytes =
        (i == 0 ? scenario.model.weight_bytes : 0) + most * block_bytes + rng.Below(block_bytes);
    tier.bytes_per_second = Slower(tier.bytes_per_second, 64, rng);
    if (tier.link) {
      const uint64_t in = Slower(tier.link->to_gpu_bytes_per_second, 1024, rng);
      tier.link->from_gpu_bytes_per_second =
          rng.OneIn(2) ? in : Slower(tier.link->from_gpu_bytes_per_second, 1024, rng);
      tier.link->to_gpu_bytes_per_second = in;
      tier.link->latency_ns = rng.OneIn(2) ? 0 : 1000;
    }
    if (rng.OneIn(2)) tier.latency_ns = 0;
    if (last || !rng.OneIn(4)) scenario.problem.tier_names.push_back(tier.name);
    absl::StrAppend(&scenario.text, ", ", tier.name, " ", most);
  }
  scenario.problem.seed = seed;
  if (const auto* trace = std::get_if<sim::AttentionTrace>(&scenario.trace);
      trace != nullptr && scenario.problem.phase == sim::AttentionPhase::kLayer &&
      scenario.problem.tier_names.front() == scenario.machine.tiers[0].name && seed % 3 != 0) {
    scenario.problem.mode = sim::AttentionMode::kStrict;
    // So that any layer fits.
    scenario.machine.tiers[0].capacity_bytes +=
        trace->geometry.BlocksAt(trace->geometry.steps) * block_bytes;
    absl::StrAppend(&scenario.text, ", strict");
  } else if (attention) {
    const uint64_t buffers = 2 * scenario.problem.tier_names.size() * block_bytes;
    scenario.machine.tiers[0].capacity_bytes += 2 * buffers;
    if (rng.OneIn(3)) {
      scenario.problem.mode = sim::AttentionMode::kInPlace;
      absl::StrAppend(&scenario.text, ", in place");
    } else if (rng.OneIn(2)) {
      scenario.problem.mode = sim::AttentionMode::kStream;
      scenario.problem.staging_bytes = buffers + rng.Below(buffers);
      absl::StrAppend(&scenario.text, ", staging ", scenario.problem.staging_bytes);
    }
  }
  return scenario;
}

}  // namespace kvtier::test_support
