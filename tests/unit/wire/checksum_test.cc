// Proves the properties that users of the block checksum rely on: it is what its description says
// (computed here a second time from xxhash's own library), pieces can be added in any order, and
// any changed bit, any swap of pieces and any change of length shows.
#include "proto/wire/checksum.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "tiering/base/rng.h"

namespace kvtier::wire {
namespace {

std::vector<std::byte> RandomBytes(size_t bytes, uint64_t seed) {
  Rng rng(seed);
  std::vector<std::byte> data(bytes);
  for (std::byte& byte : data) byte = static_cast<std::byte>(rng.Next());
  return data;
}

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

TEST(ChecksumTest, IsWhatItsDescriptionSays) {
  for (const size_t bytes :
       {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{65536}, size_t{100000}}) {
    const std::vector<std::byte> data = RandomBytes(bytes, bytes);
    uint64_t expected = Mix(bytes ^ 0x6b767469657231u);
    for (size_t piece = 0; piece * 4096 < bytes; ++piece) {
      const uint64_t hash =
          XXH3_64bits(data.data() + piece * 4096, std::min<size_t>(4096, bytes - piece * 4096));
      expected += Mix(hash ^ Mix((piece + 1) * 0x9e3779b97f4a7c15u));
    }
    EXPECT_EQ(BlockChecksum(data), expected) << bytes << " bytes";
  }
}

// A stored checksum outlives the program: these values must never change within one protocol major
// version.
TEST(ChecksumTest, GoldenValues) {
  std::vector<std::byte> data(10000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + 3);
  EXPECT_EQ(BlockChecksum({}), 0x21ffea196e0845a1u);
  EXPECT_EQ(BlockChecksum(absl::MakeConstSpan(data).first(64)), 0x7b04aedb7d3a2de6u);
  EXPECT_EQ(BlockChecksum(data), 0x08a404c589b47044u);
}

TEST(ChecksumTest, PiecesMayBeAddedInAnyOrder) {
  const std::vector<std::byte> data = RandomBytes(8 * kChecksumPieceBytes + 100, 1);
  std::vector<size_t> order(9);
  std::iota(order.begin(), order.end(), 0);
  for (int round = 0; round < 20; ++round) {
    std::next_permutation(order.begin(), order.end());
    std::reverse(order.begin() + round % 9, order.end());
    uint64_t combined = ChecksumSeed(data.size());
    for (const size_t piece : order) {
      const size_t offset = piece * kChecksumPieceBytes;
      combined = CombinePiece(
          combined, piece,
          PieceChecksum(data.data() + offset, std::min(kChecksumPieceBytes, data.size() - offset)));
    }
    EXPECT_EQ(combined, BlockChecksum(data)) << "round " << round;
  }
}

TEST(ChecksumTest, SwappedPiecesChangeIt) {
  std::vector<std::byte> data = RandomBytes(4 * kChecksumPieceBytes, 2);
  const uint64_t before = BlockChecksum(data);
  std::swap_ranges(data.begin(), data.begin() + kChecksumPieceBytes,
                   data.begin() + 2 * kChecksumPieceBytes);
  EXPECT_NE(BlockChecksum(data), before);
}

TEST(ChecksumTest, EqualPiecesDoNotCancelOut) {
  const std::vector<std::byte> two(2 * kChecksumPieceBytes, std::byte{7});
  const std::vector<std::byte> four(4 * kChecksumPieceBytes, std::byte{7});
  EXPECT_NE(BlockChecksum(two), BlockChecksum(four));
  EXPECT_NE(BlockChecksum(two), ChecksumSeed(two.size()));
}

TEST(ChecksumTest, LengthIsPartOfIt) {
  const std::vector<std::byte> data = RandomBytes(3 * kChecksumPieceBytes, 3);
  const absl::Span<const std::byte> all(data);
  std::vector<uint64_t> seen;
  for (size_t bytes = 0; bytes <= all.size(); bytes += 512)
    seen.push_back(BlockChecksum(all.first(bytes)));
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
  // Zeros behind the end would go unnoticed by a plain hash of zero-padded pieces.
  std::vector<std::byte> padded = data;
  padded.resize(data.size() + kChecksumPieceBytes);
  EXPECT_NE(BlockChecksum(padded), BlockChecksum(data));
}

TEST(ChecksumTest, EveryFlippedBitChangesIt) {
  std::vector<std::byte> data = RandomBytes(kChecksumPieceBytes + 300, 4);
  const uint64_t before = BlockChecksum(data);
  for (size_t bit = 0; bit < data.size() * 8; bit += 37) {
    data[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    EXPECT_NE(BlockChecksum(data), before) << "bit " << bit;
    data[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
  EXPECT_EQ(BlockChecksum(data), before);
}

}  // namespace
}  // namespace kvtier::wire
