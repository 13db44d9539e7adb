// Workers are killed at each named point, hundreds of times, several alive at once and another
// client reading all the while. An oracle of what was committed says what a lookup must and must
// not find; bytes follow from keys, so a block that is foreign or was never finished is noticed
// when it is read. After each kill the daemon has given back all that the dead worker held.
#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"

namespace kvtier::test_support {
namespace {

constexpr std::array<const char*, 5> kPoints = {"reserved", "half_stored", "before_commit",
                                                "after_commit", "leased"};
constexpr size_t kWorkers = 3;
constexpr size_t kChains = 40;
constexpr size_t kChunksMax = 5;

// A chain's chunks are a function of its number, so workers meet on chains and extend each other's.
struct Chain {
  size_t chunks = 0;
  uint32_t tail_tokens = 0;
  size_t known = 0;     // committed for certain
  size_t possible = 0;  // may be committed: a Commit was sent
};

struct Task {
  uint64_t chain = 0;
  size_t first = 0, count = 0;  // what it reserved
  std::string standing;         // the point it stands at; empty: at none
};

struct Worker {
  std::unique_ptr<ChildProcess> process;
  Task task;
};

// Reads chains all the while, on a thread of its own.
class Survivor {
 public:
  Survivor(Client& client, Model model, const std::vector<Chain>& chains, uint64_t seed)
      : client_(client), model_(std::move(model)) {
    for (size_t i = 0; i < chains.size(); ++i)
      keys_.push_back(ChainKeys(model_, i, chains[i].chunks, chains[i].tail_tokens));
    thread_ = std::thread([this, seed] { Run(seed); });
  }
  ~Survivor() { Stop(); }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  // While this is held it reads nothing and holds no lease.
  std::unique_lock<std::mutex> Pause() { return std::unique_lock<std::mutex>(reading_); }
  const std::vector<Key>& keys(uint64_t chain) const { return keys_[chain]; }
  uint64_t reads() const { return reads_; }
  std::vector<std::string> errors() {
    const auto paused = Pause();
    return errors_;
  }

 private:
  void Run(uint64_t seed) {
    Rng rng(seed);
    while (!stop_) {
      const std::lock_guard<std::mutex> lock(reading_);
      const absl::StatusOr<uint32_t> read =
          ReadChunks(client_, model_, keys_[rng.Below(keys_.size())]);
      if (!read.ok()) errors_.push_back(read.status().ToString());
      if (read.ok() && *read > 0) ++reads_;
    }
  }

  Client& client_;
  Model model_;
  std::vector<std::vector<Key>> keys_;
  std::mutex reading_;
  std::vector<std::string> errors_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> reads_{0};
  std::thread thread_;
};

class WorkerKillsTest : public DaemonTest {
 protected:
  void TearDown() override {
    for (Worker& worker : workers_) worker.process.reset();
    client_.reset();
    DaemonTest::TearDown();
  }
  void Kill(size_t kills, const std::string& config, bool evicts);

  absl::StatusOr<std::string> Line(Worker& worker) {
    KVTIER_ASSIGN_OR_RETURN(std::string line, worker.process->ReadLine(kSoon));
    if (line.rfind("error", 0) == 0) return absl::InternalError(line);
    return line;
  }
  void Start(Worker& worker) {
    ChildProcess::Options options;
    options.arguments = {HelperPath("kill_worker"), socket()};
    ASSERT_OK_AND_ASSIGN(worker.process, ChildProcess::Start(options));
    worker.task = Task();
    ASSERT_OK_AND_ASSIGN(const std::string line, Line(worker));
    ASSERT_EQ(line, "ready");
  }
  // One line from the worker, taken into account. False: it has no task any more.
  absl::StatusOr<bool> Follow(Worker& worker) {
    KVTIER_ASSIGN_OR_RETURN(const std::string line, Line(worker));
    std::istringstream words(line);
    Task& task = worker.task;
    words >> task.standing;
    Chain& chain = chains_[task.chain];
    if (task.standing == "reserved") words >> task.first >> task.count;
    if (task.standing == "after_commit")
      chain.known = std::max(chain.known, task.first + task.count);
    if (task.standing != "done" && task.standing != "refused") return true;
    task = Task();
    return false;
  }
  absl::Status GoOn(Worker& worker) {
    const Task& task = worker.task;
    Chain& chain = chains_[task.chain];
    if (task.standing == "before_commit")
      chain.possible = std::max(chain.possible, task.first + task.count);
    return worker.process->WriteLine("go");
  }
  // Brings the worker to the point, through as many tasks as it takes.
  absl::Status BringTo(Worker& worker, const std::string& point, Rng& rng) {
    for (int tries = 0; tries < 2000; ++tries) {
      if (worker.task.standing.empty()) {
        worker.task.chain = rng.Below(chains_.size());
        Chain& chain = chains_[worker.task.chain];
        // Chains would soon be stored all of them, and nothing would be reserved any more.
        if (rng.Below(3) == 0 && !InUse(worker)) {
          KVTIER_RETURN_IF_ERROR(
              client_
                  ->Forget(model_, {ChainKeys(model_, worker.task.chain, chain.chunks,
                                              chain.tail_tokens)[0]})
                  .status());
          chain.known = chain.possible = 0;
        }
        KVTIER_RETURN_IF_ERROR(worker.process->WriteLine(
            absl::StrCat(worker.task.chain, " ", chain.chunks, " ", chain.tail_tokens)));
      } else {
        KVTIER_RETURN_IF_ERROR(GoOn(worker));
      }
      KVTIER_ASSIGN_OR_RETURN(const bool standing, Follow(worker));
      const bool holds_something = worker.task.standing != "reserved" || worker.task.count > 0;
      if (standing && worker.task.standing == point && holds_something) return absl::OkStatus();
    }
    return absl::DeadlineExceededError(absl::StrCat("never came to ", point));
  }

  // Whether another worker is busy with the worker's chain.
  bool InUse(const Worker& worker) const {
    return std::any_of(workers_.begin(), workers_.end(), [&](const Worker& other) {
      return &other != &worker && !other.task.standing.empty() &&
             other.task.chain == worker.task.chain;
    });
  }

  std::vector<Chain> chains_;
  std::array<Worker, kWorkers> workers_;
  std::unique_ptr<Client> client_;
  Model model_;
};

void WorkerKillsTest::Kill(size_t kills, const std::string& config, bool evicts) {
  Rng rng(TestSeed(20261121));
  StartDaemon(config);
  client_ = Connect(Options("survivor"));
  ASSERT_NE(client_, nullptr);
  ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
  chains_.resize(kChains);
  for (Chain& chain : chains_) {
    chain.chunks = 1 + rng.Below(kChunksMax);
    chain.tail_tokens = static_cast<uint32_t>(rng.Below(16));
  }
  Survivor survivor(*client_, model_, chains_, rng.Next());
  for (Worker& worker : workers_) ASSERT_NO_FATAL_FAILURE(Start(worker));
  // Pools keep a descriptor for each segment and grow meanwhile; a leak would be one for each kill.
  size_t descriptors_max = daemon().Facts().open_files;
  const v1::PoolsReply pools = daemon().Pools();
  for (const v1::PoolsReply::Pool& pool : pools.pools())
    descriptors_max += pool.limit_bytes() / pool.segment_bytes() - pool.segments();
  const size_t threads_max = daemon().Facts().threads + 20;

  std::map<std::string, size_t> killed;
  absl::Duration slowest;
  for (size_t kill = 0; kill < kills; ++kill) {
    Worker& worker = workers_[rng.Below(workers_.size())];
    const std::string point = kPoints[kill % kPoints.size()];
    ASSERT_THAT(BringTo(worker, point, rng), IsOk());
    // One in five dies in the middle of the step after the point, and does not count.
    const bool in_between = kill / kPoints.size() % 5 == 4;
    if (in_between) {
      ASSERT_THAT(GoOn(worker), IsOk());
    }
    worker.process->Kill();
    killed[point] += !in_between;

    const auto paused = survivor.Pause();
    size_t leases = 0;
    size_t reservations = 0;
    for (const Worker& other : workers_) {
      if (&other == &worker) continue;
      const std::string& at = other.task.standing;
      leases += at == "leased";
      reservations += other.task.count > 0 &&
                      (at == "reserved" || at == "half_stored" || at == "before_commit");
    }
    const absl::Time began = absl::Now();
    v1::StatusReply status;
    EXPECT_TRUE(Await([&] {
      status = daemon().Status();
      return status.sessions() == kWorkers && status.leases() == leases &&
             status.reservations() == reservations;
    })) << "after a kill at "
        << point << ": " << status.ShortDebugString();
    slowest = std::max(slowest, absl::Now() - began);
    if (HasFailure()) return;

    // The dead worker's chain, by the oracle.
    const Chain& chain = chains_[worker.task.chain];
    const std::vector<Key>& keys = survivor.keys(worker.task.chain);
    ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, keys));
    if (!evicts) {
      EXPECT_GE(read, chain.known) << "chain " << worker.task.chain;
    }
    EXPECT_LE(read, chain.possible) << "chain " << worker.task.chain;
    if (HasFailure()) return;
    ASSERT_NO_FATAL_FAILURE(Start(worker));
  }
  for (const char* const point : kPoints) {
    EXPECT_GE(killed[point], 30u) << point;
    RecordProperty(point, static_cast<int>(killed[point]));
    std::cout << "killed at " << point << ": " << killed[point] << "\n";
  }
  EXPECT_LT(slowest, absl::Seconds(5));
  std::cout << "slowest return of what a dead worker held: " << slowest
            << "; chains read by the survivor: " << survivor.reads() << "\n";

  survivor.Stop();
  EXPECT_THAT(survivor.errors(), ::testing::IsEmpty());
  EXPECT_GT(survivor.reads(), kills);
  for (size_t i = 0; i < chains_.size(); ++i) {
    ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, survivor.keys(i)));
    if (!evicts) {
      EXPECT_GE(read, chains_[i].known) << "chain " << i;
    }
    EXPECT_LE(read, chains_[i].possible) << "chain " << i;
  }
  EXPECT_TRUE(Await([&] { return daemon().Facts().open_files <= descriptors_max; }))
      << daemon().Facts().open_files << " open files; with all segments " << descriptors_max;
  EXPECT_TRUE(Await([&] { return daemon().Facts().threads <= threads_max; }))
      << daemon().Facts().threads << " threads";
  const uint64_t dropped = daemon().Status().counters().at("dropped_chunks");
  if (evicts) {
    EXPECT_GT(dropped, 50u) << "the pools were too large";
  } else {
    EXPECT_EQ(dropped, 0u);
  }
  for (Worker& worker : workers_) worker.process->Kill();
  std::vector<Key> roots;
  for (size_t i = 0; i < chains_.size(); ++i) roots.push_back(survivor.keys(i)[0]);
  ASSERT_THAT(client_->Forget(model_, roots), IsOk());
  EXPECT_TRUE(Await([&] { return daemon().Status().sessions() == 1; }));
  EXPECT_TRUE(Await([&] { return daemon().UsedBytes() == 0; })) << daemon().UsedBytes();
  const v1::StatusReply status = daemon().Status();
  EXPECT_EQ(status.chunks(), 0u);
  EXPECT_EQ(status.leases(), 0u);
  EXPECT_EQ(status.reservations(), 0u);
}

TEST_F(WorkerKillsTest, WhatWasCommittedStaysAndNothingElseDoes) {
  Kill(250, SmallConfig("", "8MiB", "16MiB"), /*evicts=*/false);
}

TEST_F(WorkerKillsTest, WhatIsFoundIsRightWhilePoolsAreFull) {
  Kill(200,
       "memory: {segment_bytes: 64KiB, reserve_bytes: 0, huge_pages: false}\n"
       "pools:\n  - {name: 'hbm:0', kind: hbm, budget_bytes: 512KiB}\n"
       "  - {name: 'dram:0', kind: dram, budget_bytes: 768KiB}\n",
       /*evicts=*/true);
}

}  // namespace
}  // namespace kvtier::test_support
