// A watch sees the end of memory when the last of those goes who have it, whatever they have it by,
// and not before.
#include "tiering/host/holder_watch.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/support/waiting_child.h"
#include "tiering/host/host_segment.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {
namespace {

using test_support::IsOk;

constexpr Bytes kBytes = KiB(64);
constexpr auto kSize = static_cast<size_t>(kBytes.count());

class HoldersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto watch = HolderWatch::Create(); !watch.ok())
      GTEST_SKIP() << "no inotify here: " << watch.status();
    ASSERT_THAT(CheckHolderWatch(false), IsOk());
    auto watch = HolderWatch::Create();
    ASSERT_THAT(watch, IsOk());
    watch_.emplace(*std::move(watch));
    ASSERT_OK_AND_ASSIGN(segment_, HostSegment::Create({.name = "test", .bytes = kBytes}));
    std::memset(segment_->address(), 1, kSize);
    ASSERT_OK_AND_ASSIGN(number_, watch_->Add("test", segment_->fd()));
  }
  // What the owner itself has.
  void LetGo() { segment_.reset(); }
  // Since the last call.
  bool Ended() {
    const std::vector<int> ended = watch_->TakeEnded();
    EXPECT_TRUE(ended.empty() || ended == std::vector<int>({number_}));
    return !ended.empty();
  }

  std::optional<HolderWatch> watch_;
  std::unique_ptr<HostSegment> segment_;
  int number_ = -1;
};

TEST_F(HoldersTest, TheOwnersDescriptorAndMappingCount) {
  ASSERT_OK_AND_ASSIGN(OwnedFd copy, Duplicate("test", segment_->fd()));
  ASSERT_OK_AND_ASSIGN(const int again, watch_->Add("test", copy.get()));
  EXPECT_EQ(again, number_);
  EXPECT_FALSE(Ended());
  LetGo();
  EXPECT_FALSE(Ended());
  copy.Close();
  EXPECT_TRUE(Ended());
  EXPECT_FALSE(Ended()) << "once only";
}

TEST_F(HoldersTest, WhatIsUsedAndSealedIsNoEnd) {
  ASSERT_THAT(SealFromWriting("test", segment_->fd()), IsOk());
  segment_->address()[0] = std::byte{2};
  ASSERT_THAT(ReopenForReading("test", segment_->fd()), IsOk());
  EXPECT_FALSE(Ended());
}

TEST_F(HoldersTest, AReadersDescriptorAndThenItsMappingCount) {
  ASSERT_THAT(SealFromWriting("test", segment_->fd()), IsOk());
  ASSERT_OK_AND_ASSIGN(OwnedFd reader, ReopenForReading("test", segment_->fd()));
  LetGo();
  EXPECT_FALSE(Ended());
  void* const mapped = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, reader.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  reader.Close();
  EXPECT_FALSE(Ended());
  // A part of it is enough.
  munmap(mapped, kSize / 2);
  EXPECT_FALSE(Ended());
  munmap(static_cast<std::byte*>(mapped) + kSize / 2, kSize / 2);
  EXPECT_TRUE(Ended());
}

TEST_F(HoldersTest, AWritersDescriptorAndThenItsMappingCount) {
  ASSERT_OK_AND_ASSIGN(OwnedFd writer, Duplicate("test", segment_->fd()));
  auto* const mapped = static_cast<std::byte*>(
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, writer.get(), 0));
  ASSERT_NE(mapped, MAP_FAILED);
  writer.Close();
  mapped[7] = std::byte{7};
  EXPECT_EQ(segment_->address()[7], std::byte{7});
  LetGo();
  EXPECT_FALSE(Ended());
  munmap(mapped, kSize);
  EXPECT_TRUE(Ended());
}

TEST_F(HoldersTest, WhatAForkedChildStillMapsCounts) {
  ASSERT_OK_AND_ASSIGN(OwnedFd reader, ReopenForReading("test", segment_->fd()));
  void* const mapped = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, reader.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  reader.Close();
  test_support::WaitingChild child;
  munmap(mapped, kSize);
  LetGo();
  EXPECT_FALSE(Ended());
  child.End();
  EXPECT_TRUE(Ended());
}

TEST_F(HoldersTest, ADescriptorOnItsWayCounts) {
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
  {
    ASSERT_OK_AND_ASSIGN(const OwnedFd reader, ReopenForReading("test", segment_->fd()));
    char byte = 1;
    iovec packet{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &packet;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = reader.get();
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    ASSERT_EQ(sendmsg(sockets[0], &message, 0), 1);
  }
  LetGo();
  EXPECT_FALSE(Ended());
  close(sockets[0]);
  EXPECT_FALSE(Ended()) << "the other end can still take it";
  close(sockets[1]);
  EXPECT_TRUE(Ended());
}

TEST_F(HoldersTest, ADescriptorOfTheNameAloneCounts) {
  // File leases do not see it, and it is as good as one for reading.
  OwnedFd name(open(absl::StrCat("/proc/self/fd/", segment_->fd()).c_str(), O_PATH | O_CLOEXEC));
  ASSERT_TRUE(name.valid());
  LetGo();
  EXPECT_FALSE(Ended());
  {
    ASSERT_OK_AND_ASSIGN(const OwnedFd reader, ReopenForReading("test", name.get()));
    char byte = 0;
    EXPECT_EQ(pread(reader.get(), &byte, 1, 0), 1);
    EXPECT_EQ(byte, 1) << "with all that was written";
  }
  name.Close();
  EXPECT_TRUE(Ended());
}

TEST_F(HoldersTest, MoreThanTheKernelQueuesAreNoticedAllTheSame) {
  std::ifstream limit("/proc/sys/fs/inotify/max_queued_events");
  size_t queued = 0;
  ASSERT_TRUE(limit >> queued);
  const size_t count = queued + 1000;
  if (count > 50'000) GTEST_SKIP() << "this machine queues " << queued << " events";
  ASSERT_OK_AND_ASSIGN(HolderWatch watch, HolderWatch::Create());
  std::set<int> numbers;
  std::vector<void*> mapped;
  for (size_t i = 0; i < count; ++i) {
    const OwnedFd memory(memfd_create("test", MFD_CLOEXEC));
    ASSERT_TRUE(memory.valid());
    ASSERT_EQ(ftruncate(memory.get(), 4096), 0);
    const auto number = watch.Add("test", memory.get());
    if (absl::IsResourceExhausted(number.status())) {
      for (void* const address : mapped) munmap(address, 4096);
      GTEST_SKIP() << number.status();
    }
    ASSERT_THAT(number, IsOk());
    numbers.insert(*number);
    mapped.push_back(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, memory.get(), 0));
    ASSERT_NE(mapped.back(), MAP_FAILED);
  }
  EXPECT_EQ(watch.TakeEnded().size(), 0u);
  for (size_t i = 1; i < count; ++i) munmap(mapped[i], 4096);
  const std::vector<int> ended = watch.TakeEnded();
  EXPECT_EQ(ended.size(), count - 1);
  EXPECT_EQ(std::set<int>(ended.begin(), ended.end()).size(), count - 1);
  munmap(mapped[0], 4096);
  EXPECT_EQ(watch.TakeEnded().size(), 1u);
}

TEST(HoldersOfHugePagesTest, AreSeen) {
  // Only its pages are short where there are none: the file itself takes nothing.
  const OwnedFd memory(memfd_create("kvtier-test", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB));
  if (!memory.valid()) GTEST_SKIP() << "this machine has no huge pages for files";
  EXPECT_THAT(CheckHolderWatch(true), IsOk());
}

}  // namespace
}  // namespace kvtier
