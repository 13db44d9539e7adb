// Proves of the relocation log itself that no execution which the C++ memory model allows shows a
// reader half an entry, another one than is its turn, or a move that it cannot see yet, while the
// writer goes round the ring. The writer reads nothing of the reader's, so all that it stores is in
// the memory already, with each word's history, and each of the reader's loads may find any value
// that is not older than what the reader knows of. With a kind of order, one of the two looks at an
// entry's number, or the writer's own mark left out, the same search finds what goes wrong. What
// orders an entry's number is not needed for that: it is read only below an end that was acquired.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "proto/wire/relocation_log.h"
#include "tests/model/search.h"
#include "tests/model/stepper.h"

namespace kvtier {
namespace {

constexpr uint64_t kEntries = 2;
constexpr uint64_t kMoves = 5;
constexpr int kReads = 3;
constexpr size_t kWords = 4 * kEntries + kMoves + 2;

// A word is the place of its history.
struct WeakWord {
  size_t index = 0;
};

// How much of each word's history is known: what is older will not be found any more.
using View = std::array<size_t, kWords>;

void Join(View& view, const View& other) {
  for (size_t i = 0; i < kWords; ++i) view[i] = std::max(view[i], other[i]);
}

// What one writer stored, and what one reader, the stepper's only actor, knows of it.
class WeakMemory {
 public:
  WeakMemory() {
    for (auto& history : histories_) history.push_back({0, View{}});
  }

  void Store(const WeakWord& word, uint64_t value, bool release) {
    written_[word.index] = histories_[word.index].size();
    View with = release ? written_ : released_;
    with[word.index] = written_[word.index];
    histories_[word.index].push_back({value, with});
  }
  void FenceRelease() { released_ = written_; }
  // From now on the reader loads; until then the writer does, and finds what it stored.
  void WriterDone() { writes_ = false; }

  uint64_t Load(const WeakWord& word, bool acquire) {
    const std::vector<Stored>& history = histories_[word.index];
    if (writes_) return history.back().value;
    Stepper& stepper = Stepper::Running();
    stepper.GiveWay("load");
    const size_t oldest = known_[word.index];
    const Stored& found = history[oldest + stepper.Choose(history.size() - oldest)];
    stepper.Note(found.value);
    known_[word.index] = found.with[word.index];
    Join(acquire ? known_ : loaded_, found.with);
    return found.value;
  }
  void FenceAcquire() { Join(known_, loaded_); }
  // What a load may find at worst.
  uint64_t Oldest(const WeakWord& word) const {
    return histories_[word.index][known_[word.index]].value;
  }

  uint64_t State() const {
    uint64_t hash = 0;
    for (const View* view : {&known_, &loaded_})
      for (const size_t index : *view) hash = Stepper::Mix(hash, index);
    return hash;
  }

 private:
  struct Stored {
    uint64_t value;
    View with;  // known to who finds it, and acquires
  };
  std::array<std::vector<Stored>, kWords> histories_;
  bool writes_ = true;
  View written_ = {};   // by the writer
  View released_ = {};  // before its last fence
  View known_ = {};     // to the reader
  View loaded_ = {};    // what its next fence adds
};

WeakMemory* g_memory = nullptr;

struct WholeOrders : wire::WholeProtocol {
  static constexpr bool kFenceReleaseOn = true;
  static constexpr bool kFenceAcquireOn = true;
  static constexpr bool kStoreReleaseOn = true;
  static constexpr bool kLoadAcquireOn = true;
};

template <typename Flags>
struct LogMemory : Flags {
  using Word = WeakWord;
  static uint64_t LoadRelaxed(const Word& word) { return g_memory->Load(word, /*acquire=*/false); }
  static uint64_t LoadAcquire(const Word& word) {
    return g_memory->Load(word, Flags::kLoadAcquireOn);
  }
  static void StoreRelaxed(Word& word, uint64_t value) {
    g_memory->Store(word, value, /*release=*/false);
  }
  static void StoreRelease(Word& word, uint64_t value) {
    g_memory->Store(word, value, Flags::kStoreReleaseOn);
  }
  static void FenceAcquire() {
    if constexpr (Flags::kFenceAcquireOn) g_memory->FenceAcquire();
  }
  static void FenceRelease() {
    if constexpr (Flags::kFenceReleaseOn) g_memory->FenceRelease();
  }
  static void Point(wire::ProtocolPoint) {}
};

struct EntryStaysThere : WholeOrders {
  static constexpr bool kLogTakesEntryBack = false;
};
struct LooksOnce : WholeOrders {
  static constexpr bool kLogLooksAgain = false;
};
struct NoFenceRelease : WholeOrders {
  static constexpr bool kFenceReleaseOn = false;
};
struct NoFenceAcquire : WholeOrders {
  static constexpr bool kFenceAcquireOn = false;
};
struct NoStoreRelease : WholeOrders {
  static constexpr bool kStoreReleaseOn = false;
};
struct NoLoadAcquire : WholeOrders {
  static constexpr bool kLoadAcquireOn = false;
};

template <typename Flags>
class Log {
 public:
  static Stepper::Setup Setup() {
    auto log = std::make_shared<Log>();
    Log& l = *log;
    g_memory = &l.memory_;
    l.Write();
    Stepper::Setup setup;
    setup.world = log;
    setup.actors.push_back([&l] { l.Read(); });
    setup.state = [&l] { return l.memory_.State(); };
    setup.end = [] {};
    return setup;
  }

  Log() {
    size_t words = 0;
    for (auto& entry : ring_)
      for (WeakWord* word : {&entry.sequence, &entry.row, &entry.plane, &entry.word})
        word->index = words++;
    for (WeakWord& word : moved_) word.index = words++;
    end_.index = words++;
    epoch_.index = words++;
  }

 private:
  using Memory = LogMemory<Flags>;

  // As the engine does: the new word, the entry, the epoch. These two are of other headers, and
  // keep their order here.
  void Write() {
    wire::BasicRelocationWriter<Memory> writer(ring_.data(), kEntries, &end_);
    for (uint64_t number = 0; number < kMoves; ++number) {
      memory_.Store(moved_[number], 1, /*release=*/true);
      writer.Append({number, static_cast<uint32_t>(number + 10), wire::ResidencyWord(number + 20)});
      memory_.Store(epoch_, number + 1, /*release=*/true);
    }
    memory_.WriterDone();
  }

  void Read() {
    Stepper& stepper = Stepper::Running();
    memory_.Load(epoch_, /*acquire=*/true);
    wire::BasicRelocationReader<Memory> reader(ring_.data(), kEntries, &end_);
    CheckMoved(reader.next());
    for (int read = 0; read < kReads; ++read) {
      const uint64_t there = memory_.Load(epoch_, /*acquire=*/true);
      const uint64_t from = reader.next();
      const bool whole = reader.Read([&](const wire::Relocation& move) {
        const uint64_t number = reader.next();
        stepper.Check(number < kMoves && move.row == number && move.plane == number + 10 &&
                          move.word.bits() == number + 20,
                      "torn");
        CheckMoved(std::min(number + 1, kMoves));
      });
      // What is resolved instead is what was moved.
      CheckMoved(reader.next());
      stepper.Check(reader.next() >= there, "left_out");
      stepper.Check(whole || kMoves - from > kEntries, "not_overwritten");
      stepper.Settle(reader.next() * kReads + static_cast<uint64_t>(read));
    }
  }

  void CheckMoved(uint64_t moves) {
    for (uint64_t number = 0; number < moves; ++number)
      Stepper::Running().Check(memory_.Oldest(moved_[number]) == 1, "not_moved");
  }

  WeakMemory memory_;
  std::array<wire::RelocationEntryOf<WeakWord>, kEntries> ring_;
  std::array<WeakWord, kMoves> moved_;
  WeakWord end_, epoch_;
};

template <typename Flags>
std::string Found() {
  return Search(&Log<Flags>::Setup).found;
}

TEST(RelocationSteppingTest, EntriesAreWholeAndInTurn) { EXPECT_EQ(Found<WholeOrders>(), "holds"); }
TEST(RelocationSteppingTest, AnEntryThatStaysWhileItIsOverwrittenIsFound) {
  EXPECT_EQ(Found<EntryStaysThere>(), "torn");
}
TEST(RelocationSteppingTest, AReaderThatLooksOnceIsFound) { EXPECT_EQ(Found<LooksOnce>(), "torn"); }
TEST(RelocationSteppingTest, AMissingFenceOfTheWriterIsFound) {
  EXPECT_EQ(Found<NoFenceRelease>(), "torn");
}
TEST(RelocationSteppingTest, AMissingFenceOfTheReaderIsFound) {
  EXPECT_EQ(Found<NoFenceAcquire>(), "torn");
}
TEST(RelocationSteppingTest, StoresWithoutReleaseAreFound) {
  EXPECT_EQ(Found<NoStoreRelease>(), "torn");
}
TEST(RelocationSteppingTest, LoadsWithoutAcquireAreFound) {
  EXPECT_EQ(Found<NoLoadAcquire>(), "not_moved");
}

}  // namespace
}  // namespace kvtier
