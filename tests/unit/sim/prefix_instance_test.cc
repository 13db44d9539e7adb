// The placement problem of a trace of prompts has the blocks, lives and loads that were counted by
// hand, and its best schedule takes what a hand calculation says where that is possible.
#include "sim/prefix_instance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/spec_fields.h"
#include "sim/spec_reader.h"
#include "sim/trace_reader.h"
#include "tests/support/bound/brute_force.h"
#include "tests/support/status_matchers.h"

namespace kvtier::sim {
namespace {

using ::kvtier::test_support::IsOk;
using ::kvtier::test_support::LeastSeconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kBlock = 16;

class PrefixInstanceTest : public ::testing::Test {
 protected:
  void Add(const std::vector<uint64_t>& ids) {
    const std::string line = absl::StrCat(
        "{\"timestamp\": ", trace_.requests.size(), ", \"input_length\": ", ids.size() * kBlock,
        ", \"output_length\": 1, \"hash_ids\": [", absl::StrJoin(ids, ","), "]}");
    ASSERT_THAT(AppendMooncakeLine(line, "here", trace_), IsOk());
  }
  void Set(const std::vector<std::string>& overrides) {
    ASSERT_THAT(ApplyOverrides(overrides, machine_, model_), IsOk());
  }
  PrefixInstance Make(const std::vector<std::string>& tiers) {
    workload_ = *MakePrefixWorkload(trace_, model_, {});
    auto instance = MakePrefixInstance(workload_, machine_, model_, tiers);
    EXPECT_THAT(instance, IsOk());
    return *std::move(instance);
  }
  // Of request `index` alone, if it computes the chunks that `computed` names.
  double Seconds(const std::vector<uint32_t>& computed) const {
    uint64_t flops = 0;
    for (const uint32_t chunk : computed) flops += workload_.chunks[chunk].recompute_flops;
    const double weights = static_cast<double>(model_.pass_weight_bytes) /
                           static_cast<double>(machine_.tiers[0].bytes_per_second);
    const double compute =
        static_cast<double>(flops) / static_cast<double>(machine_.flops_per_second);
    return std::max(weights, compute);
  }

  Trace trace_{.block_tokens = kBlock};
  ModelSpec model_ = *ReadModel("llama-3.1-8b");
  Machine machine_ = *ReadMachine("h100-pcie5");
  PrefixWorkload workload_;
};

TEST_F(PrefixInstanceTest, HasBlocksLivesAndBaseLoads) {
  Add({1, 2, 3});
  Add({1, 2});
  Add({1, 4});
  Add({5});
  const PrefixInstance made = Make({"dram"});
  const bound::Instance& instance = made.instance;
  EXPECT_EQ(instance.phase_count, 4u);
  EXPECT_THAT(made.block_chunk, ElementsAre(0, 1)) << "what one request has is no block";
  EXPECT_THAT(instance.birth, ElementsAre(0, 0));
  EXPECT_THAT(instance.death, ElementsAre(3, 2));
  EXPECT_THAT(instance.access_phase, ElementsAre(0, 1, 2, 0, 1));
  std::vector<std::string> names;
  for (const bound::Resource& resource : instance.resources) names.push_back(resource.name);
  EXPECT_THAT(names,
              ElementsAre("hbm", "dram", "dram.pcie.to_gpu", "dram.pcie.from_gpu", "compute"));
  EXPECT_THAT(instance.BaseLoad(0),
              ElementsAre(model_.pass_weight_bytes, 0, 0, 0, workload_.chunks[2].recompute_flops));
  EXPECT_THAT(instance.BaseLoad(1), ElementsAre(model_.pass_weight_bytes, 0, 0, 0, 0));
  EXPECT_EQ(instance.ClassOf(0).bytes, kBlock * model_.KvBytesPerToken());
  EXPECT_EQ(instance.ClassOf(1).recompute_units, model_.PrefillFlops(kBlock, kBlock));
  EXPECT_THAT(instance.TableOf(0).states(), ElementsAre(0, 1));
}

TEST_F(PrefixInstanceTest, LeavesRoomForTheWeights) {
  Add({1});
  Add({1});
  const PrefixInstance made = Make({});
  EXPECT_EQ(made.instance.tiers[0].capacity_bytes,
            machine_.tiers[0].capacity_bytes - model_.weight_bytes);
  EXPECT_EQ(made.instance.tiers[1].capacity_bytes, machine_.tiers[1].capacity_bytes);
  EXPECT_EQ(made.instance.TableOf(0).state_count(), 4u);
  const ModelSpec large = *ReadModel("llama-3.1-70b");
  const absl::Status status = MakePrefixInstance(workload_, machine_, large, {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("weights of llama-3.1-70b"));
  EXPECT_FALSE(MakePrefixInstance(workload_, machine_, model_, {"dram", "dram"}).ok());
  EXPECT_FALSE(MakePrefixInstance(workload_, machine_, model_, {"ssd"}).ok());
}

TEST_F(PrefixInstanceTest, KeepsAHostCopyOnInclusiveMachines) {
  machine_ = *ReadMachine("arxiv-2508.13231");
  Add({1});
  Add({1});
  EXPECT_THAT(Make({}).instance.TableOf(0).states(), ElementsAre(0, 2, 3));
  EXPECT_THAT(Make({"hbm"}).instance.TableOf(0).states(), ElementsAre(0, 1));
}

// Room for all: what was computed once is read ever after, and reading is quicker than the weights.
TEST_F(PrefixInstanceTest, TakesTheTimeOfComputingOnceWhereThereIsRoom) {
  // So slow that chunks of 16 tokens take longer than the weights do.
  Set({"compute=1TFLOP/s"});
  Add({1, 2});
  Add({1, 2, 3});
  Add({1, 2});
  const PrefixInstance made = Make({"dram"});
  const double expected = Seconds({0, 1}) + Seconds({2}) + Seconds({});
  EXPECT_NEAR(LeastSeconds(made.instance), expected, 1e-9 * expected);
}

// Room for one chunk, and three that are used in turn: one of them is kept, the dearest.
TEST_F(PrefixInstanceTest, ComputesAgainWhatDoesNotFit) {
  Set({"compute=1TFLOP/s", absl::StrCat("dram=", kBlock * model_.KvBytesPerToken(), "B")});
  Add({1, 2});
  Add({1, 2});
  const PrefixInstance made = Make({"dram"});
  EXPECT_LT(workload_.chunks[0].recompute_flops, workload_.chunks[1].recompute_flops);
  const double expected = Seconds({0, 1}) + Seconds({0});
  EXPECT_NEAR(LeastSeconds(made.instance), expected, 1e-9 * expected);
}

// A slow link: it is better to compute again than to read.
TEST_F(PrefixInstanceTest, ComputesAgainWhatIsReadTooSlowly) {
  Set({"compute=1TFLOP/s", "link.pcie.to_gpu=1MB/s"});
  Add({1});
  Add({1});
  const PrefixInstance made = Make({"dram"});
  const double best = LeastSeconds(made.instance);
  // A small part of the bytes still comes over the link, while the rest is computed.
  EXPECT_LT(best, 2 * Seconds({0}));
  EXPECT_GT(best, 1.8 * Seconds({0}));
}

}  // namespace
}  // namespace kvtier::sim
