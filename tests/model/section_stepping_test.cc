// Proves for the code itself what read_sections.pml shows of the protocol: the templates of
// proto/wire/section_protocol.h and relocation_log.h, on a memory with store buffers like x86's,
// through every interleaving of two readers, their ends, and an engine that moves a block and
// reuses slots, also across a restart of the daemon. With a bug switched on, the same search finds
// it. Assertions are named as in the model, and so are the points at which actors take turns.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "proto/wire/relocation_log.h"
#include "proto/wire/section_protocol.h"
#include "tests/model/search.h"
#include "tests/model/stepper.h"

namespace kvtier {
namespace {

using wire::ProtocolPoint;

constexpr size_t kReaders = 2;
constexpr size_t kSlots = 3;
constexpr uint64_t kLogEntries = 1;  // two moves are more than the log holds

std::string FileText(const std::string& path) {
  std::ifstream file(std::string(std::getenv("KVTIER_SOURCE_DIR")) + "/" + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The names of ProtocolPoint, in the order of their values.
const std::vector<std::string>& PointNames() {
  static const std::vector<std::string> names = [] {
    const std::string text = FileText("proto/wire/section_protocol.h");
    const size_t begin = text.find("enum class ProtocolPoint");
    const std::string points = text.substr(begin, text.find("};", begin) - begin);
    const std::regex name("\\n *(k\\w+)");
    std::vector<std::string> result;
    for (std::sregex_iterator it(points.begin(), points.end(), name), end; it != end; ++it)
      result.push_back((*it)[1]);
    return result;
  }();
  return names;
}

std::array<bool, 256> g_reached = {};

// `Flags` are those of wire::WholeProtocol.
template <typename Flags>
struct SteppedMemory : Flags {
  using Word = SteppedWord;
  static uint64_t LoadAcquire(const Word& word) { return Stepper::Running().Load(word); }
  static void StoreRelease(Word& word, uint64_t value) { Stepper::Running().Store(word, value); }
  // Weaker than on any processor: it waits in the buffer. Nobody else sets bits of these words.
  static void SetBits(Word& word, uint64_t bits) { StoreRelease(word, LoadAcquire(word) | bits); }
  static uint64_t LoadRelaxed(const Word& word) { return LoadAcquire(word); }
  // An entry of the log reaches memory at once: relocation_stepping_test.cc looks into it.
  static void StoreRelaxed(Word& word, uint64_t value) {
    Stepper::Running().Store(word, value, /*with_next=*/true);
  }
  // Stores and loads keep their order among themselves.
  static void FenceAcquire() {}
  static void FenceRelease() {}
  static void Fence() { Stepper::Running().Fence(); }
  static void Point(ProtocolPoint point) {
    g_reached[static_cast<size_t>(point)] = true;
    Stepper::Running().GiveWay(PointNames()[static_cast<size_t>(point)].c_str());
  }
};

using Whole = wire::WholeProtocol;
struct NoReaderFence : Whole {
  static constexpr bool kReaderFenceOn = false;
};
struct MarkAfterFence : Whole {
  static constexpr bool kMarksBeforeFence = false;
};
struct NoEngineFence : Whole {
  static constexpr bool kEngineFenceOn = false;
};
struct ScanBeforeUnpublish : Whole {
  static constexpr bool kScansAfterUnpublish = false;
};
struct ReuseAtEof : Whole {
  static constexpr bool kAwaitsProcessEnd = false;
};
struct TagBeforeEpoch : Whole {
  static constexpr bool kTagIsNewEpoch = false;
};

enum class Goodbye : uint8_t { kNever, kAfterSections, kInSection };

struct Scenario {
  std::array<int, kReaders> sections;
  size_t mortal = kReaders;  // so many readers may end at any time
  int moves = 1;
  int moves_after_restart = -1;  // negative: there is no restart
  // What the scan before a move found is used after it, when it says nothing of what was moved.
  bool scans_early = false;
  Goodbye goodbye = Goodbye::kNever;
  // The engine waits for the sections of the dead, too.
  bool never_gone = false;
  // Not the check that an engine makes when it rewrites a slot, only what readers find.
  bool only_reads = false;
};

template <typename Flags>
class Protocol {
 public:
  static Stepper::Setup Setup(const Scenario& scenario) {
    auto protocol = std::make_shared<Protocol>(scenario);
    Protocol& p = *protocol;
    Stepper::Setup setup;
    setup.world = protocol;
    for (size_t i = 0; i < kReaders; ++i) setup.actors.push_back([&p, i] { p.Reader(i); });
    for (size_t i = 0; i < scenario.mortal; ++i) setup.actors.push_back([&p, i] { p.Fate(i); });
    setup.actors.push_back([&p] { p.Engine(p.daemons_[0], p.scenario_.moves); });
    if (scenario.moves_after_restart >= 0) setup.actors.push_back([&p] { p.Restart(); });
    setup.state = [&p] { return p.State(); };
    setup.end = [&p] { p.End(); };
    return setup;
  }

  explicit Protocol(const Scenario& scenario) : scenario_(scenario) {
    for (Daemon& daemon : daemons_) daemon.epoch.value = wire::kFirstEpoch;
  }

 private:
  using Memory = SteppedMemory<Flags>;

  // A daemon's memory, and what its engine knows.
  struct Daemon {
    SteppedWord word;  // the slot where the block is
    std::array<wire::RelocationEntryOf<SteppedWord>, kLogEntries> log;
    SteppedWord log_end;
    SteppedWord epoch;
    std::array<SteppedWord, kReaders> section, used, end;
    std::array<bool, kSlots> valid = {true};  // the slot has the published bytes
    std::array<int, kSlots> retired = {};     // 0, or by which move
    uint64_t slot = 0;
    wire::RetiredQueue<uint64_t, Memory> queue;
  };

  // A block table that the first reader keeps between sections, while the other one has none: where
  // the block was, and what of the log is to be read. At first as resolved before anything moved.
  struct Table {
    uint64_t slot = 0;
    std::optional<wire::BasicRelocationReader<Memory>> log;
  };

  uint64_t Update(Table& table, const Daemon& daemon) {
    const bool whole =
        table.log->Read([&](const wire::Relocation& move) { table.slot = move.word.bits(); });
    if (!whole) table.slot = wire::ResolveWord<Memory>(daemon.word);
    return table.slot;
  }

  void Reader(size_t me) {
    std::array<Table, 2>& tables = tables_[me];
    for (size_t i = 0; i < tables.size(); ++i)
      tables[i].log.emplace(daemons_[i].log.data(), kLogEntries, &daemons_[i].log_end);
    for (int section = 0; section < scenario_.sections[me]; ++section) {
      // Attached to whoever runs, or not aware of the restart yet.
      Stepper::Running().GiveWay("attach");
      Stepper::Running().Note(current_);
      const size_t number = current_ == 0 ? 0 : Stepper::Running().Choose(2);
      Daemon& daemon = daemons_[number];
      wire::EnterSection<Memory>(daemon.epoch, daemon.section[me], daemon.used[me], 1);
      const uint64_t slot =
          me == 0 ? Update(tables[number], daemon) : wire::ResolveWord<Memory>(daemon.word);
      holds_[me] = &daemon.valid[slot];
      if (scenario_.goodbye == Goodbye::kInSection) life_[me].SaidGoodbye();
      const bool valid = wire::ReadResolved<Memory>([&] { return daemon.valid[slot]; });
      Stepper::Running().Check(valid, "read_of_rewritten");
      wire::LeaveSection<Memory>(daemon.section[me]);
      holds_[me] = nullptr;
      uint64_t own = static_cast<uint64_t>(section);
      for (const Table& table : tables)
        own = Stepper::Mix(Stepper::Mix(own, table.slot), table.log->next());
      Stepper::Running().Settle(own);
    }
    if (scenario_.goodbye == Goodbye::kAfterSections) life_[me].SaidGoodbye();
  }

  // The socket may be closed by a thread while another one reads on; then the process ends, and the
  // processor that it ran on has stored what it had to.
  void Fate(size_t me) {
    life_[me].SocketClosed();
    Stepper::Running().GiveWay("killed");
    Stepper::Running().Stop(me);
    holds_[me] = nullptr;
    Stepper::Running().AwaitStored(me);
    life_[me].ProcessEnded();
  }

  void Engine(Daemon& daemon, int moves) {
    for (int move = 0; move < moves; ++move) {
      uint64_t next = 0;
      while (next == daemon.slot || daemon.retired[next] != 0) ++next;
      const uint64_t early = scenario_.scans_early ? Oldest(daemon) : 0;
      daemon.valid[next] = true;  // the copy is awaited, and its bytes are in memory
      wire::PublishWord<Memory>(daemon.word, next);
      wire::BasicRelocationWriter<Memory>(daemon.log.data(), kLogEntries, &daemon.log_end)
          .Append({.row = 1, .plane = 0, .word = wire::ResidencyWord(next)});
      daemon.retired[daemon.slot] = move + 1;
      daemon.queue.Retire(daemon.epoch, daemon.slot);
      daemon.slot = next;
      Reuse(daemon, early);
      if (move + 1 == moves || Stepper::Running().Choose(2) == 1) Reuse(daemon, Oldest(daemon));
      Stepper::Running().Settle(static_cast<uint64_t>(move));
    }
  }

  uint64_t Oldest(Daemon& daemon) {
    return wire::OldestSection<Memory>(daemon.epoch, [&] { return Scan(daemon); });
  }

  uint64_t Scan(Daemon& daemon) {
    uint64_t oldest = wire::kNoSection;
    for (size_t i = 0; i < kReaders; ++i) {
      if (Memory::LoadAcquire(daemon.used[i]) == 0) continue;
      const uint64_t epoch =
          wire::ReadSection<Memory>(daemon.section[i], daemon.end[i], nullptr, 0);
      const bool gone = life_[i].gone() && !scenario_.never_gone;
      Stepper::Running().Note(gone);
      if (!gone) oldest = std::min(oldest, epoch);
    }
    return oldest;
  }

  void Reuse(Daemon& daemon, uint64_t oldest) {
    daemon.queue.TakeFree(oldest, [&](uint64_t slot) { Rewrite(daemon, slot); });
  }

  void Rewrite(Daemon& daemon, uint64_t slot) {
    daemon.retired[slot] = 0;
    daemon.valid[slot] = false;
    if (scenario_.only_reads) return;
    for (const bool* held : holds_)
      Stepper::Running().Check(held != &daemon.valid[slot], "rewritten_in_section");
  }

  // The daemon stops at any step; the next one has memory of its own.
  void Restart() {
    const size_t engine = kReaders + scenario_.mortal;
    Stepper::Running().GiveWay("daemon stops");
    Stepper::Running().Stop(engine);
    Stepper::Running().AwaitStored(engine);
    current_ = 1;
    Stepper::Running().GiveWay("daemon starts");
    Engine(daemons_[1], scenario_.moves_after_restart);
  }

  // All sections are left or their processes are gone: nothing may be held any more.
  void End() {
    Daemon& daemon = daemons_[current_];
    Reuse(daemon, Oldest(daemon));
    Stepper::Running().Check(daemon.queue.empty(), "held_for_ever");
  }

  uint64_t State() const {
    uint64_t hash = current_;
    for (size_t number = 0; number < daemons_.size(); ++number) {
      const Daemon& daemon = daemons_[number];
      hash = Stepper::Mix(hash, daemon.word.value);
      for (const auto& entry : daemon.log)
        hash = Stepper::Mix(Stepper::Mix(hash, entry.sequence.value), entry.word.value);
      hash = Stepper::Mix(hash, daemon.log_end.value);
      hash = Stepper::Mix(hash, daemon.epoch.value);
      for (size_t i = 0; i < kSlots; ++i) hash = Stepper::Mix(hash, daemon.valid[i]);
      if (number < current_) continue;  // nobody looks at the rest again
      hash = Stepper::Mix(hash, daemon.slot);
      for (size_t i = 0; i < kSlots; ++i)
        hash = Stepper::Mix(hash, static_cast<uint64_t>(daemon.retired[i]));
      for (size_t i = 0; i < kReaders; ++i) {
        hash = Stepper::Mix(hash, daemon.section[i].value);
        hash = Stepper::Mix(hash, daemon.used[i].value);
      }
    }
    for (const bool* held : holds_) {
      hash = Stepper::Mix(hash, held == nullptr
                                    ? 0
                                    : static_cast<uint64_t>(reinterpret_cast<const char*>(held) -
                                                            reinterpret_cast<const char*>(this)));
    }
    for (const auto& life : life_) hash = Stepper::Mix(hash, life.gone());
    return hash;
  }

  Scenario scenario_;
  std::array<Daemon, 2> daemons_;
  size_t current_ = 0;
  std::array<std::array<Table, 2>, kReaders> tables_;  // of each reader, by daemon
  std::array<const bool*, kReaders> holds_ = {};       // what a reader has the address of
  std::array<wire::ReaderLife<Memory>, kReaders> life_;
};

template <typename Flags>
void ExpectFound(const Scenario& scenario, const std::string& check) {
  const SearchResult result = Search([&] { return Protocol<Flags>::Setup(scenario); });
  EXPECT_EQ(result.found, check) << result.trail;
}

template <typename Flags>
void ExpectHolds(const Scenario& scenario) {
  ExpectFound<Flags>(scenario, "holds");
}

template <typename Flags>
void ExpectUnsafe(Scenario scenario = {.sections = {1, 1}, .moves = 2}) {
  scenario.only_reads = false;
  ExpectFound<Flags>(scenario, "rewritten_in_section");
  scenario.only_reads = true;
  ExpectFound<Flags>(scenario, "read_of_rewritten");
}

TEST(SectionSteppingTest, MovesHold) {
  ExpectHolds<Whole>({.sections = {1, 1}, .mortal = 1, .moves = 2});
}
TEST(SectionSteppingTest, SectionsHold) {
  ExpectHolds<Whole>({.sections = {2, 1}, .mortal = 1, .moves = 1});
}
TEST(SectionSteppingTest, DeathsHold) { ExpectHolds<Whole>({.sections = {1, 1}, .moves = 1}); }
TEST(SectionSteppingTest, RestartHolds) {
  ExpectHolds<Whole>({.sections = {1, 1}, .mortal = 1, .moves = 1, .moves_after_restart = 1});
}

TEST(SectionSteppingTest, EarlyScansHold) {
  ExpectHolds<Whole>({.sections = {1, 1}, .mortal = 0, .moves = 1, .scans_early = true});
}

TEST(SectionSteppingTest, GoodbyesHold) {
  ExpectHolds<Whole>({.sections = {1, 1}, .moves = 1, .goodbye = Goodbye::kAfterSections});
}

TEST(SectionSteppingTest, MissingReaderFenceIsFound) { ExpectUnsafe<NoReaderFence>(); }
TEST(SectionSteppingTest, MarkAfterTheFenceIsFound) { ExpectUnsafe<MarkAfterFence>(); }
TEST(SectionSteppingTest, MissingEngineFenceIsFound) { ExpectUnsafe<NoEngineFence>(); }
TEST(SectionSteppingTest, ScanBeforeUnpublishIsFound) {
  ExpectUnsafe<ScanBeforeUnpublish>({.sections = {1, 1}, .moves = 1, .scans_early = true});
}
TEST(SectionSteppingTest, ReuseAtEofIsFound) { ExpectUnsafe<ReuseAtEof>(); }
TEST(SectionSteppingTest, TagBeforeNewEpochIsFound) { ExpectUnsafe<TagBeforeEpoch>(); }

TEST(SectionSteppingTest, GoodbyeInASectionIsFound) {
  ExpectUnsafe<Whole>({.sections = {1, 1}, .moves = 1, .goodbye = Goodbye::kInSection});
}

TEST(SectionSteppingTest, WaitingForTheDeadIsFound) {
  ExpectFound<Whole>({.sections = {1, 1}, .mortal = 1, .moves = 1, .never_gone = true},
                     "held_for_ever");
}

TEST(SectionSteppingTest, EveryPointIsReached) {
  ExpectHolds<Whole>({.sections = {1, 0}, .moves = 1, .goodbye = Goodbye::kAfterSections});
  EXPECT_EQ(static_cast<size_t>(std::count(g_reached.begin(), g_reached.end(), true)),
            PointNames().size());
}

TEST(ProtocolPointsTest, ModelAndCodeNameThemAlike) {
  const std::string model = FileText("tests/model/read_sections.pml");
  const std::regex label("(?:^|\\n)(k\\w+):");
  std::set<std::string> modelled;
  for (std::sregex_iterator it(model.begin(), model.end(), label), end; it != end; ++it)
    modelled.insert((*it)[1]);
  EXPECT_EQ(modelled, std::set<std::string>(PointNames().begin(), PointNames().end()));
  EXPECT_FALSE(modelled.empty());
}

}  // namespace
}  // namespace kvtier
