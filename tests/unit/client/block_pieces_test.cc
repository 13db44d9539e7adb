// Proves that blocks are gathered from and scattered over any division of a caller's memory whole,
// with the checksum of the whole, and that nothing beside the pieces is written.
#include "client/block_pieces.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::testing {
namespace {

// Cuts of `bytes` bytes: pieces of a few bytes, of some KiB, and empty ones.
std::vector<size_t> Cuts(size_t bytes, Rng& rng) {
  std::vector<size_t> cuts;
  while (bytes > 0) {
    const size_t limits[] = {1, 100, 4097, 20'000, bytes + 1};
    const size_t cut = std::min<size_t>(bytes, rng.Below(limits[rng.Below(5)]));
    cuts.push_back(cut);
    bytes -= cut;
  }
  return cuts;
}

TEST(BlockPiecesTest, EveryDivisionIsWhole) {
  Rng rng(test_support::TestSeed(4));
  for (int round = 0; round < 300; ++round) {
    const size_t sizes[] = {1, 600, 4096, 5000, 8192, 65536, 100'001};
    const size_t bytes = sizes[rng.Below(7)];
    std::vector<std::byte> memory(3 * bytes + 4096);
    for (std::byte& byte : memory) byte = static_cast<std::byte>(rng.Next());
    std::vector<ConstBuffer> from;
    std::vector<std::byte> whole;
    for (const size_t cut : Cuts(bytes, rng)) {
      const std::byte* const data = memory.data() + rng.Below(memory.size() - cut);
      from.push_back({data, cut});
      whole.insert(whole.end(), data, data + cut);
    }
    const uint64_t checksum = wire::BlockChecksum(whole);
    std::vector<std::byte> slot(bytes + 64, std::byte{0x5a});
    std::byte* const at = slot.data() + rng.Below(2) * 32;
    EXPECT_EQ(GatherBlock(at, from, bytes), checksum);
    EXPECT_EQ(std::memcmp(at, whole.data(), bytes), 0) << bytes;
    EXPECT_TRUE(std::all_of(at + bytes, slot.data() + slot.size(),
                            [](std::byte b) { return b == std::byte{0x5a}; }));

    for (const bool verified : {true, false}) {
      const std::vector<size_t> cuts = Cuts(bytes, rng);
      std::vector<std::byte> target(bytes + 16 * (cuts.size() + 1), std::byte{0xa5});
      std::vector<MutableBuffer> to;
      size_t next = 16;
      for (const size_t cut : cuts) {
        to.push_back({target.data() + next, cut});
        next += cut + 16;
      }
      if (verified) {
        EXPECT_EQ(ScatterBlock(to, whole.data(), bytes), checksum);
      } else {
        ScatterUnverified(to, whole.data(), bytes);
      }
      std::vector<std::byte> joined;
      for (const MutableBuffer& piece : to) {
        auto* const data = static_cast<std::byte*>(piece.data);
        joined.insert(joined.end(), data, data + piece.bytes);
        std::fill_n(data, piece.bytes, std::byte{0xa5});
      }
      EXPECT_EQ(joined, whole);
      EXPECT_TRUE(std::all_of(target.begin(), target.end(),
                              [](std::byte b) { return b == std::byte{0xa5}; }));
    }
  }
}

}  // namespace
}  // namespace kvtier::testing
