// What operations take of a simulated machine: the ports that docs/BOUND.md counts, never less than
// load over rate, one after another on each port; and copies in the time that is open for them.
#include "sim/sim_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sim/sim_copy_engine.h"
#include "sim/sim_pool.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::sim {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kGiga = 1'000'000'000;

MachineLink Link(std::string name, uint64_t in, uint64_t out) {
  return {.name = std::move(name),
          .to_gpu_bytes_per_second = in,
          .from_gpu_bytes_per_second = out,
          .latency_ns = 7};
}

// Own memory 8, a peer 4 behind 2, DRAM 1 behind 1 in and half of that out, in bytes a nanosecond.
Machine ThreeTiers() {
  Machine machine{.name = "three", .tiers = {}};
  machine.tiers.push_back({.name = "hbm",
                           .kind = TierKind::kHbm,
                           .capacity_bytes = 1 << 20,
                           .bytes_per_second = 8 * kGiga,
                           .latency_ns = 1});
  machine.tiers.push_back({.name = "peer",
                           .kind = TierKind::kPeer,
                           .capacity_bytes = 1 << 20,
                           .bytes_per_second = 4 * kGiga,
                           .latency_ns = 2,
                           .link = Link("nvlink", 2 * kGiga, 2 * kGiga)});
  machine.tiers.push_back({.name = "dram",
                           .kind = TierKind::kDram,
                           .capacity_bytes = 1 << 20,
                           .bytes_per_second = kGiga,
                           .latency_ns = 3,
                           .link = Link("pcie", kGiga, kGiga / 2)});
  machine.flops_per_second = kGiga;
  return machine;
}

std::map<std::string, uint64_t> Loads(const SimMachine& machine, const OperationCost& cost) {
  std::map<std::string, uint64_t> loads;
  for (const PortLoad& load : cost.loads)
    loads[machine.ports().ports()[load.port].name] += load.units;
  return loads;
}

TEST(SimMachineTest, EachOperationTakesItsPorts) {
  const SimMachine machine = *SimMachine::Create(ThreeTiers(), {0, 1, 2});
  EXPECT_THAT(Loads(machine, machine.Read(0, 10)), UnorderedElementsAre(Pair("hbm", 10)));
  EXPECT_THAT(Loads(machine, machine.Read(2, 10)),
              UnorderedElementsAre(Pair("dram", 10), Pair("dram.pcie.to_gpu", 10)));
  EXPECT_EQ(machine.Read(2, 10).latency_ns, 10);
  EXPECT_THAT(Loads(machine, machine.Store(0, 10)), UnorderedElementsAre(Pair("hbm", 10)));
  EXPECT_THAT(Loads(machine, machine.Store(1, 10)),
              UnorderedElementsAre(Pair("peer", 10), Pair("peer.nvlink.from_gpu", 10)));
  EXPECT_THAT(
      Loads(machine, machine.Copy(2, 0, 10)),
      UnorderedElementsAre(Pair("dram", 10), Pair("hbm", 10), Pair("dram.pcie.to_gpu", 10)));
  EXPECT_THAT(Loads(machine, machine.Copy(1, 2, 10)),
              UnorderedElementsAre(Pair("peer", 10), Pair("dram", 10),
                                   Pair("peer.nvlink.to_gpu", 10), Pair("dram.pcie.from_gpu", 10)));
  EXPECT_THAT(Loads(machine, machine.Compute(10)), UnorderedElementsAre(Pair("compute", 10)));
  EXPECT_THAT(Loads(machine, machine.OwnMemory(10)), UnorderedElementsAre(Pair("hbm", 10)));
}

TEST(SimMachineTest, TheGpusOwnMemoryIsThereWithoutHoldingBlocks) {
  const SimMachine machine = *SimMachine::Create(ThreeTiers(), {2});
  EXPECT_EQ(machine.name(0), "dram");
  EXPECT_THAT(Loads(machine, machine.Read(0, 10)),
              UnorderedElementsAre(Pair("dram", 10), Pair("dram.pcie.to_gpu", 10)));
  EXPECT_THAT(Loads(machine, machine.OwnMemory(10)), UnorderedElementsAre(Pair("hbm", 10)));
}

TEST(SimMachineTest, WhereTheLastTierHasACopyOfAll) {
  Machine inclusive = ThreeTiers();
  inclusive.inclusive = true;
  const SimMachine machine = *SimMachine::Create(inclusive, {0, 2});
  EXPECT_THAT(Loads(machine, machine.Copy(0, 1, 10)), UnorderedElementsAre());
  EXPECT_THAT(
      Loads(machine, machine.Store(0, 10)),
      UnorderedElementsAre(Pair("hbm", 10), Pair("dram", 10), Pair("dram.pcie.from_gpu", 10)));
  EXPECT_THAT(
      Loads(machine, machine.Copy(1, 0, 10)),
      UnorderedElementsAre(Pair("hbm", 10), Pair("dram", 10), Pair("dram.pcie.to_gpu", 10)));
  EXPECT_FALSE(SimMachine::Create(inclusive, {0, 1})->inclusive()) << "the last one is not used";
}

TEST(SimMachineTest, TiersThatAreNotThere) {
  for (const std::vector<size_t>& tiers : {std::vector<size_t>{}, std::vector<size_t>{3},
                                           std::vector<size_t>{0, 0}, std::vector<size_t>{2, 1}}) {
    EXPECT_THAT(SimMachine::Create(ThreeTiers(), tiers),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hold blocks")));
  }
}

TEST(SimPortsTest, OneAfterAnotherAndNeverFasterThanTheRate) {
  SimPorts ports;
  const uint32_t fast = ports.Add("fast", 4 * kGiga);
  const uint32_t slow = ports.Add("slow", kGiga);
  EXPECT_EQ(ports.Occupy({{fast, 40}, {slow, 40}}, 100, 0), 140);
  EXPECT_EQ(ports.EndOf({{fast, 4}}, 100), 111) << "the fast one is free at 110";
  EXPECT_EQ(ports.Occupy({{fast, 4}}, 100, 5), 116);
  EXPECT_EQ(ports.Occupy({{slow, 1}, {fast, 0}}, 100, 0), 141);
  EXPECT_EQ(ports.ports()[slow].waited_ns, 40);
  EXPECT_EQ(ports.ports()[fast].busy_ns, 11);
  ports.set_slowdown(slow, 3);
  EXPECT_EQ(ports.Occupy({{slow, 10}}, 200, 0), 230);
  // Rounded up.
  EXPECT_EQ(ports.Occupy({{fast, 1}}, 300, 0), 301);
}

TEST(SimPortsTest, WhateverComesTheRateHolds) {
  Rng rng(test_support::TestSeed(3));
  for (int run = 0; run < 200; ++run) {
    SimPorts ports;
    for (int i = 0; i < 4; ++i) ports.Add("port", 1 + rng.Below(10 * kGiga));
    SimTime first = 1 << 20, last = 0;
    std::vector<unsigned __int128> units(4);
    for (int operation = 0; operation < 50; ++operation) {
      std::vector<PortLoad> loads;
      for (uint32_t port = 0; port < 4; ++port) {
        if (rng.OneIn(2)) loads.push_back({port, rng.Below(1000)});
      }
      const auto earliest = static_cast<SimTime>(rng.Below(1000));
      first = std::min(first, earliest);
      const SimTime expected = ports.EndOf(loads, earliest);
      EXPECT_EQ(ports.Occupy(loads, earliest, 0), expected);
      last = std::max(last, expected);
      for (const PortLoad& load : loads) units[load.port] += load.units;
    }
    for (size_t port = 0; port < 4; ++port) {
      const unsigned __int128 most =
          static_cast<unsigned __int128>(last - first) * ports.ports()[port].units_per_second;
      EXPECT_TRUE(units[port] * kGiga <= most);
    }
  }
}

TEST(SimPortsTest, TimeThatRunsOverIsNoticed) {
  SimPorts ports;
  const uint32_t port = ports.Add("slow", 1);
  EXPECT_LT(ports.Occupy({{port, 1'000'000'000}}, 0, 0), kSimTimeMax);
  EXPECT_FALSE(ports.overflowed());
  EXPECT_EQ(ports.Occupy({{port, uint64_t{1} << 62}}, 0, 0), kSimTimeMax);
  EXPECT_TRUE(ports.overflowed());
  EXPECT_EQ(ports.Occupy({{port, 1}}, 5, 1000), kSimTimeMax);
}

class SimCopiesOnMachine : public ::testing::Test {
 protected:
  SimCopiesOnMachine() : machine_(*SimMachine::Create(ThreeTiers(), {0, 2})) {
    for (const char* name : {"hbm", "dram"}) {
      pools_.push_back(std::make_unique<SimPool>(SimPool::Options{
          .name = name, .segment_bytes = KiB(64), .segments_max = 1, .tag_bytes = KiB(4)}));
      EXPECT_THAT(pools_.back()->AddSegment(), IsOk());
    }
    for (int64_t i = 0; i < 16; ++i)
      pools_[1]->SetTag(SegmentIndex(0), KiB(4) * i, static_cast<uint64_t>(100 + i));
    copies_ = std::make_unique<SimCopyEngine>(
        SimCopyEngine::Options{.pools = {pools_[0].get(), pools_[1].get()},
                               .clock = &clock_,
                               .reorder = false,
                               .machine = &machine_,
                               .tagged = {pools_[0].get(), pools_[1].get()}});
  }
  // From DRAM to the GPU's own memory: 4,096 ns on the link, and 11 ns of latency.
  void Submit(uint64_t ticket, int64_t slot, CopyPriority priority = CopyPriority::kMigration) {
    EXPECT_THAT(copies_->Submit({.ticket = CopyTicket(ticket),
                                 .source = {PoolId(1), SegmentIndex(0), KiB(4) * slot},
                                 .destination = {PoolId(0), SegmentIndex(0), KiB(4) * slot},
                                 .bytes = KiB(4),
                                 .checksum = static_cast<uint64_t>(100 + slot),
                                 .priority = priority}),
                IsOk());
  }
  std::vector<uint64_t> DoneAt(SimTime time) {
    clock_.Advance(absl::Nanoseconds(time - clock_.elapsed_ns()));
    std::vector<CopyCompletion> completions;
    copies_->Poll(completions);
    std::vector<uint64_t> tickets;
    for (const CopyCompletion& completion : completions) {
      tickets.push_back(completion.ticket.value());
      statuses_.push_back(completion.status);
    }
    return tickets;
  }
  uint64_t Tag(int64_t slot) { return pools_[0]->Tag(SegmentIndex(0), KiB(4) * slot); }

  SimClock clock_;
  SimMachine machine_;
  std::vector<std::unique_ptr<SimPool>> pools_;
  std::unique_ptr<SimCopyEngine> copies_;
  std::vector<absl::Status> statuses_;
};

TEST_F(SimCopiesOnMachine, OneAfterAnotherByPriority) {
  copies_->Open(0, 1'000'000);
  Submit(1, 0);
  Submit(2, 1, CopyPriority::kPrefetch);
  Submit(3, 2, CopyPriority::kDemand);
  EXPECT_THAT(DoneAt(0), ElementsAre());
  EXPECT_THAT(DoneAt(4096 + 10), ElementsAre());
  EXPECT_THAT(DoneAt(4096 + 11), ElementsAre(3));
  EXPECT_EQ(Tag(2), 102u);
  EXPECT_EQ(Tag(1), 0u);
  EXPECT_THAT(DoneAt(2 * 4096 + 11), ElementsAre(2));
  EXPECT_THAT(DoneAt(3 * 4096 + 11), ElementsAre(1));
  EXPECT_EQ(Tag(0), 100u);
  for (const SimPorts::Port& port : machine_.ports().ports()) {
    const bool taken = port.name == "hbm" || port.name == "dram" || port.name == "dram.pcie.to_gpu";
    EXPECT_EQ(port.units, taken ? 3u * 4096 : 0u) << port.name;
  }
}

TEST_F(SimCopiesOnMachine, OneThatIsDelayedTakesSoMuchLonger) {
  copies_->Open(0, 1'000'000);
  copies_->DelayCopy(0, absl::Nanoseconds(500), 0);
  Submit(1, 0);
  EXPECT_THAT(DoneAt(4096 + 510), ElementsAre());
  EXPECT_THAT(DoneAt(4096 + 511), ElementsAre(1));
}

TEST_F(SimCopiesOnMachine, OnlyWhatEndsInTheOpenTime) {
  Submit(1, 0);
  Submit(2, 1);
  Submit(3, 2);
  EXPECT_THAT(DoneAt(100'000), ElementsAre()) << "nothing is open";
  // Room for two, and not for three; the third waits for the next time.
  copies_->Open(100'000, 109'000);
  EXPECT_THAT(DoneAt(109'000), ElementsAre(1, 2));
  EXPECT_EQ(copies_->started_until(), 100'000 + 2 * 4096 + 11);
  EXPECT_EQ(copies_->in_flight(), 1u);
  // Too short for any, so one starts all the same.
  copies_->Open(109'000, 109'001);
  Submit(4, 3);
  EXPECT_THAT(DoneAt(109'000), ElementsAre());
  EXPECT_EQ(copies_->started_until(), 109'000 + 4096 + 11);
  EXPECT_THAT(DoneAt(120'000), ElementsAre(3));
  EXPECT_THAT(DoneAt(220'000), ElementsAre());
}

TEST_F(SimCopiesOnMachine, ATagThatIsNotTheChecksumIsLoss) {
  copies_->Open(0, 1'000'000);
  Submit(1, 0);
  pools_[1]->SetTag(SegmentIndex(0), Bytes(0), 7);
  EXPECT_THAT(DoneAt(10'000), ElementsAre(1));
  EXPECT_THAT(statuses_[0], StatusIs(absl::StatusCode::kDataLoss, HasSubstr("tag")));
  copies_->FailCopy(0, absl::UnavailableError("down"));
  Submit(2, 1);
  EXPECT_THAT(DoneAt(20'000), ElementsAre(2));
  EXPECT_THAT(statuses_[1], StatusIs(absl::StatusCode::kUnavailable, HasSubstr("down")));
  EXPECT_NE(Tag(1), 101u) << "garbage, so that who relies on it is caught";
  pools_[1]->LoseContents();
  EXPECT_NE(pools_[1]->Tag(SegmentIndex(0), KiB(4) * 2), 102u);
}

}  // namespace
}  // namespace kvtier::sim
