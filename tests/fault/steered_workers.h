// Workers (kill_worker) that go from point to point as a test tells them, each standing still at
// its point with what it holds there, and an oracle of what is stored and held.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kvtier/client.h"
#include "tests/support/child_process.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {

// Workers share chains: they meet on them, extend each other's and race for them.
struct SharedChain {
  size_t chunks = 0;
  uint32_t tail_tokens = 0;
  std::vector<Key> keys;
  size_t known = 0;     // chunks committed for certain
  size_t possible = 0;  // may be committed: a Commit was sent
};

// Where a worker is in its task, and what it holds there.
struct Standing {
  std::string point;  // empty: it has no task
  size_t chain = 0;
  size_t first = 0, count = 0;  // chunks that it reserved
  size_t leased = 0;            // chunks of its lease
  bool by_rank = false;         // commits the planes of rank 0 first
  size_t existing_min = 0;      // of its commit: at least so many were there already
  size_t existing_max = 0;

  bool has_reservation() const;
  bool in_section() const { return point == "entered" || point == "inside_section"; }
  bool has_lease() const {
    return leased > 0 && (point == "leased" || in_section() || point == "ring_full");
  }
  bool holds_something() const { return has_reservation() || has_lease(); }
  // Chunks of the chain that nobody may drop meanwhile.
  size_t pinned() const { return has_lease() ? leased : has_reservation() ? first : 0; }
};

// Not thread-safe. Errors say that a worker failed, or that it met what the oracle rules out.
class SteeredWorkers {
 public:
  struct Options {
    std::string socket;
    Client* client = nullptr;  // forgets chains, so that there is always something to store
    Model model;
    size_t workers = 3;
    size_t chains = 40;
    size_t chunks_max = 5;  // of a chain
    bool in_place = true;   // workers share memory with the daemon
    bool evicts = false;    // what is known to be committed may have been dropped since
    uint64_t seed = 0;
  };
  explicit SteeredWorkers(Options options);

  size_t count() const { return workers_.size(); }
  const Standing& standing(size_t worker) const { return workers_[worker].standing; }
  const std::vector<SharedChain>& chains() const { return chains_; }
  // Chunks of which workers were told that they exist already.
  uint64_t existing_chunks() const { return existing_chunks_; }
  // Whether another worker stands somewhere in a task on the same chain.
  bool SharesChain(size_t worker) const;

  absl::Status Start(size_t worker);
  // The oracle's Standing stays as it was when the worker died, until it is started again.
  void Kill(size_t worker) { workers_[worker].process->Kill(); }
  void End() { workers_.clear(); }

  // Lets the worker end its task, if it has one, and brings it to the point in a new one, there
  // holding what one holds at that point. Every other time the new task is on a chain for which
  // another worker has room reserved, if there is one.
  absl::Status BringTo(size_t worker, const std::string& point);
  // Tells the worker to go on, without waiting for it.
  absl::Status GoOn(size_t worker);
  // Lets the workers end their tasks, all of them at work at the same time.
  absl::Status Finish(const std::vector<size_t>& workers);

 private:
  struct Worker {
    std::unique_ptr<ChildProcess> process;
    Standing standing;
  };
  absl::StatusOr<std::string> Line(Worker& worker);
  // One line of the worker, taken into account.
  absl::Status Follow(Worker& worker);
  absl::Status CheckExisting(const Standing& standing, size_t existing);
  // A chain for a task that shall reserve, or only read.
  absl::StatusOr<size_t> ChooseChain(size_t worker, bool reserves);
  bool InUse(size_t chain, size_t except) const;

  const Options options_;
  Rng rng_;
  std::vector<SharedChain> chains_;
  std::vector<Worker> workers_;
  uint64_t existing_chunks_ = 0;
};

}  // namespace kvtier::test_support
