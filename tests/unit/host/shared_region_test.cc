// Proves that memory beside the pools can be written to by nobody but its owner, or by whom it was
// made for, that its size is fixed, and that nothing of it is left behind. Every way of writing is
// tried on what a client would be handed.
#include "tiering/host/shared_region.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/ways_to_write.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {
namespace {

using test_support::StatusIs;
using test_support::WaysToWrite;
using ::testing::HasSubstr;

constexpr Bytes kBytes = KiB(64);

int64_t OpenDescriptors() {
  const std::filesystem::directory_iterator entries("/proc/self/fd");
  return std::distance(begin(entries), end(entries));
}

std::string Mappings() {
  std::ifstream maps("/proc/self/maps");
  return std::string((std::istreambuf_iterator<char>(maps)), std::istreambuf_iterator<char>());
}

TEST(SharedRegionTest, OnlyItsOwnerWrites) {
  ASSERT_OK_AND_ASSIGN(const auto region,
                       SharedRegion::Create("index", kBytes, SharedRegion::Writers::kOwner));
  ASSERT_OK_AND_ASSIGN(const OwnedFd fd, region->Fd());
  EXPECT_EQ(WaysToWrite(fd.get(), kBytes.count()), 0u);
  EXPECT_EQ(fcntl(fd.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_NE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  void* reader =
      mmap(nullptr, static_cast<size_t>(kBytes.count()), PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(reader, MAP_FAILED);
  region->memory()[100] = std::byte{42};
  EXPECT_EQ(static_cast<std::byte*>(reader)[100], std::byte{42});
  munmap(reader, static_cast<size_t>(kBytes.count()));
}

TEST(SharedRegionTest, AClientsPageIsWrittenByBothAndKeepsItsSize) {
  ASSERT_OK_AND_ASSIGN(const auto region,
                       SharedRegion::Create("page", kBytes, SharedRegion::Writers::kClients));
  ASSERT_OK_AND_ASSIGN(OwnedFd fd, region->Fd());
  const uint32_t ways = WaysToWrite(fd.get(), kBytes.count());
  EXPECT_NE(ways & test_support::kMapForWriting, 0u);
  EXPECT_EQ(ways & (test_support::kShrink | test_support::kGrow | test_support::kTruncateByOpening),
            0u);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1) << "a client seals nothing";
  ASSERT_EQ(pwrite(fd.get(), "x", 1, 7), 1);
  EXPECT_EQ(region->memory()[7], std::byte{'x'});
  region->CloseFd();
  fd.Close();
  EXPECT_EQ(region->memory()[7], std::byte{'x'});
}

TEST(SharedRegionTest, IsSparseAndNotInheritedAndGone) {
  const int64_t before = OpenDescriptors();
  {
    ASSERT_OK_AND_ASSIGN(const auto region, SharedRegion::Create("kvtier-sparse", GiB(256),
                                                                 SharedRegion::Writers::kOwner));
    region->memory()[0] = std::byte{1};
    region->memory().back() = std::byte{1};
    EXPECT_THAT(Mappings(), HasSubstr("kvtier-sparse"));
    const pid_t child = fork();
    if (child == 0) {
      // Not mapped: the kernel says ENOMEM.
      unsigned char resident = 0;
      _exit(mincore(region->memory().data(), 1, &resident) == 0 ? 1 : 0);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(Mappings().find("kvtier-sparse"), std::string::npos);
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(SharedRegionTest, AWriterThatLocksTheSealsIsFound) {
  OwnedFd fd(memfd_create("inbox", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_TRUE(fd.valid());
  EXPECT_FALSE(SealedFromWriting(fd.get()));
  ASSERT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL), 0);
  EXPECT_THAT(SealFromWriting("inbox", fd.get()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("inbox")));
  EXPECT_FALSE(SealedFromWriting(fd.get()));
}

}  // namespace
}  // namespace kvtier
