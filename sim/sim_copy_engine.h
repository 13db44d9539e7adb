// A CopyEngine without threads: copies take simulated time or a number of polls, finish in a seeded
// order, and fail where a test says so.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "sim/sim_machine.h"
#include "sim/sim_pool.h"
#include "tiering/base/clock.h"
#include "tiering/base/rng.h"
#include "tiering/memory/memory_pool.h"
#include "tiering/move/copy_engine.h"

namespace kvtier::sim {

// A link carries one copy at a time: each takes latency + bytes / bandwidth. Waiting copies go by
// priority, then in order of submission.
struct SimLink {
  absl::Duration latency = absl::Microseconds(10);
  BytesPerSecond bandwidth{25e9};
};

// With a machine, a copy takes the machine's ports (sim_machine.h) as any other operation does.
// Copies are looked at in each Poll, demand first, then prefetches, then migrations, each in order
// of submission. One starts if it ends within the time that is open for copies, or not long behind
// it: what nobody waits for must not delay what comes next. The first one always does.
//
// Deterministic for a given seed and sequence of calls; not thread-safe. Bytes are read and written
// when the copy completes, as late as the seam allows, so that a caller who frees or changes a slot
// too early is caught. Pools with tags copy a slot's tag, which has to be the checksum. Pools
// without both are copied in name only, and no checksum is compared.
class SimCopyEngine : public CopyEngine {
 public:
  struct Options {
    std::vector<MemoryPool*> pools = {};  // by PoolId; must outlive the engine
    uint64_t seed = 1;
    uint32_t in_flight_max = 256;
    // With a clock, copies take the link's time. Without one, each completes in the n-th Poll after
    // its submission, n drawn from [polls_min, polls_max], polls_min >= 1. The clock must outlive
    // the engine.
    Clock* clock = nullptr;
    uint32_t polls_min = 1;
    uint32_t polls_max = 3;
    SimLink link = {};                                        // where `links` has no entry
    std::map<std::pair<PoolId, PoolId>, SimLink> links = {};  // by (source, destination)
    bool reorder = true;  // completions that one Poll returns come in a drawn order
    // One in this many cancelled copies completes as if it had not been cancelled; 0: none.
    uint32_t cancel_ignored_one_in = 4;
    // With one, copies take its ports, and `link`, `links` and polls do not count. Its tiers are
    // the pools. Must outlive the engine, as `tagged`: pools whose slots have tags, by PoolId.
    SimMachine* machine = nullptr;
    std::vector<SimPool*> tagged = {};
  };
  explicit SimCopyEngine(Options options);

  uint32_t in_flight_max() const override { return options_.in_flight_max; }
  absl::Status Submit(const CopyRequest& request) override;
  void Cancel(CopyTicket ticket) override;
  void Poll(std::vector<CopyCompletion>& completions) override;

  // The `nth` submission from now (0: the next one) completes with `status`; its destination is
  // filled with garbage where there are bytes.
  void FailCopy(uint64_t nth, absl::Status status);
  // One in `n` copies, drawn, completes with `status`; 0 ends it.
  void FailOneIn(uint64_t n, absl::Status status);
  // The `nth` submission from now takes this much longer (with a clock) or this many more polls
  // (without).
  void DelayCopy(uint64_t nth, absl::Duration longer, uint32_t more_polls);
  // With a machine: this time is open for copies from now on; none is at first. What has started
  // before must have ended.
  void Open(SimTime from, SimTime until);
  // With a machine: by when all copies that have started in the open time will have ended; 0: none
  // has.
  SimTime started_until() const { return started_until_; }
  // While held, nothing completes, cancelled copies included.
  void set_held(bool held) { held_ = held; }

  uint32_t in_flight() const { return static_cast<uint32_t>(copies_.size()); }
  uint64_t submitted() const { return submitted_; }
  Bytes bytes_copied() const { return bytes_copied_; }
  // Copies in flight in the order of submission, for assertions about what was asked for.
  std::vector<CopyRequest> InFlight() const;

 private:
  struct Copy {
    CopyRequest request;
    absl::Time submitted;
    uint32_t polls_left = 0;
    absl::Duration longer;
    absl::Time finish = absl::InfiniteFuture();  // set once the link has started it
    SimTime ends = 0;                            // on a machine; 0: it has not started
    bool cancelled = false;
    bool done = false;
    absl::Status injected;
  };
  struct Fault {
    absl::Status status;
    absl::Duration longer;
    uint32_t more_polls = 0;
  };

  // Marks what has finished by simulated time `now`.
  void RunLinks(absl::Time now);
  void RunLink(const std::pair<PoolId, PoolId>& ends, absl::Time now);
  // Marks what has finished on the machine by then, and starts what can start by then.
  void RunMachine(SimTime now);
  absl::Status Execute(const Copy& copy);
  absl::Status CopyTag(const CopyRequest& request, bool garbage);

  Options options_;
  Rng rng_;
  std::vector<Copy> copies_;                 // in order of submission
  std::vector<Copy> finished_;               // empty between polls
  absl::flat_hash_set<CopyTicket> tickets_;  // theirs
  std::map<std::pair<PoolId, PoolId>, absl::Time> link_free_;
  std::map<uint64_t, Fault> faults_;  // by number of submission
  uint64_t fail_one_in_ = 0;
  absl::Status fail_one_in_status_;
  uint64_t submitted_ = 0;
  Bytes bytes_copied_;
  bool held_ = false;
  SimTime open_from_ = 0, open_until_ = 0;
  SimTime started_until_ = 0;
};

}  // namespace kvtier::sim
