// Proves that the machine's memory is read as the kernel means it, from files made for the purpose
// (plain machine, control groups of both versions, nodes, huge pages), and that the reserve never
// promises the same memory twice.
#include "tiering/host/memory_reserve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tiering/host/machine_memory.h"

namespace kvtier {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class MachineMemoryTest : public ::testing::Test {
 protected:
  MachineMemoryTest() {
    dir_.Write(
        "proc/meminfo",
        "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8388608 kB\n"
        "HugePages_Total:      40\nHugePages_Free:       30\nHugePages_Rsvd:       10\n"
        "Hugepagesize:       2048 kB\n");
  }
  MemoryFiles Files() const {
    return {.proc = dir_.path() + "/proc",
            .cgroup = dir_.path() + "/cgroup",
            .nodes = dir_.path() + "/node"};
  }
  test_support::TempDir dir_;
};

TEST_F(MachineMemoryTest, PlainMachine) {
  ASSERT_OK_AND_ASSIGN(const MachineMemory memory, ReadMachineMemory(Files()));
  EXPECT_EQ(memory.available, GiB(8));
  EXPECT_EQ(memory.limit, "MemAvailable");
}

TEST_F(MachineMemoryTest, SmallestOfNestedGroupsVersion2) {
  dir_.Write("proc/self/cgroup", "0::/outer/inner\n");
  dir_.Write("cgroup/outer/inner/memory.max", "max\n");
  dir_.Write("cgroup/outer/inner/memory.current", "1048576\n");
  dir_.Write("cgroup/outer/memory.max", "4294967296\n");
  dir_.Write("cgroup/outer/memory.current", "3221225472\n");
  dir_.Write("cgroup/outer/memory.stat",
             "anon 2147483648\ninactive_file 1073741824\nactive_file 7\n");
  ASSERT_OK_AND_ASSIGN(const MachineMemory memory, ReadMachineMemory(Files()));
  // 4 GiB less 3 GiB used, of which 1 GiB is page cache that can go.
  EXPECT_EQ(memory.available, GiB(2));
  EXPECT_EQ(memory.limit, dir_.path() + "/cgroup/outer/memory.max");
}

TEST_F(MachineMemoryTest, GroupVersion1) {
  dir_.Write("proc/self/cgroup", "9:name=systemd:/box\n7:cpu,memory:/box\n");
  dir_.Write("cgroup/memory/box/memory.limit_in_bytes", "1073741824\n");
  dir_.Write("cgroup/memory/box/memory.usage_in_bytes", "536870912\n");
  ASSERT_OK_AND_ASSIGN(const MachineMemory memory, ReadMachineMemory(Files()));
  EXPECT_EQ(memory.available, MiB(512));
}

TEST_F(MachineMemoryTest, GroupOverItsLimitLeavesNothing) {
  dir_.Write("proc/self/cgroup", "0::/\n");
  dir_.Write("cgroup/memory.max", "1000\n");
  dir_.Write("cgroup/memory.current", "2000\n");
  ASSERT_OK_AND_ASSIGN(const MachineMemory memory, ReadMachineMemory(Files()));
  EXPECT_EQ(memory.available, Bytes(0));
}

TEST_F(MachineMemoryTest, MeminfoWithoutMemAvailableIsUnavailable) {
  dir_.Write("proc/meminfo", "MemFree: 12 kB\nMemAvailable: lots kB\n");
  EXPECT_THAT(ReadMachineMemory(Files()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(dir_.path() + "/proc/meminfo")));
  EXPECT_THAT(ReadMachineMemory({.proc = dir_.path() + "/nowhere"}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nowhere")));
}

TEST_F(MachineMemoryTest, NodesAndHugePages) {
  dir_.Write("node/node1/meminfo",
             "Node 1 MemTotal: 9000 kB\nNode 1 MemFree: 1000 kB\nNode 1 Active(file): 200 kB\n"
             "Node 1 Inactive(file): 30 kB\n");
  dir_.Write("node/node1/hugepages/hugepages-2048kB/free_hugepages", "3\n");
  ASSERT_OK_AND_ASSIGN(const Bytes node, ReadNodeMemory(1, Files()));
  EXPECT_EQ(node, KiB(1230));
  EXPECT_THAT(ReadNodeMemory(2, Files()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("node2")));
  EXPECT_EQ(ReadFreeHugePages(1, Files()), MiB(6));
  EXPECT_EQ(ReadFreeHugePages(2, Files()), Bytes(0));
  EXPECT_EQ(ReadFreeHugePages(-1, Files()), MiB(40));  // 30 free, 10 of them spoken for
}

TEST(LiveMachineMemoryTest, SaysSomething) {
  ASSERT_OK_AND_ASSIGN(const MachineMemory memory, ReadMachineMemory());
  EXPECT_GT(memory.available, MiB(1));
}

class MemoryReserveTest : public ::testing::Test {
 protected:
  MemoryReserve::Options Fake() {
    return {.reserve = MiB(100),
            .machine_memory = [this]() -> absl::StatusOr<MachineMemory> {
              return MachineMemory{.available = available_, .limit = "a test"};
            },
            .node_memory = [this](int) -> absl::StatusOr<Bytes> { return node_available_; },
            .free_huge_pages = [this](int) { return huge_; }};
  }
  Bytes available_ = MiB(164);
  Bytes node_available_ = MiB(1000);
  Bytes huge_ = MiB(8);
};

TEST_F(MemoryReserveTest, PromisesNoByteTwice) {
  MemoryReserve reserve(Fake());
  EXPECT_THAT(reserve.Claim("dram:0", -1, MiB(40)), IsOk());
  EXPECT_THAT(reserve.Claim("hbm:0", -1, MiB(25)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("hbm:0"), HasSubstr("25 MiB"), HasSubstr("164 MiB"),
                             HasSubstr("a test"), HasSubstr("40 MiB"), HasSubstr("100 MiB"))));
  EXPECT_EQ(reserve.untouched(), MiB(40));
  EXPECT_THAT(reserve.Claim("hbm:0", -1, MiB(24)), IsOk());
  // Touched memory is in the kernel's account instead: the sum stays the same.
  reserve.Settle(-1, MiB(40));
  available_ -= MiB(40);
  EXPECT_THAT(reserve.Claim("hbm:0", -1, MiB(1)), StatusIs(absl::StatusCode::kResourceExhausted));
  // Given up without having been touched.
  reserve.Settle(-1, MiB(24));
  EXPECT_THAT(reserve.Claim("hbm:0", -1, MiB(24)), IsOk());
}

TEST_F(MemoryReserveTest, NodeMustHaveItToo) {
  MemoryReserve reserve(Fake());
  node_available_ = MiB(30);
  EXPECT_THAT(reserve.Claim("dram:1", 1, MiB(20)), IsOk());
  EXPECT_THAT(reserve.Claim("dram:1", 1, MiB(20)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("dram:1"), HasSubstr("NUMA node 1"), HasSubstr("30 MiB"))));
  EXPECT_THAT(reserve.Claim("dram:0", 0, MiB(20)), IsOk());
}

TEST_F(MemoryReserveTest, RefusesWhatItCannotKnow) {
  MemoryReserve::Options options = Fake();
  options.machine_memory = []() -> absl::StatusOr<MachineMemory> {
    return absl::UnavailableError("no proc");
  };
  MemoryReserve reserve(std::move(options));
  EXPECT_THAT(reserve.Claim("dram:0", -1, MiB(1)), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(reserve.untouched(), Bytes(0));
}

TEST_F(MemoryReserveTest, HugePagesAreSharedOut) {
  MemoryReserve reserve(Fake());
  EXPECT_FALSE(reserve.ClaimHugePages(-1, MiB(10)));
  EXPECT_TRUE(reserve.ClaimHugePages(-1, MiB(6)));
  EXPECT_FALSE(reserve.ClaimHugePages(-1, MiB(4)));
  reserve.ReleaseHugePages(-1, MiB(6));
  EXPECT_TRUE(reserve.ClaimHugePages(-1, MiB(8)));
}

}  // namespace
}  // namespace kvtier
