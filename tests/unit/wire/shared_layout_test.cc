// The parts of shared memory one by one: words that pack, a log that tells when it was overwritten,
// a ring whose client lies, sections, and an index that is not one. What the engine writes and a
// client finds is tested with the writer (tests/property).
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/client_page.h"
#include "proto/wire/index_reader.h"
#include "proto/wire/relocation_log.h"
#include "proto/wire/report_ring.h"
#include "proto/wire/residency_word.h"
#include "proto/wire/section_protocol.h"
#include "proto/wire/shared_index.h"
#include "tiering/base/copy_ref.h"

namespace kvtier::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ResidencyWordTest, KeepsWhatTheEngineCallsACopy) {
  const CopyRef copy(PoolId(14), SegmentIndex(16383), 12345);
  const ResidencyWord word(copy.bits(), ResidencyWord::kIncarnationMax);
  EXPECT_TRUE(word.valid());
  EXPECT_EQ(word.pool(), 14u);
  EXPECT_EQ(word.segment(), 16383u);
  EXPECT_EQ(word.slot(), 12345u);
  EXPECT_EQ(word.incarnation(), ResidencyWord::kIncarnationMax);
  EXPECT_FALSE(ResidencyWord().valid());
  EXPECT_EQ(ResidencyWord(word.bits()), word);
}

TEST(SharedIndexTest, ASplitMovesEntriesToTheNewBucketOnly) {
  for (uint64_t count = 1; count < 70; ++count) {
    for (uint64_t hash = 0; hash < 1000; ++hash) {
      const uint64_t before = BucketOf(hash, count), after = BucketOf(hash, count + 1);
      ASSERT_LT(before, count);
      if (after != before) {
        ASSERT_EQ(after, count) << "hash " << hash << " with " << count << " buckets";
      }
    }
  }
}

TEST(SharedIndexTest, TheSeedChoosesTheBucket) {
  ChunkKey key;
  key.bytes.fill(7);
  std::set<uint64_t> buckets;
  for (uint64_t seed = 0; seed < 64; ++seed) buckets.insert(BucketOf(KeyHash(key, 0, seed), 1024));
  EXPECT_GT(buckets.size(), 50u);
}

class RelocationLogTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kEntries = 8;
  std::vector<uint64_t> Read(RelocationReader& reader, bool& whole) {
    std::vector<uint64_t> rows;
    whole = reader.Read([&](const Relocation& r) {
      EXPECT_EQ(r.plane, r.row + 1);
      EXPECT_EQ(r.word.copy_bits(), r.row + 2);
      rows.push_back(r.row);
    });
    return rows;
  }
  void Append(uint64_t row) {
    writer_.Append(
        {row, static_cast<uint32_t>(row + 1), ResidencyWord(static_cast<uint32_t>(row + 2), 1)});
  }
  std::array<RelocationEntry, kEntries> ring_{};
  std::atomic<uint64_t> end_{0};
  RelocationWriter writer_{ring_.data(), kEntries, &end_};
};

TEST_F(RelocationLogTest, GivesWhatWasAddedSinceOnce) {
  Append(1);
  RelocationReader reader(ring_.data(), kEntries, &end_);
  bool whole = false;
  EXPECT_THAT(Read(reader, whole), ElementsAre());
  Append(2);
  Append(3);
  EXPECT_THAT(Read(reader, whole), ElementsAre(2, 3));
  EXPECT_TRUE(whole);
  EXPECT_THAT(Read(reader, whole), ElementsAre());
  EXPECT_TRUE(whole);
}

TEST_F(RelocationLogTest, AFullRingIsReadWholeAndOneMoreIsAnOverflow) {
  RelocationReader reader(ring_.data(), kEntries, &end_);
  bool whole = false;
  for (uint64_t i = 0; i < kEntries; ++i) Append(i);
  EXPECT_EQ(Read(reader, whole).size(), kEntries);
  EXPECT_TRUE(whole);
  for (uint64_t i = 0; i <= kEntries; ++i) Append(i);
  Read(reader, whole);
  EXPECT_FALSE(whole);
  Append(77);
  EXPECT_THAT(Read(reader, whole), ElementsAre(77));
  EXPECT_TRUE(whole);
}

TEST_F(RelocationLogTest, AnEntryThatIsBeingOverwrittenIsAnOverflow) {
  RelocationReader reader(ring_.data(), kEntries, &end_);
  Append(5);
  ring_[0].sequence.store(0);  // what a writer in the middle of the next round leaves
  bool whole = true;
  EXPECT_THAT(Read(reader, whole), ElementsAre());
  EXPECT_FALSE(whole);
}

class ReportRingTest : public ::testing::Test {
 protected:
  uint64_t Drain(ReportConsumer& consumer) {
    return consumer.Read(kReportRecords * 2, [&](const Report& report) { last_ = report; });
  }
  std::unique_ptr<ClientPage> page_ = std::make_unique<ClientPage>();
  Report last_;
};

TEST_F(ReportRingTest, CarriesReportsAndCountsWhatDoesNotFit) {
  ReportProducer producer(page_.get());
  ReportConsumer consumer(page_.get());
  for (uint64_t i = 0; i < kReportRecords; ++i) {
    ASSERT_TRUE(producer.Write(
        {.row = i, .steps = 0xfffffff0u, .plane = 8191, .log_mass = static_cast<uint8_t>(i)}));
  }
  EXPECT_FALSE(producer.Write({}));
  EXPECT_EQ(consumer.dropped(), 1u);
  EXPECT_EQ(Drain(consumer), kReportRecords);
  EXPECT_EQ(last_.row, kReportRecords - 1);
  EXPECT_EQ(last_.steps, 0xfffffff0u);
  EXPECT_EQ(last_.plane, 8191);
  EXPECT_EQ(last_.log_mass, static_cast<uint8_t>(kReportRecords - 1));
  EXPECT_TRUE(producer.Write({}));
  EXPECT_EQ(Drain(consumer), 1u);
  EXPECT_EQ(Drain(consumer), 0u);
}

TEST_F(ReportRingTest, ALyingClientCostsAtMostOneRing) {
  ReportConsumer consumer(page_.get());
  for (const uint64_t lie : {uint64_t{kReportRecords} + 1, ~uint64_t{0}, uint64_t{1} << 63}) {
    page_->produced.store(lie);
    EXPECT_EQ(Drain(consumer), 0u) << lie;
  }
  page_->produced.store(5);  // before what it said last
  page_->consumed.store(12345);
  EXPECT_LE(Drain(consumer), kReportRecords);
  page_->produced.store(page_->produced.load() + 3);
  EXPECT_EQ(Drain(consumer), 3u);
}

TEST(SectionProtocolTest, ASectionKeepsWhatIsRetiredAfterItsEntry) {
  HardwareMemory::Word epoch{kFirstEpoch}, section{0}, used{0}, end{0};
  RetiredQueue<int> queue;
  std::vector<int> freed;
  const auto free = [&] {
    FenceBeforeScan();
    queue.TakeFree(ReadSection(section, end, nullptr, 0), [&](int i) { freed.push_back(i); });
  };
  queue.Retire(epoch, 1);
  EnterSection(epoch, section, used, 1);
  queue.Retire(epoch, 2);
  free();
  EXPECT_THAT(freed, ElementsAre(1));
  LeaveSection(section);
  EnterSection(epoch, section, used, 1);
  free();
  EXPECT_THAT(freed, ElementsAre(1, 2));
  EXPECT_TRUE(queue.empty());
}

TEST(SectionProtocolTest, APlaceIsMarkedByItsFirstSectionAndStaysMarked) {
  auto page = std::make_unique<ClientPage>();
  const HardwareMemory::Word epoch{7};
  EnterSection(epoch, *page, 70);
  EnterSection(epoch, *page, 255);
  EXPECT_EQ(page->sections[70].section.load(), 7u);
  LeaveSection(page->sections[70].section);
  EnterSection(epoch, *page, 70);
  LeaveSection(page->sections[70].section);
  EXPECT_EQ(page->used[0].load(), 0u);
  EXPECT_EQ(page->used[1].load(), uint64_t{1} << 6);
  EXPECT_EQ(page->used[2].load(), 0u);
  EXPECT_EQ(page->used[3].load(), uint64_t{1} << 63);
}

TEST(SectionProtocolTest, ATimelineWordEndsASection) {
  HardwareMemory::Word section{9}, end{SectionEnd::Pack(1, 100)};
  std::array<HardwareMemory::Word, 2> timeline{};
  const auto read = [&] { return ReadSection(section, end, timeline.data(), timeline.size()); };
  EXPECT_EQ(read(), 9u);
  timeline[0] = 100;  // another word
  timeline[1] = 99;
  EXPECT_EQ(read(), 9u);
  timeline[1] = 100;
  EXPECT_EQ(read(), kNoSection);
  end = SectionEnd::Pack(2, 0);  // there is no third word
  EXPECT_EQ(read(), 9u);
  end = ~uint64_t{0};
  EXPECT_EQ(read(), 9u);
}

TEST(SectionProtocolTest, AReaderIsGoneWhenSocketAndProcessAre) {
  ReaderLife<> closed_first, ended_first;
  closed_first.SocketClosed();
  EXPECT_FALSE(closed_first.gone());
  closed_first.ProcessEnded();
  EXPECT_TRUE(closed_first.gone());
  ended_first.ProcessEnded();
  EXPECT_FALSE(ended_first.gone());
}

TEST(SectionProtocolTest, AReaderIsGoneByItsWordOnceItsSocketIsClosed) {
  ReaderLife<> life;
  life.SocketClosed();
  life.SocketOpened();
  life.SaidGoodbye();
  EXPECT_FALSE(life.gone());
  life.SocketClosed();
  EXPECT_TRUE(life.gone());
}

class IndexReaderTest : public ::testing::Test {
 protected:
  IndexReaderTest() {
    header().magic = kIndexMagic;
    header().major = kIndexMajor;
    header().log_offset = kIndexHeaderBytes;
    header().log_entries = 16;
    header().buckets_offset = header().log_offset + 16 * sizeof(RelocationEntry);
    header().buckets_max = 4;
    header().overflow_offset = header().buckets_offset + 4 * sizeof(IndexBucket);
    header().overflow_max = 2;
    header().rows_offset = header().overflow_offset + 2 * sizeof(IndexBucket);
    header().lines_max = 8;
    header().total_bytes = header().rows_offset + 8 * kLineBytes;
    header().bucket_count = 1;
    key_.bytes.fill(3);
  }
  static constexpr size_t kBytes = 16384;
  IndexHeader& header() { return *reinterpret_cast<IndexHeader*>(bytes()); }
  IndexBucket& bucket(size_t i) {
    return reinterpret_cast<IndexBucket*>(bytes() + header().buckets_offset)[i];
  }
  RowHeader& row(size_t line) {
    return *reinterpret_cast<RowHeader*>(bytes() + header().rows_offset + line * kLineBytes);
  }
  std::byte* bytes() { return memory_.data(); }
  std::optional<IndexReader> Open(size_t size = kBytes) {
    return IndexReader::Create(absl::MakeSpan(bytes(), size), why_);
  }
  void AddRow(uint32_t line, uint16_t planes) {
    row(line).key[0] = key_.low();
    row(line).key[1] = key_.high();
    row(line).identity = PackIdentity(6, 0);
    row(line).shape = PackShape(16, planes, 2, kRowVisible);
    const uint64_t hash = KeyHash(key_, 2, 0);
    bucket(0).entries[6] = PackEntry(static_cast<uint32_t>(hash >> 32), line);
  }
  alignas(64) std::array<std::byte, kBytes> memory_{};
  ChunkKey key_;
  std::string why_;
};

TEST_F(IndexReaderTest, FindsARowByKeyAndByName) {
  AddRow(3, 1);
  const auto reader = Open();
  ASSERT_TRUE(reader) << why_;
  const IndexReader::Row found = reader->Find(key_, 2);
  ASSERT_TRUE(found);
  EXPECT_EQ(found.name(), PackRow(6, 3));
  EXPECT_TRUE(reader->At(PackRow(6, 3)));
  EXPECT_FALSE(reader->At(PackRow(7, 3))) << "another generation";
  EXPECT_FALSE(reader->Find(key_, 1)) << "another model";
  EXPECT_FALSE(IndexReader::Resolve(found, 1).valid()) << "beyond its planes";
}

TEST_F(IndexReaderTest, NamesWhatIsWrong) {
  EXPECT_FALSE(Open(100));
  EXPECT_THAT(why_, HasSubstr("100 bytes"));
  header().major = 2;
  header().minor = 9;
  EXPECT_FALSE(Open());
  EXPECT_THAT(why_, HasSubstr("layout 2.9; this client reads 1.x"));
  header().major = kIndexMajor;
  header().rows_offset = ~uint64_t{63};
  EXPECT_FALSE(Open());
  EXPECT_THAT(why_, HasSubstr("do not fit"));
  header().magic = 1;
  EXPECT_FALSE(Open());
  EXPECT_THAT(why_, HasSubstr("begins with"));
}

TEST_F(IndexReaderTest, ABrokenIndexGivesMisses) {
  AddRow(3, 1);
  const auto reader = Open();
  ASSERT_TRUE(reader);
  AddRow(7, 100);  // its planes would go beyond the last line
  EXPECT_FALSE(reader->Find(key_, 2));
  EXPECT_FALSE(reader->At(PackRow(6, 8))) << "beyond the last line";
  for (std::atomic<uint64_t>& entry : bucket(0).entries) entry = 0;
  bucket(0).next = 3;  // beyond the last overflow bucket
  EXPECT_FALSE(reader->Find(key_, 2));
  auto* overflow = reinterpret_cast<IndexBucket*>(bytes() + header().overflow_offset);
  bucket(0).next = 1;
  overflow[0].next = 1;  // a circle
  EXPECT_FALSE(reader->Find(key_, 2));
  header().bucket_count = 5;  // more than there can be
  EXPECT_FALSE(reader->Find(key_, 2));
  header().bucket_count = 0;
  EXPECT_FALSE(reader->Find(key_, 2));
}

}  // namespace
}  // namespace kvtier::wire
