// The daemon is killed between publish and reuse: blocks have moved, or are moving, and where they
// were nothing is reused yet, as readers in other processes hold those addresses in a section. The
// readers compare every byte where they found it, before and after the next daemon is there, fall
// back while there is none, and go on in place with the next one; nothing of the dead one is left.
//
// Some kills come with the daemon as a client sees it (moves are running, or all are done), others
// with its engine stopped just after one instruction, at the points that docs/shared_memory.md
// names: a, the new address is stored; b, the move is logged; c, the epoch is raised; f, after the
// slot was tagged the first section is looked at.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/wire/relocation_log.h"
#include "proto/wire/section_protocol.h"
#include "proto/wire/shared_index.h"
#include "tests/fault/access_watch.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/in_place_blocks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

constexpr size_t kReaders = 3;
constexpr size_t kChunks = 8;  // of each reader's chain
constexpr size_t kPlanes = 3;
constexpr size_t kHeld = kReaders * kChunks * kPlanes;
constexpr size_t kBlocks = kHeld + 1;  // with that of the test

constexpr char kMoving[] = "moves running";
constexpr char kMoved[] = "all moved, nothing reused";
const std::vector<std::string> kInstructions = {"address stored", "move logged", "epoch raised",
                                                "slot tagged, looking at sections"};

class DaemonKillsTest : public DaemonTest {
 protected:
  // `move_bytes_per_second_max` 0: moves take no longer than they must.
  void Start(uint64_t move_bytes_per_second_max) {
    move_bytes_per_second_max_ = move_bytes_per_second_max;
    ASSERT_NO_FATAL_FAILURE(StartNext());
    for (size_t i = 0; i < kReaders; ++i) {
      ChildProcess::Options options;
      options.arguments = {HelperPath("section_reader"), socket()};
      ASSERT_OK_AND_ASSIGN(auto reader, ChildProcess::Start(options));
      readers_.push_back(std::move(reader));
      ASSERT_OK_AND_ASSIGN(const std::string line, readers_.back()->ReadLine(kSoon));
      ASSERT_EQ(line, "ready");
    }
    Tell(WithNextChains("store"), "stored");
  }
  void TearDown() override {
    own_.reset();
    raw_.reset();
    watch_.reset();
    readers_.clear();
    if (daemon_ == nullptr) return DaemonTest::TearDown();  // skipped
    // Daemons that were killed left their sockets, and the next one took them over.
    std::set<std::string> left;
    for (const auto& entry : std::filesystem::directory_iterator(directory()))
      left.insert(entry.path().filename());
    const std::set<std::string> known = {"kvtierd.sock", "kvtierd.sock.shm", "kvtierd.yaml",
                                         "kvtierd.log"};
    EXPECT_EQ(left, known);
    DaemonTest::TearDown();
  }

  void KillEachTime(const std::vector<std::string>& points, size_t rounds);

 private:
  // Half of a pool may wait for readers: everything that moves here.
  void StartNext() {
    StartDaemon(
        absl::StrCat("memory: {segment_bytes: 256KiB, reserve_bytes: 0, huge_pages: false}\n"
                     "pools:\n  - {name: 'hbm:0', kind: hbm, budget_bytes: 6MiB}\n"
                     "  - {name: 'dram:0', kind: dram, budget_bytes: 6MiB}\n"
                     "limits: {retired_share_max: 0.5}\n"
                     "policy: {move_bytes_per_second_max: ",
                     move_bytes_per_second_max_, "}\n"));
    ASSERT_NE(daemon_, nullptr);
  }
  // Tells all readers, who do it at the same time.
  void Tell(const std::vector<std::string>& lines, const std::string& answer) {
    for (size_t i = 0; i < kReaders; ++i)
      ASSERT_THAT(readers_[i]->WriteLine(lines[i % lines.size()]), IsOk());
    for (size_t i = 0; i < kReaders; ++i) {
      ASSERT_OK_AND_ASSIGN(const std::string line, readers_[i]->ReadLine(2 * kSoon));
      ASSERT_EQ(line, answer) << "reader " << i;
    }
  }
  void SetBudget(uint64_t bytes) {
    v1::SetBudgetRequest request;
    request.set_pool("hbm:0");
    request.set_budget_bytes(bytes);
    v1::SetBudgetReply reply;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kSoon));
    ASSERT_TRUE(daemon().admin().SetBudget(&context, request, &reply).ok());
  }
  uint64_t RetiredBytes() {
    uint64_t retired = 0;
    const v1::PoolsReply pools = daemon().Pools();
    for (const v1::PoolsReply::Pool& pool : pools.pools()) retired += pool.retired_bytes();
    return retired;
  }
  // A line for each reader, to store another chain.
  std::vector<std::string> WithNextChains(absl::string_view line) {
    std::vector<std::string> lines;
    chains_.clear();
    for (size_t i = 0; i < kReaders; ++i) {
      chains_.push_back(++seed_);
      lines.push_back(absl::StrCat(line, " ", seed_, " ", kChunks));
    }
    return lines;
  }
  void KillAt(const std::string& point);
  void HoldAll();
  // What is held, or some of it, moves, and the daemon has come to the point.
  void ReachMoving();
  void ReachMoved();
  void ReachInstruction(const std::string& point);
  void CheckOwn();
  // In the index, which the test has mapped like any client.
  uint64_t Logged() const {
    return raw_->header().log_end.load(std::memory_order_acquire) - logged_;
  }
  bool OwnMoveIsLogged() const {
    const auto* log = reinterpret_cast<const wire::RelocationEntry*>(raw_->index->get() +
                                                                     raw_->header().log_offset);
    for (uint64_t i = logged_; i < logged_ + Logged(); ++i) {
      if (log[i % raw_->header().log_entries].row.load() == own_row_) return true;
    }
    return false;
  }
  uint64_t Offset(const std::atomic<uint64_t>& word) const {
    return static_cast<uint64_t>(reinterpret_cast<const std::byte*>(&word) - raw_->index->get());
  }
  const std::atomic<uint64_t>& BestOf(uint64_t row) const {
    const auto* header = reinterpret_cast<const wire::RowHeader*>(
        raw_->index->get() + raw_->header().rows_offset + (row & 0xffffffff) * wire::kLineBytes);
    return wire::PlaneOf(header, 1, 0).best;
  }

  uint64_t move_bytes_per_second_max_ = 0;
  Rng rng_{TestSeed(20261121)};
  std::vector<std::unique_ptr<ChildProcess>> readers_;
  std::unique_ptr<RawClient> raw_;
  std::unique_ptr<BlockInPlace> own_;
  std::string own_bytes_;
  uint64_t own_row_ = 0;
  uint64_t logged_ = 0;           // before anything moved
  uint64_t seed_ = 0;             // of what was stored last
  std::vector<uint64_t> chains_;  // of the readers, those that they stored last
  std::unique_ptr<AccessWatch> watch_;
  std::map<std::string, size_t> kills_;  // by what was reached
};

// Each reader holds what all have stored; the test holds a block of its own.
void DaemonKillsTest::HoldAll() {
  std::string hold = absl::StrCat("hold ", kChunks);
  for (const uint64_t chain : chains_) absl::StrAppend(&hold, " ", chain);
  ASSERT_NO_FATAL_FAILURE(Tell({hold}, absl::StrCat("held ", kHeld)));
  raw_ = RawClient::Attach(socket(), getpid());
  ASSERT_NE(raw_, nullptr);
  own_bytes_ = RawBlock(++seed_);
  own_ = BlockInPlace::Write(*raw_, "own", own_bytes_);
  ASSERT_NE(own_, nullptr);
  const v1::LookupReply found = raw_->session->Lookup("own");
  ASSERT_EQ(found.rows_size(), 1);
  own_row_ = found.rows(0);
  wire::EnterSection(raw_->header().retire_epoch, raw_->client_page(), 0);
  logged_ = raw_->header().log_end.load();
  ASSERT_EQ(RetiredBytes(), 0u);
}

void DaemonKillsTest::ReachMoving() {
  ASSERT_NO_FATAL_FAILURE(SetBudget(0));  // everything leaves the pool
  const uint64_t target = 1 + rng_.Below(kBlocks / 2);
  ASSERT_TRUE(Await([&] { return Logged() >= target && RetiredBytes() > 0; }));
}

void DaemonKillsTest::ReachMoved() {
  ASSERT_NO_FATAL_FAILURE(SetBudget(0));
  ASSERT_TRUE(Await([&] { return Logged() == kBlocks; })) << Logged() << " of " << kBlocks;
  // More is stored where the blocks were: beside them, as nothing there may be used yet.
  ASSERT_NO_FATAL_FAILURE(SetBudget(6 << 20));
  ASSERT_NO_FATAL_FAILURE(Tell(WithNextChains("store"), "stored"));
  EXPECT_GT(RetiredBytes(), RawSession::kBlockBytes);
}

void DaemonKillsTest::ReachInstruction(const std::string& point) {
  const pid_t pid = daemon().pid();
  const wire::IndexHeader& header = raw_->header();
  const auto in_daemon = [&](const std::atomic<uint64_t>& word) {
    const auto address = AddressIn(pid, raw_->channel.index_fd(), Offset(word));
    EXPECT_THAT(address, IsOk());
    return address.value_or(0);
  };
  const std::atomic<uint64_t>& address = BestOf(own_row_);
  const uint64_t before = address.load();
  uint64_t word = in_daemon(header.retire_epoch);
  if (point == "address stored") word = in_daemon(address);
  if (point == "move logged") word = in_daemon(header.log_end);
  const uint64_t epoch = header.retire_epoch.load();
  ASSERT_THAT(watch_->Watch({word}, AccessWatch::Access::kWrite), IsOk());
  ASSERT_NO_FATAL_FAILURE(SetBudget(0));
  ASSERT_THAT(watch_->Wait(kSoon), IsOk());
  if (point == "address stored") {
    EXPECT_NE(address.load(), before);
    EXPECT_FALSE(OwnMoveIsLogged());
    return;
  }
  uint64_t written = 1;
  for (const uint64_t last = 1 + rng_.Below(24); written < last; ++written) {
    ASSERT_THAT(watch_->Watch({word}, AccessWatch::Access::kWrite), IsOk());
    ASSERT_THAT(watch_->Wait(kSoon), IsOk());
  }
  // A slot is retired once its move is logged.
  const uint64_t retired = header.retire_epoch.load() - epoch;
  if (point == "move logged") {
    EXPECT_EQ(Logged(), written);
    EXPECT_LT(retired, written);
    return;
  }
  EXPECT_EQ(retired, written);
  EXPECT_GE(Logged(), written);
  if (point == "epoch raised") return;
  const wire::ClientPage& page = raw_->client_page();
  const auto offset = reinterpret_cast<const std::byte*>(&page.sections[0].section) -
                      reinterpret_cast<const std::byte*>(&page);
  ASSERT_OK_AND_ASSIGN(const uint64_t section,
                       AddressIn(pid, raw_->channel.page_fd(), static_cast<uint64_t>(offset)));
  ASSERT_THAT(watch_->Watch({section}, AccessWatch::Access::kReadOrWrite), IsOk());
  ASSERT_THAT(watch_->Wait(kSoon), IsOk());
}

void DaemonKillsTest::CheckOwn() {
  EXPECT_EQ(std::memcmp(own_->block, own_bytes_.data(), own_bytes_.size()), 0);
}

void DaemonKillsTest::KillAt(const std::string& point) {
  SCOPED_TRACE(absl::StrCat("kill ", kills_[point] + 1, ", ", point));
  ASSERT_NO_FATAL_FAILURE(HoldAll());
  const std::string same = absl::StrCat("same ", kHeld);
  std::string reached = point;
  if (point == kMoving) {
    ASSERT_NO_FATAL_FAILURE(ReachMoving());
    if (Logged() == kBlocks) reached = "too late, all moved";  // the test was held up
  } else if (point == kMoved) {
    ASSERT_NO_FATAL_FAILURE(ReachMoved());
  } else {
    ASSERT_OK_AND_ASSIGN(watch_, AccessWatch::Begin(daemon().pid()));
    ASSERT_NO_FATAL_FAILURE(ReachInstruction(point));
    watch_->Kill();
  }
  daemon().Kill();
  watch_.reset();
  ++kills_[reached];
  ASSERT_NO_FATAL_FAILURE(Tell({"check"}, same));
  CheckOwn();
  ASSERT_NO_FATAL_FAILURE(Tell({"lose"}, "lost"));
  ASSERT_NO_FATAL_FAILURE(Tell({"check"}, same));
  daemon_.reset();
  StartNext();
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_NO_FATAL_FAILURE(Tell(WithNextChains("go_on"), absl::StrCat("went_on ", kChunks)));
  CheckOwn();
  own_.reset();
  raw_.reset();
  const v1::StatusReply status = daemon().Status();
  EXPECT_EQ(status.chunks(), kReaders * kChunks) << "of the new daemon";
  EXPECT_EQ(status.sessions(), kReaders);
  for (const auto& reader : readers_) {
    EXPECT_LE(FactsOf(reader->pid()).memfd_bytes, daemon().Facts().memfd_bytes)
        << "it maps memory of a daemon that is gone";
  }
}

void DaemonKillsTest::KillEachTime(const std::vector<std::string>& points, size_t rounds) {
  for (size_t round = 0; round < rounds && !HasFailure(); ++round) {
    for (const std::string& point : points) ASSERT_NO_FATAL_FAILURE(KillAt(point));
  }
  for (const auto& [point, count] : kills_)
    std::cout << "daemon killed, " << point << ": " << count << "\n";
  for (const std::string& point : points)
    EXPECT_GE(kills_[point], point == kMoving ? rounds * 4 / 5 : rounds) << point;
}

TEST_F(DaemonKillsTest, WhileMovesRunReadersKeepEveryByte) {
  ASSERT_NO_FATAL_FAILURE(Start(1 << 20));
  KillEachTime({kMoving}, 20);
}

TEST_F(DaemonKillsTest, BetweenPublishAndReuseReadersKeepEveryByte) {
  ASSERT_NO_FATAL_FAILURE(Start(0));
  KillEachTime({kMoved}, 20);
}

TEST_F(DaemonKillsTest, AtEachInstructionBetweenPublishAndReuseReadersKeepEveryByte) {
  // Asked of a program that is about to end anyway.
  ChildProcess::Options options;
  options.arguments = {"/bin/cat"};
  ASSERT_OK_AND_ASSIGN(const auto trial, ChildProcess::Start(options));
  {
    uint64_t word = 0;
    const auto watch = AccessWatch::Begin(trial->pid());
    ASSERT_TRUE(watch.ok() || absl::IsUnimplemented(watch.status())) << watch.status();
    const absl::Status ran = watch.ok() ? (*watch)->Watch({reinterpret_cast<uint64_t>(&word)},
                                                          AccessWatch::Access::kWrite)
                                        : watch.status();
    if (absl::IsUnimplemented(ran)) GTEST_SKIP() << "no debug registers: " << ran;
  }
  ASSERT_NO_FATAL_FAILURE(Start(0));
  KillEachTime(kInstructions, 8);
}

}  // namespace
}  // namespace kvtier::test_support
