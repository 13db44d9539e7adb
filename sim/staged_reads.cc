#include "sim/staged_reads.h"

#include <algorithm>
#include <array>
#include <vector>

namespace kvtier::sim {
namespace {

// What comes from one tier, a buffer's content after the other.
class TierStream {
 public:
  TierStream(size_t tier, uint64_t bytes, uint64_t buffer_bytes, SimTime now)
      : tier_(tier),
        buffer_bytes_(buffer_bytes),
        to_copy_(bytes),
        to_read_(bytes),
        free_{now, now} {}

  uint64_t Pieces() const { return (to_read_ + buffer_bytes_ - 1) / buffer_bytes_; }
  // Whether its next piece is there earlier than that of `other`.
  bool ReadsBefore(const TierStream& other) const { return NextReadAt() < other.NextReadAt(); }

  // The next piece is copied into the buffer that is, or comes, free.
  void Copy(SimulatedEngine& sim) {
    const uint64_t bytes = std::min(to_copy_, buffer_bytes_);
    if (bytes == 0) return;
    OperationCost cost = sim.machine().Read(tier_, bytes);
    cost.Add(sim.machine().OwnMemory(bytes));
    full_[copies_ % 2] = sim.DoFrom(free_[copies_ % 2], cost);
    to_copy_ -= bytes;
    ++copies_;
  }
  void Read(SimulatedEngine& sim) {
    const uint64_t bytes = std::min(to_read_, buffer_bytes_);
    free_[reads_ % 2] = sim.DoFrom(full_[reads_ % 2], sim.machine().OwnMemory(bytes));
    to_read_ -= bytes;
    ++reads_;
  }

 private:
  SimTime NextReadAt() const { return to_read_ == 0 ? kSimTimeMax : full_[reads_ % 2]; }

  size_t tier_;
  uint64_t buffer_bytes_;
  uint64_t to_copy_;
  uint64_t to_read_;
  uint64_t copies_ = 0;
  uint64_t reads_ = 0;
  std::array<SimTime, 2> free_;    // by buffer: when its last piece has been read
  std::array<SimTime, 2> full_{};  // by buffer: when its last piece has come
};

}  // namespace

void ReadStaged(SimulatedEngine& sim, const StagingBuffers& buffers,
                absl::Span<const uint64_t> bytes, uint64_t own_bytes) {
  OperationCost own = sim.machine().OwnMemory(own_bytes);
  std::vector<TierStream> streams;
  uint64_t pieces = 0;
  for (size_t tier = 0; tier < bytes.size(); ++tier) {
    if (bytes[tier] == 0) continue;
    if (sim.machine().kind(tier) == TierKind::kHbm) {
      own.Add(sim.machine().Read(tier, bytes[tier]));
      continue;
    }
    streams.emplace_back(tier, bytes[tier], buffers.buffer_bytes, sim.time());
    pieces += streams.back().Pieces();
    streams.back().Copy(sim);
  }
  // The rest of the GPU's own memory's work is done between: a port that waits for a copy before
  // it serves what comes next would lose that time.
  for (; pieces > 0; --pieces) {
    const auto next =
        std::min_element(streams.begin(), streams.end(),
                         [](const TierStream& a, const TierStream& b) { return a.ReadsBefore(b); });
    next->Copy(sim);
    OperationCost share = own;
    for (size_t i = 0; i < own.loads.size(); ++i) {
      share.loads[i].units /= pieces;
      own.loads[i].units -= share.loads[i].units;
    }
    sim.Do(share);
    next->Read(sim);
  }
  sim.Do(own);
}

}  // namespace kvtier::sim
