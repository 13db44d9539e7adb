// Proves of the relocation log itself that no interleaving shows a reader half an entry, or another
// one than is its turn, while the writer goes round the ring: each load and each store of both is a
// step, on a memory with a store buffer. With one of the two looks at an entry's number, or the
// writer's own mark, left out, the same search finds a torn entry.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <memory>
#include <string>

#include "proto/wire/relocation_log.h"
#include "tests/model/stepper.h"

namespace kvtier {
namespace {

constexpr uint64_t kEntries = 2;
constexpr uint64_t kMoves = 4;
constexpr int kReads = 2;
constexpr size_t kStatesMax = 4'000'000;

template <typename Flags>
struct LogMemory : Flags {
  using Word = SteppedWord;
  static uint64_t LoadRelaxed(const Word& word) {
    Stepper::Running().GiveWay("load");
    return Stepper::Running().Load(word);
  }
  static uint64_t LoadAcquire(const Word& word) { return LoadRelaxed(word); }
  static void StoreRelaxed(Word& word, uint64_t value) {
    Stepper::Running().GiveWay("store");
    Stepper::Running().Store(word, value);
  }
  static void StoreRelease(Word& word, uint64_t value) { StoreRelaxed(word, value); }
  static void FenceAcquire() {}
  static void FenceRelease() {}
  static void Point(wire::ProtocolPoint) {}
};

struct EntryStaysThere : wire::WholeProtocol {
  static constexpr bool kLogTakesEntryBack = false;
};
struct LooksOnce : wire::WholeProtocol {
  static constexpr bool kLogLooksAgain = false;
};

template <typename Flags>
class Log {
 public:
  static Stepper::Setup Setup() {
    auto log = std::make_shared<Log>();
    Log& l = *log;
    Stepper::Setup setup;
    setup.world = log;
    setup.actors.push_back([&l] { l.Write(); });
    setup.actors.push_back([&l] { l.Read(); });
    setup.state = [&l] { return l.State(); };
    setup.end = [] {};
    return setup;
  }

 private:
  using Memory = LogMemory<Flags>;

  void Write() {
    wire::BasicRelocationWriter<Memory> writer(ring_.data(), kEntries, &end_);
    for (uint64_t number = 0; number < kMoves; ++number) {
      Memory::StoreRelease(moved_[number], 1);
      writer.Append({number, static_cast<uint32_t>(number + 10), wire::ResidencyWord(number + 20)});
    }
  }

  void Read() {
    wire::BasicRelocationReader<Memory> reader(ring_.data(), kEntries, &end_);
    for (int read = 0; read < kReads; ++read) {
      const uint64_t there = end_.value;
      Stepper::Running().Note(there);
      const bool whole = reader.Read([&](const wire::Relocation& move) {
        Stepper& stepper = Stepper::Running();
        const uint64_t number = reader.next();
        stepper.Check(number < kMoves && move.row == number && move.plane == number + 10 &&
                          move.word.bits() == number + 20,
                      "torn");
        if (number < kMoves) stepper.Check(stepper.Load(moved_[number]) == 1, "not_moved");
      });
      Stepper::Running().Check(!whole || reader.next() >= there, "left_out");
    }
  }

  uint64_t State() const {
    uint64_t hash = end_.value;
    for (const auto& entry : ring_) {
      for (const SteppedWord* word : {&entry.sequence, &entry.row, &entry.plane, &entry.word})
        hash = Stepper::Mix(hash, word->value);
    }
    for (const SteppedWord& word : moved_) hash = Stepper::Mix(hash, word.value);
    return hash;
  }

  std::array<wire::RelocationEntryOf<SteppedWord>, kEntries> ring_;
  SteppedWord end_;
  std::array<SteppedWord, kMoves> moved_;
};

template <typename Flags>
std::string Search() {
  Stepper stepper(&Log<Flags>::Setup);
  const bool holds = stepper.Explore(kStatesMax);
  std::printf("%zu states\n", stepper.states());
  ::testing::Test::RecordProperty("states", std::to_string(stepper.states()));
  if (holds) return "holds";
  return stepper.failure().empty() ? "more states than are looked at" : stepper.failure();
}

TEST(RelocationSteppingTest, EntriesAreWholeAndInTurn) {
  EXPECT_EQ(Search<wire::WholeProtocol>(), "holds");
}
TEST(RelocationSteppingTest, AnEntryThatStaysWhileItIsOverwrittenIsFound) {
  EXPECT_EQ(Search<EntryStaysThere>(), "torn");
}
TEST(RelocationSteppingTest, AReaderThatLooksOnceIsFound) {
  EXPECT_EQ(Search<LooksOnce>(), "torn");
}

}  // namespace
}  // namespace kvtier
