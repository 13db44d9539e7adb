// Proves what pools in host memory add to the contract of MemoryPool: sealed memfds, segments given
// back, the machine's reserve, NUMA placement as far as this machine has it, huge pages that turn
// out not to be there, and that nothing is left behind.
#include "tiering/host/host_pool.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/topologies.h"
#include "tests/support/ways_to_write.h"
#include "tests/unit/host/host_pool_fixture.h"
#include "tiering/host/memfd_access.h"
#include "tiering/host/topology_discovery.h"

namespace kvtier {
namespace {

int64_t OpenDescriptors() {
  const std::filesystem::directory_iterator entries("/proc/self/fd");
  return std::distance(begin(entries), end(entries));
}

TEST_F(HostPoolTest, Descriptions) {
  const auto dram = NewPool(Options());
  EXPECT_EQ(dram->description().name, "dram:0");
  EXPECT_EQ(dram->description().kind, PoolKind::kDram);
  EXPECT_FALSE(dram->description().emulated);
  EXPECT_EQ(dram->description().page_bytes, KiB(4));
  EXPECT_EQ(dram->description().numa_node, -1);
  EXPECT_EQ(dram->segments_max(), 4u);

  HostPoolOptions uneven = Options();
  uneven.budget_bytes = MiB(7);
  ASSERT_OK_AND_ASSIGN(const auto hbm, HostPool::CreateEmulatedHbm(3, uneven, OneNodeTopology()));
  EXPECT_EQ(hbm->description().name, "hbm:3");
  EXPECT_EQ(hbm->description().kind, PoolKind::kHbm);
  EXPECT_TRUE(hbm->description().emulated);
  EXPECT_EQ(hbm->segments_max(), 3u);
}

TEST_F(HostPoolTest, RefusedOptionsNameTheirLimits) {
  const auto refuse = [&](auto change, auto matcher) {
    HostPoolOptions options = Options();
    change(options);
    EXPECT_THAT(HostPool::CreateDram(5, options, OneNodeTopology()),
                StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("dram:5"), matcher)));
  };
  refuse([](HostPoolOptions& o) { o.reserve = nullptr; }, HasSubstr("reserve"));
  refuse([](HostPoolOptions& o) { o.segment_bytes = Bytes(5000); }, HasSubstr("5000"));
  refuse([](HostPoolOptions& o) { o.segment_bytes = Bytes(0); }, HasSubstr("4096"));
  refuse([](HostPoolOptions& o) { o.segment_bytes = Bytes(-4096); }, HasSubstr("-4096"));
  refuse([](HostPoolOptions& o) { o.budget_bytes = MiB(1); }, HasSubstr("1 MiB"));
  refuse([](HostPoolOptions& o) { o.budget_bytes = GiB(1 << 20); }, HasSubstr("1048576"));
  refuse([](HostPoolOptions& o) { o.prefault_threads = 0; }, HasSubstr("0 prefault threads"));
  refuse([](HostPoolOptions& o) { o.prefault_threads = 65; }, HasSubstr("65"));
  refuse([](HostPoolOptions& o) { o.numa_node = 7; }, HasSubstr("no NUMA node 7"));
}

TEST_F(HostPoolTest, GpuMemoryIsNeverBoundTo) {
  Topology topology = OneNodeTopology();
  topology.nodes.push_back(
      {.os_index = 1, .memory_bytes = GiB(96), .cpus = {}, .is_gpu_memory = true});
  HostPoolOptions options = Options();
  options.numa_node = 1;
  EXPECT_THAT(HostPool::CreateDram(1, options, topology),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("GPU's memory")));
}

TEST_F(HostPoolTest, NothingIsBoundByAnotherMachinesTopology) {
  HostPoolOptions options = Options();
  options.numa_node = 0;
  const auto pool = NewPool(options);
  EXPECT_EQ(pool->stats().binding, NodeBinding::kNone);
  EXPECT_THAT(pool->stats().binding_note, HasSubstr("not this system's"));
  EXPECT_EQ(pool->description().numa_node, -1);
}

TEST_F(HostPoolTest, BindsToANodeOfThisMachineOrSaysWhyNot) {
  ASSERT_OK_AND_ASSIGN(const Topology topology, DiscoverTopology());
  HostPoolOptions options = Options();
  options.numa_node = topology.nodes[0].os_index;
  const auto pool = NewPool(options, topology);
  ASSERT_THAT(pool->AddSegment(), IsOk());
  EXPECT_TRUE(pool->AwaitPrefault(kPatience));
  const HostPoolStats stats = pool->stats();
  EXPECT_THAT(stats.growth, IsOk());
  if (stats.binding == NodeBinding::kBound) {
    EXPECT_EQ(stats.binding_note, "");
    // The kernel's own word for it.
    std::stringstream text;
    text << std::ifstream("/proc/self/numa_maps").rdbuf();
    if (!text.str().empty()) {
      EXPECT_THAT(text.str(), HasSubstr("bind:" + std::to_string(options.numa_node)));
    }
  } else {
    EXPECT_THAT(stats.binding_note, HasSubstr("refused"));
  }
  EXPECT_EQ(pool->description().numa_node,
            stats.binding == NodeBinding::kNone ? -1 : options.numa_node);
}

TEST_F(HostPoolTest, MemfdsAreSealedAndCloseOnExec) {
  const auto pool = NewPool(Options());
  ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
  const int fd = pool->fd(segment);
  EXPECT_EQ(ftruncate(fd, MiB(1).count()), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(fd, MiB(4).count()), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(lseek(fd, 0, SEEK_END), MiB(2).count());
  EXPECT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

TEST_F(HostPoolTest, OnceSealedASegmentIsWrittenByThoseWhoMappedItBefore) {
  const auto pool = NewPool(Options());
  ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
  EXPECT_FALSE(pool->sealed(segment));
  ASSERT_OK_AND_ASSIGN(const OwnedFd writer, pool->OpenForWriting(segment));
  auto* inbox = static_cast<std::byte*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer.get(), 0));
  ASSERT_NE(inbox, MAP_FAILED);
  ASSERT_THAT(pool->Seal(segment), IsOk());
  ASSERT_THAT(pool->Seal(segment), IsOk()) << "again";
  EXPECT_TRUE(pool->sealed(segment));

  ASSERT_OK_AND_ASSIGN(const OwnedFd reader, pool->OpenForReading(segment));
  EXPECT_EQ(test_support::WaysToWrite(reader.get(), MiB(2).count()), 0u);
  EXPECT_EQ(test_support::WaysToWrite(writer.get(), MiB(2).count()), 0u);
  auto* bytes =
      static_cast<std::byte*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, reader.get(), 0));
  ASSERT_NE(bytes, MAP_FAILED);
  *inbox = std::byte{42};
  EXPECT_EQ(*bytes, std::byte{42});
  *pool->Address(segment) = std::byte{43};
  EXPECT_EQ(*bytes, std::byte{43});
  EXPECT_TRUE(pool->AwaitPrefault(kPatience)) << "the pool itself goes on";
  EXPECT_THAT(pool->stats().growth, IsOk());
  munmap(inbox, 4096);
  munmap(bytes, 4096);
}

TEST_F(HostPoolTest, GivesBackWhatIsNotKeptReady) {
  const auto pool = NewPool(Options());
  std::vector<SegmentIndex> segments;
  for (int i = 0; i < 4; ++i) {
    ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
    segments.push_back(segment);
  }
  EXPECT_EQ(MappingsOfPools(), 4);
  for (const SegmentIndex segment : segments) pool->ReleaseSegment(segment, TenantId());
  EXPECT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(pool->stats().segments_ready, 1u);
  EXPECT_EQ(MappingsOfPools(), 1);
}

TEST_F(HostPoolTest, NeverMapsMoreThanItsBudget) {
  HostPoolOptions options = Options();
  options.ready_segments = 100;
  const auto pool = NewPool(options);
  ASSERT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(MappingsOfPools(), 4);
  for (int i = 0; i < 4; ++i) ASSERT_THAT(pool->AddSegment(), IsOk());
  EXPECT_THAT(pool->AddSegment(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("dram:0"), HasSubstr("4 segments of 2 MiB"))));
  EXPECT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(MappingsOfPools(), 4);
}

TEST_F(HostPoolTest, StopsGrowingAtTheMachinesReserve) {
  available_mib_ = 101;
  const auto pool = NewPool(Options());
  ASSERT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(pool->stats().segments_ready, 0u);
  EXPECT_THAT(pool->stats().growth, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(pool->AddSegment(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("dram:0"), HasSubstr("2 MiB"), HasSubstr("101 MiB"),
                             HasSubstr("a test"), HasSubstr("100 MiB"))));
  EXPECT_EQ(pool->stats().segments_active, 0u);
  EXPECT_EQ(reserve_->untouched(), Bytes(0));
  // A later call may succeed; the ready segments come back by themselves then.
  available_mib_ = 1000;
  EXPECT_THAT(pool->AddSegment(), IsOk());
  EXPECT_TRUE(pool->AwaitPrefault(kPatience));
  EXPECT_EQ(pool->stats().segments_ready, 1u);
  EXPECT_THAT(pool->stats().growth, IsOk());
}

TEST_F(HostPoolTest, SealsHoldForSmallPages) { EXPECT_THAT(CheckSealsHold(false), IsOk()); }

TEST_F(HostPoolTest, HugePagesThatCannotBeSealedAreNotShared) {
  huge_ = MiB(8);
  HostPoolOptions options = Options();
  options.check_huge_seals = [] { return absl::FailedPreconditionError("seals are ignored"); };
  options.sealed = true;
  {
    const auto pool = NewPool(options);
    ASSERT_NE(pool, nullptr);
    EXPECT_EQ(pool->description().page_bytes, KiB(4));
    EXPECT_EQ(pool->stats().page_note, "seals are ignored");
    EXPECT_THAT(pool->AddSegment(), IsOk());
  }
  // They are free for others again.
  EXPECT_TRUE(reserve_->ClaimHugePages(-1, MiB(8)));
  reserve_->ReleaseHugePages(-1, MiB(8));
  const absl::Status holds = CheckSealsHold(true);
  if (!holds.ok()) GTEST_SKIP() << "of this machine: " << holds;
}

TEST_F(HostPoolTest, HugePagesThatAreNotThereAreAnErrorAndNotACrash) {
  // Told that there are plenty, the pool relies on them. The machine may really have some: then it
  // works.
  huge_ = GiB(1024);
  HostPoolOptions options = Options();
  options.ready_segments = 0;
  const auto pool = NewPool(options);
  EXPECT_EQ(pool->description().page_bytes, MiB(2));
  const auto segment = pool->AddSegment();
  if (segment.ok()) {
    std::memset(pool->Address(*segment), 1, static_cast<size_t>(MiB(2).count()));
    EXPECT_EQ(pool->stats().prefaulted_bytes, MiB(2));
  } else {
    EXPECT_THAT(segment, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("dram:0")));
    EXPECT_EQ(pool->stats().segments_active, 0u);
  }
  // Segments that are no multiple of 2 MiB, and pools told not to, do without.
  options.huge_pages = false;
  EXPECT_EQ(NewPool(options)->description().page_bytes, KiB(4));
  options.huge_pages = true;
  options.segment_bytes = KiB(512);
  EXPECT_EQ(NewPool(options)->description().page_bytes, KiB(4));
}

TEST_F(HostPoolTest, MappingsAreNotInherited) {
  const auto pool = NewPool(Options());
  ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
  std::byte* address = pool->Address(segment);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    unsigned char page = 0;
    _exit(mincore(address, 4096, &page) == -1 && errno == ENOMEM ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the child has the mapping";
}

TEST_F(HostPoolTest, LeavesNothingBehind) {
  const int64_t descriptors = OpenDescriptors();
  for (int round = 0; round < 20; ++round) {
    HostPoolOptions options = Options();
    options.segment_bytes = MiB(1);
    options.prefault_threads = 2;
    const auto pool = NewPool(options);
    // Destroyed in the middle of pre-faulting and unmapping, in most rounds.
    for (int i = 0; i < round % 8; ++i) {
      ASSERT_OK_AND_ASSIGN(const SegmentIndex segment, pool->AddSegment());
      if (i % 2 == 1) pool->ReleaseSegment(segment, TenantId());
    }
  }
  EXPECT_EQ(OpenDescriptors(), descriptors);
  EXPECT_EQ(MappingsOfPools(), 0);
  EXPECT_EQ(reserve_->untouched(), Bytes(0));
}

}  // namespace
}  // namespace kvtier
