// Workers are killed at each named point, hundreds of times, while others stand at points of their
// own, often in the same chain, and another client reads all the while. After each kill the daemon
// has given back all that the dead worker held, read sections included, and nothing of what the
// others hold: their leases, reservations and sections are there to the last one, their chunks can
// be read, and they go on from where they stand and succeed. An oracle of what was committed says
// what a lookup must and must not find; bytes follow from keys, so a block that is foreign or was
// never finished is noticed when it is read, and every byte is, where it lies.
//
// KVTIER_KILLS is the number of kills of each test; scripts/test --all sets a larger one, and
// KVTIER_IN_PLACE_KILLS_MIN: so many workers at least have to be killed in shared memory, at
// points.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/fault/steered_workers.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

// Points that others stand at meanwhile, and those that only one worker at a time is brought to.
const std::vector<std::string> kStreamPoints = {"reserved", "half_stored", "before_commit",
                                                "after_commit", "leased"};
const std::vector<std::string> kSharedPoints = {"reserved",      "half_stored", "before_commit",
                                                "after_commit",  "leased",      "entered",
                                                "inside_section"};
const std::vector<std::string> kLonePoints = {"committed_in_one_rank", "ring_full"};
// What each is called in the table of kills.
const std::vector<std::pair<std::string, std::string>> kPointNames = {
    {"reserved", "reserved, nothing written"},
    {"half_stored", "reserved and half written"},
    {"before_commit", "all written, nothing committed"},
    {"committed_in_one_rank", "committed in one rank's planes only"},
    {"after_commit", "committed"},
    {"leased", "leased"},
    {"entered", "between enter and resolve"},
    {"inside_section", "inside a section"},
    {"ring_full", "ring full"}};
constexpr char kInBetween[] = "(on the way from one of these)";
constexpr size_t kWorkers = 3;

size_t Number(const char* variable, size_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : static_cast<size_t>(std::atoi(text));
}
size_t Kills() { return Number("KVTIER_KILLS", 108); }

// Reads chains all the while, on a thread of its own.
class Survivor {
 public:
  Survivor(Client& client, Model model, bool in_place, const std::vector<SharedChain>& chains,
           uint64_t seed)
      : client_(client), model_(std::move(model)), in_place_(in_place) {
    for (const SharedChain& chain : chains) keys_.push_back(chain.keys);
    thread_ = std::thread([this, seed] { Run(seed); });
  }
  ~Survivor() { Stop(); }
  void Stop() {
    stop_ = true;
    Resume();
    if (thread_.joinable()) thread_.join();
  }
  // From here to Resume() it reads nothing and holds no lease.
  void Pause() {
    pause_ = true;
    const std::lock_guard<std::mutex> between_reads(reading_);
  }
  void Resume() {
    const std::lock_guard<std::mutex> lock(reading_);
    pause_ = false;
    resumed_.notify_all();
  }
  uint64_t reads() const { return reads_; }
  // Once it is stopped.
  const std::vector<std::string>& errors() const { return errors_; }

 private:
  void Run(uint64_t seed) {
    Rng rng(seed);
    std::unique_lock<std::mutex> lock(reading_);
    while (!stop_) {
      resumed_.wait(lock, [this] { return !pause_; });
      const std::vector<Key>& keys = keys_[rng.Below(keys_.size())];
      const absl::StatusOr<uint32_t> read =
          in_place_ ? ReadChunksInPlace(client_, model_, keys) : ReadChunks(client_, model_, keys);
      if (!read.ok()) errors_.push_back(read.status().ToString());
      if (read.ok() && *read > 0) ++reads_;
    }
  }

  Client& client_;
  Model model_;
  const bool in_place_;
  std::vector<std::vector<Key>> keys_;
  std::mutex reading_;  // held during a read
  std::condition_variable resumed_;
  std::vector<std::string> errors_;
  std::atomic<bool> pause_{false};
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> reads_{0};
  std::thread thread_;
};

constexpr char kClients[] = "kvtier_shared_clients{tenant=\"default\"}";
constexpr char kSections[] = "kvtier_shared_sections{tenant=\"default\"}";

struct KillCounts {
  // Exactly there; those on the way from there under kInBetween.
  std::map<std::string, size_t> at_point;
  bool in_place = false;
  size_t others_holding = 0;   // while another worker held a lease or room at a point
  size_t others_in_chain = 0;  // while another worker stood in the same chain
  absl::Duration slowest;      // return of what the dead worker held
};

class WorkerKillsTest : public DaemonTest {
 public:
  static void TearDownTestSuite();

 protected:
  void TearDown() override {
    if (workers_ != nullptr) workers_->End();
    client_.reset();
    DaemonTest::TearDown();
  }
  struct Setting {
    std::string name;
    std::string config;
    bool in_place = true;  // else streams
    bool evicts = false;
  };
  void Run(const Setting& setting);
  void Prepare(const Setting& setting);
  void KillOne(size_t kill, Survivor& survivor);
  // Brings the others to points of their own; some stay where they are.
  void PlaceOthers(size_t victim);
  void CheckHeldByOthers(size_t victim);
  void CheckChain(const SharedChain& chain);
  void CheckNothingIsLeft();

  absl::StatusOr<uint32_t> Read(const std::vector<Key>& keys) {
    return in_place_ ? ReadChunksInPlace(*client_, model_, keys)
                     : ReadChunks(*client_, model_, keys);
  }

  bool in_place_ = true;
  bool evicts_ = false;
  std::vector<std::string> points_;        // of victims
  std::vector<std::string> other_points_;  // and of those that live on
  Rng rng_{0};
  std::unique_ptr<Client> client_;
  Model model_;
  std::unique_ptr<SteeredWorkers> workers_;
  KillCounts counts_;
  static std::map<std::string, KillCounts> all_counts_;  // by the name of the test's setting
};

std::map<std::string, KillCounts> WorkerKillsTest::all_counts_;

// A table of all kills.
void WorkerKillsTest::TearDownTestSuite() {
  size_t in_place = 0;
  std::cout << absl::StreamFormat("%-40s", "workers killed");
  for (const auto& [mode, counts] : all_counts_) std::cout << absl::StreamFormat("%22s", mode);
  std::cout << "\n";
  const auto print = [&](const std::string& point, const std::string& name) {
    std::cout << absl::StreamFormat("%-40s", name);
    for (const auto& [mode, counts] : all_counts_) {
      const auto found = counts.at_point.find(point);
      const size_t kills = found == counts.at_point.end() ? 0 : found->second;
      in_place += counts.in_place && point != kInBetween ? kills : 0;
      std::cout << absl::StreamFormat("%22d", kills);
    }
    std::cout << "\n";
  };
  for (const auto& [point, name] : kPointNames) print(point, name);
  print(kInBetween, kInBetween);
  std::cout << in_place << " at points in shared memory\n";
  EXPECT_GE(in_place, Number("KVTIER_IN_PLACE_KILLS_MIN", 0));
}

void WorkerKillsTest::Prepare(const Setting& setting) {
  in_place_ = setting.in_place;
  evicts_ = setting.evicts;
  points_ = in_place_ ? kSharedPoints : kStreamPoints;
  // Who stands in a section holds all that is dropped meanwhile: a full pool would stay full.
  other_points_ = evicts_ ? kStreamPoints : points_;
  points_.insert(points_.end(), kLonePoints.begin(), kLonePoints.begin() + (in_place_ ? 2 : 1));
  rng_ = Rng(TestSeed(20261121));
  StartDaemon(setting.config);
  ClientOptions options = Options("survivor");
  options.transport = in_place_ ? Transport::kSharedMemory : Transport::kStream;
  client_ = Connect(options);
  ASSERT_NE(client_, nullptr);
  ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(RankedModel()));
  workers_ = std::make_unique<SteeredWorkers>(SteeredWorkers::Options{.socket = socket(),
                                                                      .client = client_.get(),
                                                                      .model = model_,
                                                                      .workers = kWorkers,
                                                                      .in_place = in_place_,
                                                                      .evicts = evicts_,
                                                                      .seed = rng_.Next()});
  for (size_t worker = 0; worker < kWorkers; ++worker) ASSERT_THAT(workers_->Start(worker), IsOk());
}

void WorkerKillsTest::PlaceOthers(size_t victim) {
  std::vector<size_t> moving;
  for (size_t other = 0; other < kWorkers; ++other) {
    const bool stays = workers_->standing(other).holds_something() && rng_.Below(3) == 0;
    if (other != victim && !stays) moving.push_back(other);
  }
  ASSERT_THAT(workers_->Finish(moving), IsOk());
  for (const size_t other : moving) {
    if (rng_.Below(4) == 0) continue;  // is idle
    ASSERT_THAT(workers_->BringTo(other, other_points_[rng_.Below(other_points_.size())]), IsOk());
  }
}

void WorkerKillsTest::CheckHeldByOthers(size_t victim) {
  size_t leases = 0;
  size_t reservations = 0;
  int64_t sections = 0;
  for (size_t other = 0; other < kWorkers; ++other) {
    if (other == victim) continue;
    leases += workers_->standing(other).has_lease();
    reservations += workers_->standing(other).has_reservation();
    sections += workers_->standing(other).in_section();
  }
  counts_.others_holding += leases + reservations > 0;
  const absl::Time began = absl::Now();
  v1::StatusReply status;
  // The others and the survivor.
  EXPECT_TRUE(Await([&] {
    status = daemon().Status();
    return status.sessions() == kWorkers && status.leases() == leases &&
           status.reservations() == reservations &&
           (!in_place_ ||
            (daemon().Metric(kClients) == kWorkers && daemon().Metric(kSections) == sections));
  })) << "after a kill at "
      << workers_->standing(victim).point << ": others hold " << leases << " leases, "
      << reservations << " reservations and " << sections << " sections; there are "
      << daemon().Metric(kSections) << " sections of " << daemon().Metric(kClients) << " clients; "
      << status.ShortDebugString();
  counts_.slowest = std::max(counts_.slowest, absl::Now() - began);
  for (size_t other = 0; other < kWorkers; ++other) {
    const Standing& at = workers_->standing(other);
    if (other == victim || at.pinned() == 0) continue;
    ASSERT_OK_AND_ASSIGN(const uint32_t read, Read(workers_->chains()[at.chain].keys));
    EXPECT_GE(read, at.pinned()) << "chain " << at.chain << " of a worker at " << at.point;
  }
}

void WorkerKillsTest::CheckChain(const SharedChain& chain) {
  ASSERT_OK_AND_ASSIGN(const uint32_t read, Read(chain.keys));
  if (!evicts_) {
    EXPECT_GE(read, chain.known) << "of chain " << &chain - workers_->chains().data();
  }
  EXPECT_LE(read, chain.possible) << "of chain " << &chain - workers_->chains().data();
}

void WorkerKillsTest::KillOne(size_t kill, Survivor& survivor) {
  const size_t victim = rng_.Below(kWorkers);
  const std::string point = points_[kill % points_.size()];
  ASSERT_NO_FATAL_FAILURE(PlaceOthers(victim));
  const auto dropped = [&] { return daemon().Status().counters().at("shared_reports_dropped"); };
  const uint64_t dropped_before = dropped();
  ASSERT_THAT(workers_->BringTo(victim, point), IsOk());
  // Only a client whose ring is full drops reports, and nobody else writes that many.
  if (point == "ring_full") {
    ASSERT_TRUE(Await([&] { return dropped() > dropped_before; })) << "its ring is never full";
  }
  counts_.others_in_chain += workers_->SharesChain(victim);
  // Every sixth time round it dies in the middle of the step after the point, and does not count.
  const bool in_between = kill / points_.size() % 6 == 5;
  if (in_between) {
    ASSERT_THAT(workers_->GoOn(victim), IsOk());
  }
  workers_->Kill(victim);
  ++counts_.at_point[in_between ? kInBetween : point];
  survivor.Pause();
  ASSERT_NO_FATAL_FAILURE(CheckHeldByOthers(victim));
  ASSERT_NO_FATAL_FAILURE(CheckChain(workers_->chains()[workers_->standing(victim).chain]));
  survivor.Resume();
  ASSERT_THAT(workers_->Start(victim), IsOk());
}

void WorkerKillsTest::CheckNothingIsLeft() {
  workers_->End();
  std::vector<Key> roots;
  for (const SharedChain& chain : workers_->chains()) roots.push_back(chain.keys.front());
  ASSERT_THAT(client_->Forget(model_, roots), IsOk());
  EXPECT_TRUE(Await([&] { return daemon().Status().sessions() == 1; }));
  // Of retired slots, too: nobody is left who could read there.
  EXPECT_TRUE(Await([&] { return daemon().UsedBytes() == 0; })) << daemon().UsedBytes();
  if (in_place_) {
    EXPECT_EQ(daemon().Metric(kSections), 0);
    EXPECT_EQ(daemon().Metric(kClients), 1);
  }
  const v1::StatusReply status = daemon().Status();
  EXPECT_EQ(status.chunks(), 0u);
  EXPECT_EQ(status.leases(), 0u);
  EXPECT_EQ(status.reservations(), 0u);
}

void WorkerKillsTest::Run(const Setting& setting) {
  const size_t kills = Kills();
  ASSERT_NO_FATAL_FAILURE(Prepare(setting));
  ASSERT_EQ(daemon().Status().sessions(), 1 + kWorkers);  // and this test's own connection is there
  const size_t files_max = daemon().SettledFiles();       // a leak would be one for each kill
  const size_t threads_max = daemon().Facts().threads + 20;

  Survivor survivor(*client_, model_, in_place_, workers_->chains(), rng_.Next());
  for (size_t kill = 0; kill < kills; ++kill) {
    ASSERT_NO_FATAL_FAILURE(KillOne(kill, survivor));
    if (HasFailure()) return;
  }
  // Whoever still stands somewhere goes on from there.
  std::vector<size_t> all(kWorkers);
  for (size_t worker = 0; worker < kWorkers; ++worker) all[worker] = worker;
  ASSERT_THAT(workers_->Finish(all), IsOk());
  survivor.Stop();
  for (const std::string& point : points_) {
    // The others died on the way from there.
    EXPECT_GE(counts_.at_point[point], kills / points_.size() * 4 / 5) << point;
  }
  counts_.in_place = in_place_;
  all_counts_[setting.name] = counts_;
  std::cout << "others held something in " << counts_.others_holding << " of " << kills
            << " kills, and stood in the same chain in " << counts_.others_in_chain << "; "
            << workers_->existing_chunks() << " chunks existed already when committed\n"
            << "slowest return of what a dead worker held: " << counts_.slowest
            << "; chains read by the survivor: " << survivor.reads() << "\n";
  EXPECT_GT(counts_.others_holding, kills / 2);
  EXPECT_GT(counts_.others_in_chain, kills / 10);
  EXPECT_GT(workers_->existing_chunks(), kills / 10);
  EXPECT_LT(counts_.slowest, absl::Seconds(5));
  EXPECT_THAT(survivor.errors(), ::testing::IsEmpty());
  EXPECT_GT(survivor.reads(), kills);

  for (const SharedChain& chain : workers_->chains()) CheckChain(chain);
  EXPECT_TRUE(Await([&] { return daemon().Facts().open_files <= files_max; }))
      << files_max << " files before, and now:\n"
      << daemon().OpenFiles();
  EXPECT_TRUE(Await([&] { return daemon().Facts().threads <= threads_max; }))
      << daemon().Facts().threads << " threads";
  const auto counters = daemon().Status().counters();
  if (evicts_) {
    EXPECT_GT(counters.at("dropped_chunks"), kills / 4) << "the pools were too large";
  } else {
    EXPECT_EQ(counters.at("dropped_chunks"), 0u);
  }
  // Those who were killed were told nothing.
  EXPECT_GE(counters.at("already_existing_chunks"), workers_->existing_chunks());
  CheckNothingIsLeft();
}

constexpr char kHttp[] = "listen: {http: '127.0.0.1:0'}\n";

// Each worker writes to segments of its own, one for each size of slots, and the dead leave them
// behind until they are empty: pools of many small segments.
std::string SmallSegments(absl::string_view hbm, absl::string_view dram) {
  return absl::StrCat(kHttp,
                      "memory: {segment_bytes: 64KiB, reserve_bytes: 0, huge_pages: false}\n",
                      "pools:\n  - {name: 'hbm:0', kind: hbm, budget_bytes: ", hbm, "}\n",
                      "  - {name: 'dram:0', kind: dram, budget_bytes: ", dram, "}\n");
}

TEST_F(WorkerKillsTest, WhatWasCommittedStaysAndNothingElseDoes) {
  Run({.name = "in place", .config = SmallSegments("16MiB", "32MiB")});
}

TEST_F(WorkerKillsTest, WhatIsFoundIsRightWhilePoolsAreFull) {
  Run({.name = "in place, full pools", .config = SmallSegments("1MiB", "1536KiB"), .evicts = true});
}

TEST_F(WorkerKillsTest, WhatIsFoundByStreamIsRightWhilePoolsAreFull) {
  Run({.name = "streams, full pools",
       .config = SmallSegments("512KiB", "768KiB"),
       .in_place = false,
       .evicts = true});
}

}  // namespace
}  // namespace kvtier::test_support
