// Copies between pools that the CPU can address, by threads of its own, verified on the way.
#pragma once

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/base/mutex.h"
#include "tiering/memory/memory_pool.h"
#include "tiering/move/copy_engine.h"

namespace kvtier {

// Demand copies go before prefetches, those before migrations; copies of one priority in order of
// submission. A copy that has begun is finished. Submit and Poll take one lock for a few
// instructions and allocate nothing but what the caller's vector and error messages need.
class CpuCopyEngine : public CopyEngine {
 public:
  struct Options {
    std::vector<MemoryPool*> pools = {};  // by PoolId; must outlive the engine
    uint32_t threads = 1;                 // 1 to 64
    uint32_t in_flight_max = 1024;        // 1 to 65536
    // Called by a copying thread when completions are there and none were before: at least once
    // between a completion and the Poll that returns it. Must be thread-safe, and quick: the thread
    // waits for it.
    absl::AnyInvocable<void()> on_completion = nullptr;
  };
  // INVALID_ARGUMENT names the option, its value and its limits.
  static absl::StatusOr<std::unique_ptr<CpuCopyEngine>> Create(Options options);
  // Finishes what has begun; the rest is not copied and completes nowhere.
  ~CpuCopyEngine() override;

  uint32_t in_flight_max() const override { return static_cast<uint32_t>(entries_.size()); }
  absl::Status Submit(const CopyRequest& request) override;
  void Cancel(CopyTicket ticket) override;
  void Poll(std::vector<CopyCompletion>& completions) override;

  // Held: nothing new is begun, so that a test or a drain can say in which state copies are.
  void set_held(bool held);

 private:
  static constexpr int kPriorities = 3;
  static constexpr uint32_t kNone = 0xffffffffu;
  enum class State : uint8_t { kFree, kQueued, kRunning, kDone };

  struct Entry {
    CopyRequest request;
    std::byte* from = nullptr;
    std::byte* to = nullptr;
    absl::Status status;
    State state = State::kFree;
    // Neighbours in the list that holds the entry.
    uint32_t next = kNone;
    uint32_t previous = kNone;
  };
  struct List {
    uint32_t first = kNone;
    uint32_t last = kNone;
  };

  explicit CpuCopyEngine(Options options);
  void Run();
  absl::Status Copy(const Entry& entry) const;
  void Append(List& list, uint32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(List& list, uint32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the next entry to copy; kNone when there is none.
  uint32_t TakeQueued() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns whether the first completion is there now, which on_completion has to be told.
  bool Finish(uint32_t index, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<MemoryPool*> pools_;
  absl::AnyInvocable<void()> on_completion_ ABSL_GUARDED_BY(notify_mutex_);
  Mutex notify_mutex_;  // one call at a time

  Mutex mutex_;
  CondVar work_;
  // A fixed table: an entry's fields but `state` and the links belong to the thread that runs it.
  std::vector<Entry> entries_;
  List free_ ABSL_GUARDED_BY(mutex_);
  List queued_[kPriorities] ABSL_GUARDED_BY(mutex_);
  List done_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<CopyTicket, uint32_t> by_ticket_ ABSL_GUARDED_BY(mutex_);
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace kvtier
