// Proves that the block copies write every byte of the destination and none beside it, that the
// checksum computed on the way is wire::BlockChecksum for all sizes and alignments, and that it is
// the checksum of what was copied even while another process changes the source; and that a block
// copied in several calls, in any order, has the checksum of the whole.
#include "proto/wire/block_copy.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "proto/wire/checksum.h"
#include "tiering/base/rng.h"

namespace kvtier::wire {
namespace {

constexpr size_t kMargin = 128;

// Around every threshold and piece border, and whole blocks.
std::vector<size_t> Sizes() {
  std::vector<size_t> sizes = {0,   1,   31,    32,        33,     255,
                               256, 257, 12288, 65536 + 7, 262144, 262144 + 4095};
  for (const size_t border : {size_t{4096}, kNonTemporalBytesMin, kNonTemporalBytesMin + 4096}) {
    for (const size_t size : {border - 1, border, border + 1}) sizes.push_back(size);
  }
  return sizes;
}

struct FreeDeleter {
  void operator()(std::byte* bytes) const { std::free(bytes); }
};
using Buffer = std::unique_ptr<std::byte, FreeDeleter>;

Buffer NewBuffer(size_t bytes) {
  const size_t rounded = (bytes + 2 * kMargin + 4095) / 4096 * 4096;
  return Buffer(static_cast<std::byte*>(std::aligned_alloc(4096, rounded)));
}

// Runs `copy(to, from, bytes)` at every size and several alignments, and checks bytes and margins.
template <typename Copy>
void CheckCopies(Copy copy) {
  Rng rng(7);
  for (const size_t bytes : Sizes()) {
    for (const size_t to_offset : {size_t{0}, size_t{1}, size_t{16}, size_t{32}, size_t{63}}) {
      for (const size_t from_offset : {size_t{0}, size_t{5}}) {
        const Buffer from = NewBuffer(bytes);
        const Buffer to = NewBuffer(bytes);
        std::byte* source = from.get() + from_offset;
        std::byte* destination = to.get() + kMargin + to_offset;
        for (size_t i = 0; i < bytes; ++i) source[i] = static_cast<std::byte>(rng.Next());
        std::memset(to.get(), 0x5a, kMargin + to_offset);
        std::memset(destination + bytes, 0xa5, kMargin - to_offset);
        copy(destination, source, bytes);
        EXPECT_EQ(std::memcmp(destination, source, bytes), 0)
            << bytes << " bytes to offset " << to_offset << " from " << from_offset;
        EXPECT_TRUE(
            std::all_of(to.get(), destination, [](std::byte b) { return b == std::byte{0x5a}; }));
        EXPECT_TRUE(std::all_of(destination + bytes, destination + bytes + kMargin - to_offset,
                                [](std::byte b) { return b == std::byte{0xa5}; }))
            << bytes << " bytes to offset " << to_offset << " from " << from_offset;
      }
    }
  }
}

TEST(BlockCopyTest, PiecesInAnyOrderAndSplit) {
  Rng rng(11);
  for (const size_t bytes : {size_t{5000}, size_t{65536}, size_t{262144 + 4095}}) {
    const Buffer from = NewBuffer(bytes);
    const Buffer to = NewBuffer(bytes);
    for (size_t i = 0; i < bytes; ++i) from.get()[i] = static_cast<std::byte>(rng.Next());
    const size_t pieces = (bytes + kChecksumPieceBytes - 1) / kChecksumPieceBytes;
    uint64_t combined = ChecksumSeed(bytes);
    for (size_t end = pieces; end > 0;) {  // runs of pieces, from the last one back
      const size_t begin = end - 1 - rng.Below(std::min<size_t>(end, 5));
      const size_t at = begin * kChecksumPieceBytes;
      combined = CopyPieces(to.get() + at, from.get() + at,
                            std::min(end * kChecksumPieceBytes, bytes) - at, begin, combined);
      end = begin;
    }
    CopyFence();
    EXPECT_EQ(combined, BlockChecksum({from.get(), bytes}));
    EXPECT_EQ(std::memcmp(to.get(), from.get(), bytes), 0) << bytes;
  }
}

TEST(BlockCopyTest, CopyBytesCopiesAllAndNothingElse) {
  CheckCopies(
      [](std::byte* to, const std::byte* from, size_t bytes) { CopyBytes(to, from, bytes); });
}

TEST(BlockCopyTest, FusedChecksumIsTheBlockChecksum) {
  CheckCopies([](std::byte* to, const std::byte* from, size_t bytes) {
    EXPECT_EQ(CopyWithChecksum(to, from, bytes), BlockChecksum({from, bytes})) << bytes << " bytes";
  });
}

TEST(BlockCopyTest, KernelIsNamed) {
  const std::string name = BlockCopyKernelName();
  EXPECT_TRUE(name == "avx2" || name == "portable") << name;
}

// The writer is a process, as a hostile client would be: a thread would be a data race by the
// letter.
TEST(BlockCopyTest, ChecksumIsOfTheBytesCopiedWhileTheSourceChanges) {
  constexpr size_t kBytes = 64 << 10;
  void* shared = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* source = static_cast<std::byte*>(shared);
  const pid_t writer = fork();
  ASSERT_GE(writer, 0);
  if (writer == 0) {
    volatile auto* words = static_cast<volatile uint64_t*>(shared);
    for (uint64_t value = 1;; ++value) {
      for (size_t i = 0; i < kBytes / 8; i += 16) words[i] = value;
    }
  }
  // Until the writer has begun, nothing is proved.
  while (*static_cast<volatile uint64_t*>(shared) == 0) {
  }
  const Buffer to = NewBuffer(kBytes);
  std::byte* aligned = to.get();
  std::byte* unaligned = to.get() + 1;
  uint64_t changed = 0;
  uint64_t previous = 0;
  for (int round = 0; round < 2000; ++round) {
    std::byte* destination = round % 2 == 0 ? aligned : unaligned;
    const uint64_t checksum = CopyWithChecksum(destination, source, kBytes);
    ASSERT_EQ(checksum, BlockChecksum({destination, kBytes})) << "round " << round;
    changed += checksum != previous ? 1 : 0;
    previous = checksum;
  }
  EXPECT_GT(changed, 2u) << "the source did not change: nothing was tested";
  kill(writer, SIGKILL);
  EXPECT_EQ(waitpid(writer, nullptr, 0), writer);
  munmap(shared, kBytes);
}

}  // namespace
}  // namespace kvtier::wire
