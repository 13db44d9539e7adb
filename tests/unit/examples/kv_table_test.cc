// Proves what the table of a sequence's blocks promises: addresses lead to the worker's memory or a
// store's, changing between them keeps bytes and counts what it costs, and nothing of a lost chunk
// is read.

#include "client/examples/kv_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace kvtier::examples {
namespace {

using ::testing::Each;

KvGeometry Geometry() {
  return {.chunk_tokens = 4, .layers = 2, .kv_heads = 1, .head_dim = 8, .type = KvType::kFloat32};
}

// A chunk somewhere else, each plane by itself.
struct Elsewhere {
  explicit Elsewhere(int fill)
      : bytes(Geometry().planes(),
              std::vector<std::byte>(Geometry().plane_bytes(), static_cast<std::byte>(fill))) {}
  std::vector<std::byte*> planes() {
    std::vector<std::byte*> all;
    for (std::vector<std::byte>& plane : bytes) all.push_back(plane.data());
    return all;
  }
  std::vector<const std::byte*> views() const {
    std::vector<const std::byte*> all;
    for (const std::vector<std::byte>& plane : bytes) all.push_back(plane.data());
    return all;
  }
  std::vector<std::vector<std::byte>> bytes;
};

void Fill(KvTable& kv, size_t chunk, int value) {
  for (size_t p = 0; p < kv.geometry().planes(); ++p)
    std::memset(kv.writable_plane(chunk, p).data(), value, kv.geometry().plane_bytes());
}

TEST(KvTableTest, ForgottenTokensAreZeroAgain) {
  const KvGeometry geometry = Geometry();
  KvTable kv(geometry);
  kv.Grow(10);
  EXPECT_EQ(kv.chunks(), 3u);
  for (size_t c = 0; c < 3; ++c) Fill(kv, c, 1);
  kv.SetTokens(10);
  kv.Truncate(5);
  ASSERT_EQ(kv.chunks(), 2u);
  EXPECT_EQ(kv.tokens(), 5u);
  for (size_t p = 0; p < geometry.planes(); ++p) {
    EXPECT_EQ(kv.plane(0, p).back(), std::byte{1});
    EXPECT_EQ(kv.plane(1, p)[geometry.token_bytes() - 1], std::byte{1});
    EXPECT_EQ(kv.plane(1, p)[geometry.token_bytes()], std::byte{0});
    EXPECT_EQ(kv.plane(1, p).back(), std::byte{0});
  }
}

TEST(KvTableTest, ViewedChunksAreReadWhereTheyAre) {
  KvTable kv(Geometry());
  const Elsewhere first(1);
  kv.View(0, first.views());
  kv.SetTokens(4);
  for (size_t p = 0; p < Geometry().planes(); ++p)
    EXPECT_EQ(kv.plane(0, p).data(), first.bytes[p].data());
  EXPECT_FALSE(kv.writable(0));
  kv.Grow(5);
  EXPECT_EQ(kv.memory(1), ChunkMemory::kOwn);
  EXPECT_EQ(kv.counts().bytes_copied, 0u);
}

// Half a chunk that is only viewed cannot be written: it is copied once something follows, and only
// what counts of it.
TEST(KvTableTest, APartialViewIsCopiedBeforeItIsWritten) {
  const KvGeometry geometry = Geometry();
  KvTable kv(geometry);
  const Elsewhere chunk(1);
  kv.View(0, chunk.views());
  kv.SetTokens(3);
  kv.Grow(3);
  EXPECT_EQ(kv.memory(0), ChunkMemory::kViewed);
  kv.Grow(4);
  EXPECT_EQ(kv.memory(0), ChunkMemory::kOwn);
  for (size_t p = 0; p < geometry.planes(); ++p) {
    EXPECT_THAT(kv.plane(0, p).first(3 * geometry.token_bytes()), Each(std::byte{1}));
    EXPECT_THAT(kv.plane(0, p).subspan(3 * geometry.token_bytes()), Each(std::byte{0}));
  }
  EXPECT_EQ(kv.counts().bytes_copied, geometry.planes() * 3 * geometry.token_bytes());
}

TEST(KvTableTest, PlacedChunksAreWrittenWhereTheyStayAndStartAllZero) {
  const KvGeometry geometry = Geometry();
  KvTable kv(geometry);
  kv.Grow(2);
  Fill(kv, 0, 1);
  kv.SetTokens(2);
  Elsewhere used_before(9);
  kv.Place(0, used_before.planes());
  Elsewhere next(9);
  kv.Place(1, next.planes());
  EXPECT_EQ(kv.memory(0), ChunkMemory::kPlaced);
  for (size_t p = 0; p < geometry.planes(); ++p) {
    const std::span<const std::byte> plane = used_before.bytes[p];
    EXPECT_THAT(plane.first(2 * geometry.token_bytes()), Each(std::byte{1}));
    EXPECT_THAT(plane.subspan(2 * geometry.token_bytes()), Each(std::byte{0}));
    EXPECT_THAT(next.bytes[p], Each(std::byte{0}));
    EXPECT_EQ(kv.writable_plane(1, p).data(), next.bytes[p].data());
  }
  kv.SetTokens(3);
  Fill(kv, 0, 5);
  EXPECT_EQ(used_before.bytes[0][0], std::byte{5});
  kv.Keep(0);
  Fill(kv, 0, 7);
  EXPECT_EQ(used_before.bytes[0][0], std::byte{5}) << "kept, and no longer written there";
  EXPECT_EQ(kv.counts().bytes_copied, geometry.planes() * (2 + 3) * geometry.token_bytes());
}

TEST(KvTableTest, LostChunksAreNamedOnceAndStartAnew) {
  KvTable kv(Geometry());
  const Elsewhere chunk(1);
  kv.Grow(4);
  kv.View(1, chunk.views());
  kv.SetTokens(8);
  kv.Lose(0, absl::UnavailableError("own memory is not lost"));
  kv.Lose(1, absl::DataLossError("damaged"));
  kv.Lose(1, absl::DataLossError("damaged, still"));
  kv.Lose(2, absl::NotFoundError("never there"));
  EXPECT_EQ(kv.memory(0), ChunkMemory::kOwn);
  EXPECT_EQ(kv.memory(1), ChunkMemory::kLost);
  EXPECT_EQ(kv.memory(2), ChunkMemory::kLost);
  EXPECT_EQ(kv.plane(1, 0).data(), nullptr);
  const std::vector<absl::Status> losses = kv.TakeLosses();
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_EQ(losses[0].message(), "damaged");
  EXPECT_TRUE(kv.TakeLosses().empty());
  kv.Renew(1);
  EXPECT_TRUE(kv.writable(1));
  EXPECT_THAT(kv.plane(1, 0), Each(std::byte{0}));
}

TEST(KvTableTest, CountsBlocksReadBeforeAndAfterAMove) {
  KvTable kv(Geometry());
  const size_t planes = Geometry().planes();
  const Elsewhere here(1);
  const Elsewhere there(1);
  std::vector<const std::byte*> half_moved = here.views();
  half_moved[1] = there.bytes[1].data();
  kv.View(0, here.views());
  kv.View(0, half_moved);
  kv.SetTokens(4);
  kv.NoteRead();
  EXPECT_EQ(kv.counts().moves, 1u);
  EXPECT_EQ(kv.counts().moved_between_reads, 0u) << "it moved before it was read";
  EXPECT_EQ(kv.counts().blocks_viewed, planes);

  kv.View(0, there.views());
  EXPECT_EQ(kv.counts().moves, planes);
  EXPECT_EQ(kv.counts().moved_between_reads, 0u) << "not read since";
  kv.NoteRead();
  EXPECT_EQ(kv.counts().moved_between_reads, planes - 1);
  kv.View(0, here.views());
  kv.NoteRead();
  EXPECT_EQ(kv.counts().moves, 2 * planes);
  EXPECT_EQ(kv.counts().moved_between_reads, planes) << "each block counts once";
  EXPECT_EQ(kv.counts().blocks_viewed, planes);

  kv.View(0, there.views());
  kv.Lose(0, absl::DataLossError("damaged"));
  kv.Renew(0);
  kv.NoteRead();
  EXPECT_EQ(kv.counts().moved_between_reads, planes);
}

TEST(KvGeometryTest, SizesAndNames) {
  ModelConfig config;
  config.num_hidden_layers = 3;
  config.num_key_value_heads = 2;
  config.head_dim = 16;
  const KvGeometry geometry = *KvGeometry::Create(config, KvType::kBfloat16, 16);
  EXPECT_EQ(geometry.plane_bytes(), 16u * 2 * 16 * 2);
  EXPECT_EQ(geometry.chunk_bytes(), 6 * geometry.plane_bytes());
  EXPECT_EQ(geometry.plane_name(4), "layer.2.k");
  EXPECT_EQ(geometry.plane_name(5), "layer.2.v");
  for (const size_t wrong : {0, 1025}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(KvGeometry::Create(config, KvType::kFloat32, wrong).status()));
  }
}

}  // namespace
}  // namespace kvtier::examples
