// Proves that a client maps what it needs and no more, gives out addresses of copies that have
// their checksum and no others, verifies once or always as it is told, and drops mappings of
// segments that were used anew without taking them from open sections.
#include "client/block_finder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "client/verified_copies.h"
#include "proto/wire/checksum.h"
#include "tests/unit/client/fake_memory.h"

namespace kvtier::testing {
namespace {

using wire::ResidencyWord;

constexpr uint64_t kBytes = 5000;
constexpr uint64_t kSlotBytes = 8192;

ResidencyWord Word(uint32_t pool, uint32_t segment, uint32_t slot, uint32_t incarnation = 1) {
  return ResidencyWord(pool << 28 | segment << 14 | slot, incarnation);
}

class BlockFinderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto memory = fake_.Attach(places_);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *memory;
    places_.Publish(memory_);
  }

  // Fills a slot of a segment with bytes that follow from `seed`; returns their checksum.
  static uint64_t Fill(absl::Span<std::byte> segment, uint32_t slot, int seed) {
    std::byte* const data = segment.data() + slot * kSlotBytes;
    for (size_t i = 0; i < kBytes; ++i) data[i] = static_cast<std::byte>(i * 7 + size_t(seed));
    return wire::BlockChecksum({data, kBytes});
  }
  uint32_t AddRow(uint64_t key) {
    wire::ChunkKey chunk_key;
    std::memcpy(chunk_key.bytes.data(), &key, sizeof(key));
    return fake_.share().AddRow({.key = chunk_key,
                                 .model = ModelId(1),
                                 .planes = 2,
                                 .token_count = 16,
                                 .row = RowIndex(static_cast<uint32_t>(key))});
  }
  WantedBlock Wanted(uint32_t line, uint32_t plane) const {
    return {fake_.share().NameOf(line), plane, kBytes};
  }

  std::vector<FoundBlock> Find(Verify verify, const std::vector<WantedBlock>& wanted) {
    const auto complain = [this](uint64_t, uint32_t, ResidencyWord word) {
      complaints_.push_back(word);
    };
    BlockFinder finder(memory_.get(), verify, complain);
    std::vector<FoundBlock> found;
    SectionPlace* const place = places_.Enter().first;
    finder.FindAll(
        wanted.size(), [&](size_t i) { return wanted[i]; },
        [&](size_t, const FoundBlock& block) { found.push_back(block); });
    places_.Leave(*place);
    return found;
  }

  mutable FakeMemory fake_;
  SectionPlaces places_;
  std::shared_ptr<TenantMemory> memory_;
  std::vector<ResidencyWord> complaints_;
};

TEST_F(BlockFinderTest, MapsASegmentOnceAndFindsItsBlocks) {
  const auto segment = fake_.AddSegment(Word(1, 3, 0), kSlotBytes);
  const uint32_t line = AddRow(1);
  std::vector<WantedBlock> wanted;
  for (uint32_t plane = 0; plane < 2; ++plane) {
    fake_.share().SetBlock(
        line, plane, {.best = Word(1, 3, plane), .second = {}, .checksum = Fill(segment, plane, 1)},
        false);
    wanted.push_back(Wanted(line, plane));
  }
  wanted.push_back({.row = 0, .plane = 0, .bytes = kBytes});
  wanted.push_back(
      {.row = fake_.share().NameOf(line) + (uint64_t{1} << 32), .plane = 0, .bytes = 1});
  wanted.push_back(Wanted(line, 2));
  wanted.push_back({.row = fake_.share().NameOf(line), .plane = 0, .bytes = kSlotBytes + 1});
  for (const Verify verify : {Verify::kOff, Verify::kFirstRead, Verify::kAlways}) {
    const std::vector<FoundBlock> found = Find(verify, wanted);
    for (uint32_t plane = 0; plane < 2; ++plane) {
      ASSERT_NE(found[plane].view.data, nullptr);
      EXPECT_EQ(std::memcmp(found[plane].view.data, segment.data() + plane * kSlotBytes, kBytes),
                0);
      EXPECT_EQ(found[plane].view.pool, "dram:0");
      EXPECT_EQ(found[plane].word, Word(1, 3, plane));
      EXPECT_TRUE(found[plane].best);
    }
    for (size_t i = 2; i < wanted.size(); ++i) {
      EXPECT_EQ(found[i].view.data, nullptr) << i;
      EXPECT_EQ(found[i].view.code, absl::StatusCode::kNotFound) << i;
    }
  }
  EXPECT_EQ(fake_.requests(), 1);
  EXPECT_TRUE(complaints_.empty());
}

TEST_F(BlockFinderTest, TakesTheOtherCopyWhereOneIsBad) {
  const auto fast = fake_.AddSegment(Word(0, 1, 0), kSlotBytes);
  const auto slow = fake_.AddSegment(Word(1, 1, 0), kSlotBytes);
  const uint32_t line = AddRow(1);
  const uint64_t checksum = Fill(fast, 2, 5);
  Fill(slow, 4, 5);
  fake_.share().SetBlock(
      line, 0, {.best = Word(0, 1, 2), .second = Word(1, 1, 4), .checksum = checksum}, false);
  fast[2 * kSlotBytes + 4999] ^= std::byte{1};
  std::vector<FoundBlock> found = Find(Verify::kFirstRead, {Wanted(line, 0)});
  EXPECT_EQ(found[0].word, Word(1, 1, 4));
  EXPECT_FALSE(found[0].best) << "no relocation will tell of its end";
  EXPECT_EQ(complaints_, std::vector<ResidencyWord>{Word(0, 1, 2)});
  // Both: it is lost.
  slow[4 * kSlotBytes] ^= std::byte{1};
  found = Find(Verify::kAlways, {Wanted(line, 0)});
  EXPECT_EQ(found[0].view.code, absl::StatusCode::kDataLoss);
  EXPECT_EQ(found[0].view.data, nullptr);
  EXPECT_EQ(complaints_.size(), 3u);
}

TEST_F(BlockFinderTest, VerifiesTheFirstTimeAlwaysOrNever) {
  const auto segment = fake_.AddSegment(Word(0, 1, 0), kSlotBytes);
  const uint32_t line = AddRow(1);
  fake_.share().SetBlock(
      line, 0, {.best = Word(0, 1, 0), .second = {}, .checksum = Fill(segment, 0, 5)}, false);
  EXPECT_NE(Find(Verify::kFirstRead, {Wanted(line, 0)})[0].view.data, nullptr);
  segment[17] ^= std::byte{4};
  EXPECT_NE(Find(Verify::kFirstRead, {Wanted(line, 0)})[0].view.data, nullptr);
  EXPECT_NE(Find(Verify::kOff, {Wanted(line, 0)})[0].view.data, nullptr);
  EXPECT_EQ(Find(Verify::kAlways, {Wanted(line, 0)})[0].view.data, nullptr);
  // The same block at another place is another copy.
  std::memcpy(segment.data() + kSlotBytes, segment.data(), kBytes);
  fake_.share().SetBlock(
      line, 0,
      {.best = Word(0, 1, 1), .second = {}, .checksum = wire::BlockChecksum({segment.data(), 9})},
      true);
  EXPECT_EQ(Find(Verify::kFirstRead, {Wanted(line, 0)})[0].view.code, absl::StatusCode::kDataLoss);
}

TEST_F(BlockFinderTest, ANewUseOfASegmentReplacesTheMapping) {
  const auto before = fake_.AddSegment(Word(0, 1, 0), kSlotBytes);
  const uint32_t line = AddRow(1);
  fake_.share().SetBlock(
      line, 0, {.best = Word(0, 1, 0), .second = {}, .checksum = Fill(before, 0, 5)}, false);
  EXPECT_EQ(memory_->segments().unmaps(), 0u);
  SectionPlace* const open = places_.Enter().first;
  const FoundBlock old = Find(Verify::kFirstRead, {Wanted(line, 0)})[0];
  ASSERT_NE(old.view.data, nullptr);
  const std::string bytes(static_cast<const char*>(old.view.data), kBytes);
  const auto after = fake_.AddSegment(Word(0, 1, 0, 2), 2 * kSlotBytes);
  fake_.RemoveSegment(Word(0, 1, 0, 1));
  fake_.share().SetBlock(
      line, 0, {.best = Word(0, 1, 0, 2), .second = {}, .checksum = Fill(after, 0, 9)}, true);
  const FoundBlock fresh = Find(Verify::kFirstRead, {Wanted(line, 0)})[0];
  ASSERT_NE(fresh.view.data, nullptr);
  EXPECT_EQ(std::memcmp(fresh.view.data, after.data(), kBytes), 0);
  EXPECT_EQ(memory_->segments().unmaps(), 1u);
  EXPECT_EQ(memory_->segments().mapped(), 1u);
  // What the open section has is there until it ends.
  EXPECT_EQ(bytes, std::string(static_cast<const char*>(old.view.data), kBytes));
  EXPECT_EQ(places_.retired(), 1u);
  places_.Leave(*open);
  EXPECT_EQ(places_.retired(), 0u);
  // A word of a use that is over.
  fake_.share().SetBlock(line, 0, {.best = Word(0, 1, 0, 1), .second = {}, .checksum = 0}, true);
  EXPECT_EQ(Find(Verify::kOff, {Wanted(line, 0)})[0].view.code, absl::StatusCode::kNotFound);
}

TEST_F(BlockFinderTest, MappingsOfSegmentsThatAreGoneGoInTime) {
  for (uint32_t i = 0; i < 4; ++i) {
    fake_.AddSegment(Word(0, i, 0), kSlotBytes);
    ASSERT_TRUE(memory_->segments().Get(Word(0, i, 0)).ok());
  }
  EXPECT_EQ(memory_->segments().mapped(), 4u);
  for (uint32_t i = 0; i < 4; ++i) fake_.RemoveSegment(Word(0, i, 0));
  for (uint32_t i = 10; i < 20; ++i) {
    fake_.AddSegment(Word(0, i, 0), kSlotBytes);
    ASSERT_TRUE(memory_->segments().Get(Word(0, i, 0)).ok());
  }
  EXPECT_EQ(memory_->segments().mapped(), 10u);
  EXPECT_EQ(memory_->segments().unmaps(), 4u);
}

TEST_F(BlockFinderTest, AnInboxThatIsOverGoesInTimeButNotFromUnderAReservation) {
  const ResidencyWord inboxes[] = {Word(0, 0, 0), Word(0, 1, 0)};
  for (const ResidencyWord inbox : inboxes) fake_.AddSegment(inbox, kSlotBytes);
  ASSERT_TRUE(memory_->segments().GetWritable(inboxes[0]).ok());
  auto held = memory_->segments().GetWritable(inboxes[1]);
  ASSERT_TRUE(held.ok()) << held.status();
  for (const ResidencyWord inbox : inboxes) fake_.RemoveSegment(inbox);
  for (uint32_t i = 10; i < 14; ++i) {
    fake_.AddSegment(Word(0, i, 0), kSlotBytes);
    ASSERT_TRUE(memory_->segments().Get(Word(0, i, 0)).ok());
  }
  EXPECT_EQ(memory_->segments().mapped(), 4u);
  EXPECT_EQ(memory_->segments().unmaps(), 2u);
  // Whoever still writes there writes into memory of its own.
  *(*held)->mapping.data() = std::byte{7};
  EXPECT_EQ(*(*held)->mapping.data(), std::byte{7});
}

TEST_F(BlockFinderTest, MapsAtMostSoManySegments) {
  MemoryChannel::Attached attached;
  auto channel =
      MemoryChannel::Connect(fake_.socket(), 1, FakeMemory::kEpoch, absl::Seconds(5), attached);
  ASSERT_TRUE(channel.ok()) << channel.status();
  auto segments = SegmentMap::Create(*channel, &places_, /*segments_max=*/3);
  ASSERT_TRUE(segments.ok());
  const ResidencyWord inbox = Word(0, 100, 0);
  fake_.AddSegment(inbox, kSlotBytes);
  ASSERT_TRUE((*segments)->GetWritable(inbox).ok());
  for (uint32_t i = 0; i < 10; ++i) {
    fake_.AddSegment(Word(0, i, 0), kSlotBytes);
    ASSERT_TRUE((*segments)->Get(Word(0, i, 0)).ok());
    EXPECT_LE((*segments)->mapped(), 3u);
  }
  // An inbox is given out only once: it stays.
  EXPECT_NE((*segments)->Find(inbox), nullptr);
  EXPECT_NE((*segments)->Find(Word(0, 9, 0)), nullptr);
  EXPECT_EQ((*segments)->unmaps(), 8u);
}

TEST(VerifiedCopiesTest, ForgetsAndNeverInvents) {
  auto copies = VerifiedCopies::Create(1024);
  ASSERT_TRUE(copies.ok());
  const auto hash = [](uint64_t i) { return VerifiedCopies::HashOf(i, 0, Word(0, 0, 0)); };
  for (uint64_t i = 0; i < 256; ++i) copies->Insert(hash(i));
  int kept = 0;
  for (uint64_t i = 0; i < 256; ++i) kept += copies->Contains(hash(i)) ? 1 : 0;
  EXPECT_GE(kept, 250);
  for (uint64_t i = 256; i < 100'000; ++i) EXPECT_FALSE(copies->Contains(hash(i))) << i;
  for (uint64_t i = 0; i < 100'000; ++i) {
    copies->Insert(hash(i));
    EXPECT_TRUE(copies->Contains(hash(i))) << i;
  }
  EXPECT_NE(VerifiedCopies::HashOf(1, 2, Word(0, 0, 0)),
            VerifiedCopies::HashOf(1, 3, Word(0, 0, 0)));
  EXPECT_NE(VerifiedCopies::HashOf(1, 2, Word(0, 0, 0)),
            VerifiedCopies::HashOf(1, 2, Word(0, 0, 1)));
}

}  // namespace
}  // namespace kvtier::testing
