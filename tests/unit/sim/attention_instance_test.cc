// The placement problem of an attention trace has the phases, lives and loads that were counted by
// hand, in each mode; and what cannot be placed is refused with the numbers.
#include "sim/attention_instance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sim/spec_fields.h"
#include "sim/spec_reader.h"
#include "tests/support/bound/brute_force.h"
#include "tests/support/status_matchers.h"

namespace kvtier::sim {
namespace {

using ::kvtier::test_support::IsOk;
using ::kvtier::test_support::LeastSeconds;
using ::kvtier::test_support::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AttentionInstanceTest : public ::testing::Test {
 protected:
  AttentionInstanceTest() {
    model_ = {.name = "m",
              .layers = 2,
              .query_heads = 2,
              .kv_heads = 1,
              .head_dim = 8,
              .bytes_per_value = 2,
              .score_dim = 8,
              .value_dim = 8,
              .weight_bytes = 1001,
              .pass_weight_bytes = 1001,
              .active_parameters = 500};
    // Blocks 0 and 1 are whole at first, 2 from the second step on.
    trace_.geometry = {
        .model = "m", .planes = 2, .block_tokens = 4, .prompt_tokens = 11, .steps = 3};
    AttentionTraceWriter writer(trace_.geometry);
    writer.Add({0, 1}, {0, 0});
    writer.Add({1}, {0});
    writer.Add({0, 2}, {0, 0});
    writer.Add({}, {});
    writer.Add({0}, {0});
    writer.Add({2}, {0});
    trace_ = *DecodeAttentionTrace(writer.Finish(), "f");
  }
  absl::StatusOr<AttentionInstance> Make(const AttentionInstanceOptions& options) const {
    return MakeAttentionInstance(trace_, machine_, model_, options);
  }
  void Set(const std::vector<std::string>& overrides) {
    ASSERT_THAT(ApplyOverrides(overrides, machine_, model_), IsOk());
  }

  ModelSpec model_;
  AttentionTrace trace_;
  Machine machine_ = *ReadMachine("gh200");
};

TEST_F(AttentionInstanceTest, HasStepsAsPhases) {
  ASSERT_OK_AND_ASSIGN(const AttentionInstance made, Make({}));
  const bound::Instance& instance = made.instance;
  EXPECT_EQ(instance.phase_count, 3u);
  EXPECT_THAT(made.block_plane, ElementsAre(0, 0, 0, 1, 1));
  EXPECT_THAT(made.block_index, ElementsAre(0, 1, 2, 1, 2)) << "what is never read is left out";
  EXPECT_THAT(instance.birth, ElementsAre(0, 0, 1, 0, 1));
  EXPECT_THAT(instance.death, ElementsAre(3, 1, 2, 1, 3));
  EXPECT_THAT(instance.access_phase, ElementsAre(0, 1, 2, 0, 1, 0, 2));
  EXPECT_EQ(instance.classes.size(), 1u);
  EXPECT_EQ(instance.classes[0].bytes, 4u * 32) << "4 tokens, a head of 8, twice, 2 bytes each";
  EXPECT_THAT(instance.TableOf(0).states(), ElementsAre(1, 2, 3));
  EXPECT_EQ(instance.classes[0].start_states, 7);
  // 2 heads x (8 + 8) x 2 operations for each of a read block's 4 tokens.
  const uint64_t read = 4 * 64;
  EXPECT_THAT(instance.BaseLoad(0), ElementsAre(1001, 0, 0, 0, 1000 + 3 * read));
  EXPECT_THAT(instance.BaseLoad(1), ElementsAre(1001, 0, 0, 0, 1000 + 2 * read));
}

TEST_F(AttentionInstanceTest, HasLayersAsPhases) {
  ASSERT_OK_AND_ASSIGN(const AttentionInstance made, Make({.phase = AttentionPhase::kLayer}));
  const bound::Instance& instance = made.instance;
  EXPECT_EQ(instance.phase_count, 6u);
  EXPECT_THAT(instance.birth, ElementsAre(0, 0, 2, 0, 2));
  EXPECT_THAT(instance.death, ElementsAre(5, 1, 3, 2, 6));
  EXPECT_THAT(instance.access_phase, ElementsAre(0, 2, 4, 0, 2, 1, 5));
  EXPECT_THAT(instance.BaseLoad(1), ElementsAre(500, 0, 0, 0, 500 + 4 * 64));
}

TEST_F(AttentionInstanceTest, HasTwoPhasesALayerWhereCopiesComeFirst) {
  ASSERT_OK_AND_ASSIGN(
      const AttentionInstance made,
      Make({.phase = AttentionPhase::kLayer, .mode = AttentionMode::kStrict, .steps_max = 2}));
  const bound::Instance& instance = made.instance;
  EXPECT_EQ(instance.phase_count, 8u);
  EXPECT_EQ(made.steps, 2u);
  EXPECT_THAT(instance.access_phase, ElementsAre(1, 5, 1, 5, 3));
  EXPECT_THAT(instance.BaseLoad(4), ElementsAre(0, 0, 0, 0, 0)) << "a stall";
  EXPECT_THAT(instance.BaseLoad(5), ElementsAre(500, 0, 0, 0, 500 + 2 * 4 * 64));
  const bound::OptionTable& table = instance.TableOf(0);
  EXPECT_TRUE(table.Options(1, 1, 1).empty()) << "what is only in DRAM cannot be read";
  EXPECT_FALSE(table.Options(1, 0, 0).empty());
}

// A read of what is elsewhere loads the GPU's own memory when it comes and when it is read, and
// then it may as well stay there.
TEST_F(AttentionInstanceTest, StreamsThroughTheGpusOwnMemory) {
  const auto loads = [&](AttentionMode mode, std::vector<std::string> tiers, uint8_t to) {
    const auto made = Make({.tier_names = std::move(tiers), .mode = mode});
    EXPECT_THAT(made, IsOk());
    if (!made.ok()) return std::vector<int>();
    const bound::OptionTable& table = made->instance.TableOf(0);
    const auto dram = static_cast<bound::StateIndex>(table.state_count() == 1 ? 0 : 1);
    const auto options = table.Options(1, dram, table.state_count() == 1 ? 0 : to);
    EXPECT_EQ(options.size(), 1u);
    if (options.empty()) return std::vector<int>();
    return std::vector<int>(options[0].per_byte.begin(), options[0].per_byte.begin() + 4);
  };
  // Of hbm, dram, the link to the GPU and from it.
  EXPECT_THAT(loads(AttentionMode::kStream, {}, 1), ElementsAre(2, 1, 1, 0));
  EXPECT_THAT(loads(AttentionMode::kStream, {}, 0), ElementsAre(2, 1, 1, 0));
  EXPECT_THAT(loads(AttentionMode::kInPlace, {}, 1), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(loads(AttentionMode::kInPlace, {}, 0), ElementsAre(1, 1, 1, 0));
  EXPECT_THAT(loads(AttentionMode::kStream, {"dram"}, 1), ElementsAre(2, 1, 1, 0));
  EXPECT_THAT(loads(AttentionMode::kInPlace, {"dram"}, 1), ElementsAre(0, 1, 1, 0));
}

TEST_F(AttentionInstanceTest, KeepsAHostCopyOnInclusiveMachines) {
  machine_.inclusive = true;
  ASSERT_OK_AND_ASSIGN(const AttentionInstance made, Make({}));
  EXPECT_THAT(made.instance.TableOf(0).states(), ElementsAre(2, 3));
  Set({"dram=300B"});
  EXPECT_THAT(Make({}), StatusIs(absl::StatusCode::kFailedPrecondition,
                                 HasSubstr("blocks of 384 bytes, and the tier that holds")));
}

TEST_F(AttentionInstanceTest, RefusesWhatCannotBePlaced) {
  Set({"hbm=1284B", "dram=100B"});
  EXPECT_THAT(Make({}), StatusIs(absl::StatusCode::kFailedPrecondition,
                                 HasSubstr("step 0 has blocks of 384 bytes, and the tiers have "
                                           "383")));
  EXPECT_THAT(Make({.tier_names = {"hbm"}}), StatusIs(absl::StatusCode::kFailedPrecondition));
  Set({"hbm=1200B", "dram=1GiB"});
  AttentionInstanceOptions strict{.phase = AttentionPhase::kLayer, .mode = AttentionMode::kStrict};
  EXPECT_THAT(Make(strict), StatusIs(absl::StatusCode::kFailedPrecondition,
                                     HasSubstr("step 0 reads 256 bytes of plane 0, and the GPU's "
                                               "own memory has 199")));
  Set({"hbm=1GiB"});
  EXPECT_THAT(Make(strict), IsOk());
  strict.tier_names = {"dram"};
  EXPECT_THAT(Make(strict), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("own memory")));
  EXPECT_THAT(Make({.mode = AttentionMode::kStrict}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--phase layer")));
  Set({"hbm=1000B"});
  EXPECT_THAT(Make({}), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("weights of m")));
}

TEST_F(AttentionInstanceTest, RefusesATraceOfAnotherModel) {
  model_.name = "n";
  EXPECT_THAT(Make({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model \"m\"")));
  model_.name = "m";
  model_.layers = 3;
  EXPECT_THAT(Make({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 layers")));
}

// No room beside the weights but in DRAM: the slower of weights and reads, step by step.
TEST_F(AttentionInstanceTest, TakesTheTimeOfTheSlowerMemory) {
  Set({"link.c2c=1MB/s", "tier.hbm.bandwidth=3MB/s", "compute=1GFLOP/s"});
  ASSERT_OK_AND_ASSIGN(const AttentionInstance made, Make({.tier_names = {"dram"}}));
  const double weights = 1001 / 3e6;
  const double expected = std::max(weights, 3 * 128 / 1e6) + 2 * std::max(weights, 256 / 1e6);
  EXPECT_NEAR(LeastSeconds(made.instance), expected, 1e-12);
}

// Streaming never quicker than reads in place, and strict copies never quicker than that; and room
// for all in the GPU's memory quicker than DRAM alone.
TEST_F(AttentionInstanceTest, OrdersItsModes) {
  Set({"link.c2c=1MB/s", "hbm=1400B"});
  const auto seconds = [&](AttentionMode mode, std::vector<std::string> tiers) {
    const auto made = Make({.tier_names = std::move(tiers),
                            .phase = AttentionPhase::kLayer,
                            .mode = mode,
                            .steps_max = 2});
    EXPECT_THAT(made, IsOk());
    return LeastSeconds(made->instance);
  };
  const double in_place = seconds(AttentionMode::kInPlace, {});
  EXPECT_LE(in_place, seconds(AttentionMode::kStream, {}) * (1 + 1e-12));
  EXPECT_LE(seconds(AttentionMode::kStream, {}), seconds(AttentionMode::kStrict, {}) * (1 + 1e-12));
  EXPECT_LT(in_place, seconds(AttentionMode::kInPlace, {"dram"}));
}

}  // namespace
}  // namespace kvtier::sim
