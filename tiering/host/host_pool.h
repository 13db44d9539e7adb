// Pools in host memory: a NUMA node's DRAM, and HBM emulated on machines without a GPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tiering/base/mutex.h"
#include "tiering/host/holder_watch.h"
#include "tiering/host/host_segment.h"
#include "tiering/host/memory_reserve.h"
#include "tiering/host/owned_fd.h"
#include "tiering/memory/memory_pool.h"
#include "tiering/topology/topology.h"

namespace kvtier {

struct HostPoolOptions {
  Bytes budget_bytes{};           // most that the pool may ever map; rounded down to whole segments
  Bytes segment_bytes = MiB(64);  // a multiple of 4 KiB (of 2 MiB to get huge pages)
  int numa_node = -1;             // -1: not bound
  std::shared_ptr<MemoryReserve> reserve = nullptr;  // shared by all pools of the process
  uint32_t ready_segments = 2;    // kept mapped and pre-faulted ahead of use; part of the budget
  uint32_t prefault_threads = 1;  // 1 to 64
  bool huge_pages = true;         // use them when enough for the whole budget are reserved and free
  bool sealed = false;            // only pages that seals hold for: other processes get segments
  // Whether they do for huge pages; null: CheckSealsHold.
  std::function<absl::Status()> check_huge_seals = nullptr;
  // Whether what others keep of a sealed pool can be watched; null: CheckHolderWatch.
  std::function<absl::Status()> check_holder_watch = nullptr;
  // Pre-faults a range of a segment; null: HostSegment::Populate. For tests without enough memory.
  std::function<absl::Status(HostSegment& segment, Bytes offset, Bytes bytes)> populate = nullptr;
};

// What a pool holds at one moment.
struct HostPoolStats {
  uint32_t segments_active = 0;  // handed out
  uint32_t segments_ready = 0;   // waiting to be handed out
  Bytes mapped_bytes;            // of both, and of those on their way back to the machine
  Bytes prefaulted_bytes;        // of those
  NodeBinding binding = NodeBinding::kNone;
  std::string binding_note;  // why the binding is weaker than asked for; empty: it is not
  std::string page_note;     // why huge pages that are there are not used; empty: no such
  std::string holder_note;   // why nobody knows what others keep; empty: kept() says it
  absl::Status growth;       // why the pool last could not grow or pre-fault; OK: it could
};

// Segments are pre-faulted by threads of the pool's own while others use it, and a few are kept
// ready. What was in a released segment is gone: its memory goes back to the machine, and nothing
// of it is handed out again. The pool never maps more than segments_max() segments, and grows only
// while MemoryReserve agrees. AddSegment and ReleaseSegment: one thread at a time. The rest is
// thread-safe.
//
// A segment that was opened for other processes may be kept by them after its release. Its memory
// does not count as the pool's once that has unmapped it, so that readers who are slow to do so do
// not stop it; it counts for who had it (kept()), from its release until nobody has it.
//
// Touching a page that the machine has no memory for ends the process with SIGBUS. So a mapping
// that could not be pre-faulted is never handed out (again), and from then on, until one could be,
// AddSegment hands out only what is pre-faulted wholly; when nothing is, it answers
// RESOURCE_EXHAUSTED at once and has the pool's threads try again.
class HostPool : public MemoryPool {
 public:
  // "dram:<number>". INVALID_ARGUMENT names the option, its value and its limits. A node that
  // cannot be bound to is no error: HostPoolStats says so. Nothing is bound unless `topology` is
  // this system's.
  static absl::StatusOr<std::unique_ptr<HostPool>> CreateDram(int number,
                                                              const HostPoolOptions& options,
                                                              const Topology& topology);
  // "hbm:<number>", described as emulated.
  static absl::StatusOr<std::unique_ptr<HostPool>> CreateEmulatedHbm(int number,
                                                                     const HostPoolOptions& options,
                                                                     const Topology& topology);
  ~HostPool() override;

  const PoolDescription& description() const override { return description_; }
  Bytes segment_bytes() const override { return options_.segment_bytes; }
  uint32_t segments_max() const override { return segments_max_; }
  absl::StatusOr<SegmentIndex> AddSegment() override;
  void ReleaseSegment(SegmentIndex segment, TenantId owner) override;
  uint64_t kept(TenantId owner) override;
  std::byte* Address(SegmentIndex segment) const override;

  // The memfd behind a segment that exists, owned by the pool, valid until ReleaseSegment.
  int fd(SegmentIndex segment) const;
  // From now on nobody but the pool, and who has mapped it for writing before, can write to the
  // segment, which exists. FAILED_PRECONDITION: who had it for writing keeps it from being sealed.
  absl::Status Seal(SegmentIndex segment);
  bool sealed(SegmentIndex segment) const;
  // To be sent to a client, and closed then: of a sealed segment for reading, of one that is not
  // sealed for writing (FAILED_PRECONDITION: somebody sealed it). The caller sees to it that the
  // segment is not released meanwhile. RESOURCE_EXHAUSTED: the user has no watch left for it.
  absl::StatusOr<OwnedFd> OpenForReading(SegmentIndex segment);
  absl::StatusOr<OwnedFd> OpenForWriting(SegmentIndex segment);

  HostPoolStats stats() const;

  // Returns true once everything mapped is pre-faulted and as many segments are ready as can be;
  // false when `timeout` passes before.
  bool AwaitPrefault(absl::Duration timeout) const;

 private:
  struct Mapping {
    std::unique_ptr<HostSegment> segment;
    Bytes next;  // up to here somebody has populated or is populating
    Bytes populated;
    int populating = 0;   // threads at work on it
    bool failed = false;  // not all of it could be pre-faulted
    // Of holders_, since it was first opened to others.
    std::optional<int> watch = std::nullopt;
  };
  struct Placement {
    bool huge_pages = false;
    NodeBinding binding = NodeBinding::kNone;
    std::string note;
    std::string page_note;
    std::string holder_note;
  };

  static absl::StatusOr<std::unique_ptr<HostPool>> Create(PoolDescription description,
                                                          const HostPoolOptions& options,
                                                          const Topology& topology);
  HostPool(PoolDescription description, const HostPoolOptions& options, uint32_t segments_max,
           Placement placement);

  // A mapping of a segment's size, claimed from the reserve. Takes system calls, so without the
  // lock.
  absl::StatusOr<std::unique_ptr<Mapping>> NewMapping() const;
  absl::Status Populate(Mapping& mapping, Bytes offset, Bytes bytes) const;
  void DeleteMapping(std::unique_ptr<Mapping> mapping) const;
  // The descriptor of a segment that exists, which others may have from now on.
  absl::StatusOr<int> OpenToOthers(SegmentIndex segment) ABSL_LOCKS_EXCLUDED(mutex_);
  void Run();
  // Each does one piece of background work, if there is any, and says whether there was. They give
  // the lock up meanwhile.
  bool PopulateOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool UnmapOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool PrepareOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A mapping that nobody populates and that is to go; null when there is none.
  std::unique_ptr<Mapping> TakeUnwanted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Mapping* NextToPopulate() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A ready mapping that may be handed out, the first in line; null when there is none.
  std::unique_ptr<Mapping> TakeReady() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is kept ready now: at least one while it takes a success to hand out others.
  size_t ReadyWanted() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const PoolDescription description_;
  const HostPoolOptions options_;
  const uint32_t segments_max_;
  const Placement placement_;
  std::vector<std::atomic<std::byte*>> addresses_;  // by index; null: no such segment

  mutable Mutex mutex_;
  mutable CondVar changed_;                                               // any of what follows
  std::vector<std::unique_ptr<Mapping>> active_ ABSL_GUARDED_BY(mutex_);  // by index
  std::vector<uint32_t> free_indices_ ABSL_GUARDED_BY(mutex_);            // lowest last
  std::deque<std::unique_ptr<Mapping>> ready_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::unique_ptr<Mapping>> released_ ABSL_GUARDED_BY(mutex_);  // to be unmapped
  std::optional<HolderWatch> holders_ ABSL_GUARDED_BY(mutex_);
  // Released and not ended: by the number of holders_, and how many of each owner.
  absl::flat_hash_map<int, TenantId> kept_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<TenantId, uint64_t> kept_counts_ ABSL_GUARDED_BY(mutex_);
  // Mappings that exist, are being made or being unmade; at most segments_max_.
  uint32_t mapped_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t busy_ ABSL_GUARDED_BY(mutex_) = 0;  // threads in the middle of a piece of work
  // Set when the machine refused; cleared by the next AddSegment or ReleaseSegment, so nobody asks
  // in a loop.
  absl::Status growth_ ABSL_GUARDED_BY(mutex_);
  // The last pre-fault that failed, until another mapping is pre-faulted wholly; OK: none.
  absl::Status prefault_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace kvtier
