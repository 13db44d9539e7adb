// The engine on a simulated machine: what cannot be is refused with the numbers, what the checkers
// look for is found when it is there, and a phase lasts until its work and its copies are done.
#include "sim/simulated_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/spec_reader.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_policies.h"
#include "tiering/plan/lru_policy.h"

namespace kvtier::sim {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;
using Code = absl::StatusCode;

SimulatedEngineOptions Options() {
  SimulatedEngineOptions options;
  options.machine = *ReadMachine("h100-pcie5");
  options.tiers = {0, 1};
  options.plane_bytes = 64 << 10;
  options.plane_count = 2;
  options.chunk_tokens = 16;
  options.chunk_count = 100;
  options.policy = LruPolicy::Create();
  return options;
}

absl::Status CreateStatus(SimulatedEngineOptions options) {
  return SimulatedEngine::Create(std::move(options)).status();
}

TEST(SimulatedEngineTest, WhatCannotBeIsRefused) {
  SimulatedEngineOptions options = Options();
  options.weight_bytes = uint64_t{80} << 30;
  EXPECT_THAT(CreateStatus(std::move(options)),
              StatusIs(Code::kResourceExhausted, HasSubstr("weights of 85899345920 bytes")));
  options = Options();
  options.machine.tiers[0].capacity_bytes = 65'535;
  EXPECT_THAT(CreateStatus(std::move(options)),
              StatusIs(Code::kResourceExhausted, HasSubstr("tier hbm has 65535 bytes")));
  options = Options();
  options.machine.tiers[1].bytes_per_second = 0;
  EXPECT_THAT(CreateStatus(std::move(options)),
              StatusIs(Code::kInvalidArgument, HasSubstr("dram")));
  options = Options();
  options.chunk_count = uint64_t{1} << 40;
  EXPECT_THAT(CreateStatus(std::move(options)),
              StatusIs(Code::kInvalidArgument, HasSubstr("blocks are possible")));
  options = Options();
  options.plane_bytes = uint64_t{1} << 50;
  EXPECT_THAT(CreateStatus(std::move(options)),
              StatusIs(Code::kInvalidArgument, HasSubstr("2^40")));
}

TEST(SimulatedEngineTest, LargeTiersTakeNoMoreThanTheBlocksNeed) {
  SimulatedEngineOptions options = Options();
  options.machine.tiers[1].capacity_bytes = kCapacityBytesMax;
  const auto sim = SimulatedEngine::Create(std::move(options));
  ASSERT_THAT(sim, IsOk());
  EXPECT_GE((*sim)->slots(1), 200u);
  EXPECT_LT((*sim)->slots(1), 10'000u);
}

TEST(SimulatedEngineTest, SmallTiersKeepTheirRoom) {
  for (const uint64_t slots : {1u, 2u, 17u, 2047u, 2049u, 5000u}) {
    SimulatedEngineOptions options = Options();
    options.tiers = {1};
    options.chunk_count = 10'000;
    options.machine.tiers[1].capacity_bytes = slots * options.plane_bytes + 1;
    const auto sim = SimulatedEngine::Create(std::move(options));
    ASSERT_THAT(sim, IsOk());
    EXPECT_LE((*sim)->slots(0), slots);
    EXPECT_GE((*sim)->slots(0), slots - slots / 1000);
  }
}

// One chunk of two planes, under lease.
class SimulatedChunk : public ::testing::Test {
 protected:
  void SetUp() override {
    SimulatedEngineOptions options = Options();
    auto policy = std::make_unique<test_support::ScriptedPolicy>();
    policy_ = policy.get();
    options.policy = std::move(policy);
    auto sim = SimulatedEngine::Create(std::move(options));
    ASSERT_THAT(sim, IsOk());
    sim_ = *std::move(sim);
    Engine& engine = sim_->engine();
    ReserveArgs reserve;
    reserve.model = sim_->model();
    const auto reservation = engine.Reserve(sim_->caller(), reserve, sim_->now());
    ASSERT_THAT(reservation, IsOk());
    CommitArgs commit;
    commit.key = SimChunkKey(7);
    commit.token_count = 16;
    for (uint16_t plane = 0; plane < 2; ++plane) {
      const auto target = engine.Target(sim_->caller(), *reservation, 0, PlaneIndex(plane));
      ASSERT_THAT(target, IsOk());
      slots_.push_back(target->slot);
      commit.checksums.push_back(ContentTag(7, plane));
      sim_->pool(target->slot.pool.value())
          .SetTag(target->slot.segment, target->slot.offset, commit.checksums.back());
    }
    ASSERT_THAT(engine.Commit(sim_->caller(), *reservation, commit, sim_->now()), IsOk());
    const auto found = engine.Lookup(sim_->caller(), sim_->model(), {commit.key},
                                     absl::ZeroDuration(), sim_->now());
    ASSERT_THAT(found, IsOk());
    ASSERT_THAT(engine.Resolve(sim_->caller(), found->lease, 0, {}, targets_), IsOk());
    ASSERT_EQ(targets_.size(), 2u);
  }

  // From the GPU's own memory to DRAM, at the next tick: kCopyNs of the link, then kLatencyNs.
  void Demote(uint16_t plane) {
    policy_->Move(sim_->model(), SimChunkKey(7), PlaneIndex(plane), PoolId(0), PoolId(1));
  }
  std::map<std::string, uint64_t> Units() {
    std::map<std::string, uint64_t> units;
    for (const SimPorts::Port& port : sim_->machine().ports().ports()) {
      if (port.units > 0) units[port.name] = port.units;
    }
    return units;
  }
  static constexpr SimTime kCopyNs = 1040;     // 64 KiB at 63.02 GB/s, rounded up
  static constexpr SimTime kLatencyNs = 2600;  // of both memories and the link

  test_support::ScriptedPolicy* policy_ = nullptr;  // the engine's
  std::unique_ptr<SimulatedEngine> sim_;
  std::vector<SlotAddress> slots_;
  std::vector<ReadTarget> targets_;
};

TEST_F(SimulatedChunk, WhatWasWrittenIsThere) {
  for (const ReadTarget& target : targets_) EXPECT_THAT(sim_->CheckContent(target, 7), IsOk());
  EXPECT_THAT(sim_->CheckAll(), IsOk());
  EXPECT_THAT(sim_->CheckContent(targets_[0], 8), StatusIs(Code::kDataLoss, HasSubstr("chunk 8")));
  ReadTarget nowhere = targets_[1];
  nowhere.copy_count = 0;
  EXPECT_THAT(sim_->CheckContent(nowhere, 7), StatusIs(Code::kDataLoss, HasSubstr("lost")));
}

TEST_F(SimulatedChunk, ASlotThatWasOverwrittenIsFound) {
  sim_->pool(slots_[1].pool.value()).SetTag(slots_[1].segment, slots_[1].offset, 5);
  EXPECT_THAT(sim_->CheckContent(targets_[1], 7), StatusIs(Code::kDataLoss, HasSubstr("plane 1")));
  EXPECT_THAT(sim_->CheckAll(), StatusIs(Code::kInternal, HasSubstr("plane 1")));
  EXPECT_THAT(sim_->CheckAll(1u << slots_[1].pool.value()), IsOk()) << "that tier was lost";
}

TEST_F(SimulatedChunk, APhaseLastsUntilTheCopiesThatItStarted) {
  Demote(0);
  EXPECT_THAT(sim_->Pass(1, 1), IsOk());
  EXPECT_EQ(sim_->time(), kCopyNs + kLatencyNs);
  EXPECT_EQ(sim_->copies().in_flight(), 0u);
  EXPECT_THAT(Units(), UnorderedElementsAre(Pair("hbm", 64 << 10), Pair("dram", 64 << 10),
                                            Pair("dram.pcie.from_gpu", 64 << 10)));
}

TEST_F(SimulatedChunk, WhatIsSettledTakesItsTimeAfterTheWork) {
  Demote(0);
  Demote(1);
  const SimTime work = sim_->Do(sim_->machine().Read(0, 1 << 20));
  EXPECT_THAT(sim_->EndWorkSettled(), IsOk());
  EXPECT_EQ(sim_->time(), work + 2 * kCopyNs + kLatencyNs);
}

TEST_F(SimulatedChunk, APhaseLastsUntilTheLastOfItsWork) {
  const SimTime long_work = sim_->Do(sim_->machine().Read(1, 1 << 20));
  const SimTime short_work = sim_->Do(sim_->machine().Read(0, 1));
  EXPECT_LT(short_work, long_work);
  EXPECT_THAT(sim_->EndWork(1), IsOk());
  EXPECT_EQ(sim_->time(), long_work);
}

TEST_F(SimulatedChunk, TimeThatRunsOverIsAnError) {
  EXPECT_THAT(sim_->Pass(1000, 3), IsOk());
  EXPECT_EQ(sim_->time(), 1000);
  sim_->Do(sim_->machine().Compute(uint64_t{1} << 62));
  sim_->Do(sim_->machine().Compute(uint64_t{1} << 62));
  EXPECT_THAT(sim_->EndWork(3), IsOk());
  for (int i = 0; i < 3; ++i) sim_->machine().ports().set_slowdown(0, 0xffffffff);
  sim_->Do(sim_->machine().OwnMemory(uint64_t{1} << 62));
  EXPECT_THAT(sim_->EndWork(3), StatusIs(Code::kOutOfRange, HasSubstr("73 years")));
}

}  // namespace
}  // namespace kvtier::sim
