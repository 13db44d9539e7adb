// The contract of CopyEngine, run on every implementation: every accepted copy completes exactly
// once, with the bytes in place or a status that says why not; a refused one starts nothing; limits
// hold; cancelling loses nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "proto/wire/checksum.h"
#include "sim/sim_clock.h"
#include "sim/sim_copy_engine.h"
#include "sim/sim_machine.h"
#include "sim/sim_pool.h"
#include "tests/support/status_matchers.h"
#include "tiering/base/rng.h"
#include "tiering/host/cpu_copy_engine.h"
#include "tiering/move/copy_engine.h"

namespace kvtier {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using ::testing::AnyOf;
using ::testing::Eq;

constexpr uint32_t kInFlightMax = 12;
constexpr Bytes kSegmentBytes = MiB(1);

// An engine, and what a test does when it wants it to get on.
struct Subject {
  std::unique_ptr<CopyEngine> engine;
  std::function<void()> let_run;
};

struct Implementation {
  std::string name;
  std::function<Subject(std::vector<MemoryPool*>)> make;
};

Subject MakeCpu(std::vector<MemoryPool*> pools, uint32_t threads) {
  auto engine = CpuCopyEngine::Create(
      {.pools = std::move(pools), .threads = threads, .in_flight_max = kInFlightMax});
  EXPECT_THAT(engine, IsOk());
  return {.engine = *std::move(engine), .let_run = [] { std::this_thread::yield(); }};
}

Subject MakeSim(std::vector<MemoryPool*> pools, bool with_clock) {
  auto clock = std::make_shared<sim::SimClock>();
  auto engine = std::make_unique<sim::SimCopyEngine>(
      sim::SimCopyEngine::Options{.pools = std::move(pools),
                                  .seed = 3,
                                  .in_flight_max = kInFlightMax,
                                  .clock = with_clock ? clock.get() : nullptr});
  return {.engine = std::move(engine),
          .let_run = [clock] { clock->Advance(absl::Microseconds(15)); }};
}

// Takes the ports of a machine with so many tiers, like all that is simulated.
Subject MakeSimOnMachine(std::vector<MemoryPool*> pools) {
  auto clock = std::make_shared<sim::SimClock>();
  sim::Machine machine;
  machine.name = "contract";
  std::vector<size_t> tiers;
  for (size_t i = 0; i < pools.size(); ++i) {
    sim::MachineTier tier;
    tier.name = std::to_string(i);
    tier.bytes_per_second = 1'000'000'000'000;
    if (i > 0) {
      tier.link = sim::MachineLink{.name = std::to_string(i),
                                   .to_gpu_bytes_per_second = 25'000'000'000,
                                   .from_gpu_bytes_per_second = 25'000'000'000,
                                   .latency_ns = 2000};
    }
    machine.tiers.push_back(std::move(tier));
    tiers.push_back(i);
  }
  machine.flops_per_second = 1;
  auto created = sim::SimMachine::Create(machine, tiers);
  EXPECT_THAT(created, IsOk());
  auto on = std::make_shared<sim::SimMachine>(*std::move(created));
  auto engine = std::make_unique<sim::SimCopyEngine>(
      sim::SimCopyEngine::Options{.pools = std::move(pools),
                                  .seed = 3,
                                  .in_flight_max = kInFlightMax,
                                  .clock = clock.get(),
                                  .machine = on.get()});
  engine->Open(0, sim::kSimTimeMax);
  return {.engine = std::move(engine),
          .let_run = [clock, on] { clock->Advance(absl::Microseconds(15)); }};
}

std::vector<Implementation> Implementations() {
  return {
      {"CpuOneThread", [](auto pools) { return MakeCpu(std::move(pools), 1); }},
      {"CpuThreeThreads", [](auto pools) { return MakeCpu(std::move(pools), 3); }},
      {"SimByPolls", [](auto pools) { return MakeSim(std::move(pools), false); }},
      {"SimByClock", [](auto pools) { return MakeSim(std::move(pools), true); }},
      {"SimOnMachine", [](auto pools) { return MakeSimOnMachine(std::move(pools)); }},
  };
}

class CopyEngineContract : public ::testing::TestWithParam<Implementation> {
 protected:
  CopyEngineContract() {
    for (const char* name : {"hbm:0", "dram:0"}) {
      pools_.push_back(std::make_unique<sim::SimPool>(sim::SimPool::Options{
          .name = name, .segment_bytes = kSegmentBytes, .segments_max = 2, .with_bytes = true}));
      for (int i = 0; i < 2; ++i) EXPECT_THAT(pools_.back()->AddSegment(), IsOk());
    }
    Rng rng(5);
    for (int64_t i = 0; i < kSegmentBytes.count(); ++i) {
      At({PoolId(0), SegmentIndex(0), Bytes(i)})[0] = static_cast<std::byte>(rng.Next());
    }
    subject_ = GetParam().make({pools_[0].get(), pools_[1].get()});
    engine_ = subject_.engine.get();
  }

  std::byte* At(const SlotAddress& address) {
    return pools_[address.pool.value()]->Address(address.segment) + address.offset.count();
  }
  uint64_t ChecksumAt(const SlotAddress& address, Bytes bytes) {
    return wire::BlockChecksum({At(address), static_cast<size_t>(bytes.count())});
  }
  bool Equal(const CopyRequest& request) {
    return std::memcmp(At(request.source), At(request.destination),
                       static_cast<size_t>(request.bytes.count())) == 0;
  }
  // From pool 0, segment 0 to pool 1, segment 1.
  CopyRequest Request(uint64_t ticket, int64_t from, int64_t to, int64_t bytes) {
    const SlotAddress source{PoolId(0), SegmentIndex(0), Bytes(from)};
    const bool inside = from >= 0 && bytes > 0 && from <= kSegmentBytes.count() - bytes;
    return {.ticket = CopyTicket(ticket),
            .source = source,
            .destination = {PoolId(1), SegmentIndex(1), Bytes(to)},
            .bytes = Bytes(bytes),
            .checksum = inside ? ChecksumAt(source, Bytes(bytes)) : 0};
  }

  // Polls until `count` copies have completed; then once more, which must bring nothing.
  std::map<uint64_t, absl::Status> Await(size_t count) {
    std::vector<CopyCompletion> completions;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (completions.size() < count && std::chrono::steady_clock::now() < deadline) {
      subject_.let_run();
      engine_->Poll(completions);
    }
    subject_.let_run();
    engine_->Poll(completions);
    EXPECT_EQ(completions.size(), count);
    std::map<uint64_t, absl::Status> by_ticket;
    for (const CopyCompletion& completion : completions) {
      EXPECT_TRUE(by_ticket.emplace(completion.ticket.value(), completion.status).second)
          << "copy " << completion.ticket.value() << " completed twice";
    }
    return by_ticket;
  }

  std::vector<std::unique_ptr<sim::SimPool>> pools_;
  Subject subject_;
  CopyEngine* engine_ = nullptr;
};

TEST_P(CopyEngineContract, NothingSubmittedNothingCompletes) { EXPECT_TRUE(Await(0).empty()); }

TEST_P(CopyEngineContract, CopiesBytesOfAnySizeAndAlignment) {
  for (const int64_t bytes : {1, 100, 4095, 4096, 4097, 8192, 16384 + 5, 262144}) {
    for (const int64_t offset : {0, 1, 32, 4096}) {
      const CopyRequest request = Request(7, offset, 8192 - offset, bytes);
      ASSERT_THAT(engine_->Submit(request), IsOk());
      EXPECT_THAT(Await(1)[7], IsOk());
      EXPECT_TRUE(Equal(request)) << bytes << " bytes at " << offset;
    }
  }
}

TEST_P(CopyEngineContract, ManyCopiesCompleteOnceEach) {
  const char* given = std::getenv("KVTIER_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : 21;
  SCOPED_TRACE("KVTIER_TEST_SEED=" + std::to_string(seed));
  Rng rng(seed);
  std::map<uint64_t, CopyRequest> in_flight;
  std::set<int64_t> slots;  // destinations in use, of 64 KiB each
  uint64_t ticket = 0;
  uint64_t completed = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (completed < 400 && std::chrono::steady_clock::now() < deadline) {
    const int64_t slot = static_cast<int64_t>(rng.Below(16));
    if (in_flight.size() < kInFlightMax && slots.count(slot) == 0 && rng.OneIn(2)) {
      CopyRequest request = Request(++ticket, static_cast<int64_t>(rng.Below(16)) * 65536,
                                    slot * 65536, static_cast<int64_t>(rng.Below(65536)) + 1);
      request.priority = static_cast<CopyPriority>(rng.Below(3));
      ASSERT_THAT(engine_->Submit(request), IsOk());
      in_flight[ticket] = request;
      slots.insert(slot);
    }
    subject_.let_run();
    std::vector<CopyCompletion> completions;
    engine_->Poll(completions);
    for (const CopyCompletion& completion : completions) {
      const auto found = in_flight.find(completion.ticket.value());
      ASSERT_NE(found, in_flight.end())
          << "copy " << completion.ticket.value() << " is not in flight";
      ASSERT_THAT(completion.status, IsOk());
      ASSERT_TRUE(Equal(found->second));
      slots.erase(found->second.destination.offset.count() / 65536);
      in_flight.erase(found);
      ++completed;
    }
  }
  EXPECT_GE(completed, 400u);
}

TEST_P(CopyEngineContract, FlippedBitInTheSourceIsDataLoss) {
  const CopyRequest request = Request(1, 65536, 0, 65536);
  *At({PoolId(0), SegmentIndex(0), Bytes(65536 + 40000)}) ^= std::byte{1};
  ASSERT_THAT(engine_->Submit(request), IsOk());
  ASSERT_THAT(engine_->Submit(Request(2, 0, 65536, 4096)), IsOk());
  auto completions = Await(2);
  EXPECT_THAT(completions[1], StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(completions[2], IsOk());
}

TEST_P(CopyEngineContract, WhatDoesNotFitIsRefusedAndStartsNothing) {
  const int64_t limit = kSegmentBytes.count();
  CopyRequest foreign_pool = Request(1, 0, 0, 4096);
  foreign_pool.source.pool = PoolId(2);
  CopyRequest foreign_segment = Request(1, 0, 0, 4096);
  foreign_segment.destination.segment = SegmentIndex(2);
  CopyRequest overlap = Request(1, 0, 4095, 4096);
  overlap.destination.pool = PoolId(0);
  overlap.destination.segment = SegmentIndex(0);
  const std::vector<CopyRequest> refused = {
      foreign_pool,
      foreign_segment,
      overlap,
      Request(1, 0, 0, 0),
      Request(1, 0, 0, -1),
      Request(1, -1, 0, 4096),
      Request(1, limit - 4095, 0, 4096),
      Request(1, 0, limit - 4095, 4096),
      Request(1, 0, limit, 1),
      Request(1, INT64_MAX - 10, 0, 4096),
      Request(1, 0, 0, INT64_MAX),
  };
  for (size_t i = 0; i < refused.size(); ++i) {
    EXPECT_THAT(engine_->Submit(refused[i]), StatusIs(absl::StatusCode::kInvalidArgument))
        << "case " << i;
  }
  EXPECT_TRUE(Await(0).empty());
  // Neighbours do not overlap.
  CopyRequest next_to = Request(1, 0, 4096, 4096);
  next_to.destination.pool = PoolId(0);
  next_to.destination.segment = SegmentIndex(0);
  EXPECT_THAT(engine_->Submit(next_to), IsOk());
  EXPECT_THAT(Await(1)[1], IsOk());
  EXPECT_TRUE(Equal(next_to));
}

TEST_P(CopyEngineContract, InFlightIsLimited) {
  EXPECT_EQ(engine_->in_flight_max(), kInFlightMax);
  for (int round = 0; round < 2; ++round) {
    for (uint64_t ticket = 0; ticket < kInFlightMax; ++ticket) {
      ASSERT_THAT(engine_->Submit(Request(ticket, 0, static_cast<int64_t>(ticket) * 4096, 4096)),
                  IsOk());
    }
    // Completed copies are in flight until they were polled.
    EXPECT_THAT(engine_->Submit(Request(100, 0, 65536, 4096)),
                StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_EQ(Await(kInFlightMax).count(100), 0u);
  }
}

TEST_P(CopyEngineContract, CancelledCopiesStillCompleteOnce) {
  for (int round = 0; round < 20; ++round) {
    std::map<uint64_t, CopyRequest> requests;
    for (uint64_t ticket = 0; ticket < kInFlightMax; ++ticket) {
      const int64_t from = (round * 4096) % 65536;
      requests[ticket] = Request(ticket, from, static_cast<int64_t>(ticket) * 65536, 65536);
      ASSERT_THAT(engine_->Submit(requests[ticket]), IsOk());
      if (ticket % 2 == 1) engine_->Cancel(CopyTicket(ticket - 1));
    }
    engine_->Cancel(CopyTicket(12345));  // unknown: nothing happens
    for (const auto& completion : Await(kInFlightMax)) {
      const uint64_t ticket = completion.first;
      if (ticket % 2 == 1) {
        EXPECT_THAT(completion.second, IsOk()) << "copy " << ticket << " was not cancelled";
      } else {
        EXPECT_THAT(completion.second.code(),
                    AnyOf(Eq(absl::StatusCode::kOk), Eq(absl::StatusCode::kCancelled)));
      }
      if (completion.second.ok()) {
        EXPECT_TRUE(Equal(requests[ticket])) << "copy " << ticket;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, CopyEngineContract, ::testing::ValuesIn(Implementations()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace kvtier
