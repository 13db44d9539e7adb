// A MemoryPool of a given size on any machine: without bytes, so that the engine can be run on a
// simulated terabyte, or with bytes on the heap, so that contents can be checked.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/memory/memory_pool.h"

namespace kvtier::sim {

// Deterministic; not thread-safe but for Address().
class SimPool : public MemoryPool {
 public:
  struct Options {
    std::string name = "dram:0";
    PoolKind kind = PoolKind::kDram;
    Bytes segment_bytes = MiB(64);  // a multiple of 4 KiB, above zero
    uint32_t segments_max = 1024;   // above zero
    bool with_bytes = false;        // segments have real memory; Address() is not null
    // Above zero: each so many bytes of a segment have a tag of 64 bits in place of contents.
    Bytes tag_bytes{0};
  };
  explicit SimPool(Options options);

  const PoolDescription& description() const override { return description_; }
  Bytes segment_bytes() const override { return options_.segment_bytes; }
  uint32_t segments_max() const override { return options_.segments_max; }
  absl::StatusOr<SegmentIndex> AddSegment() override;
  void ReleaseSegment(SegmentIndex segment, TenantId owner) override;
  std::byte* Address(SegmentIndex segment) const override;

  // With tags: what was written last to the slot at `offset`, a multiple of tag_bytes; 0: nothing.
  uint64_t Tag(SegmentIndex segment, Bytes offset) const;
  void SetTag(SegmentIndex segment, Bytes offset, uint64_t tag);
  // A fault: all tags turn into others, as when the memory lost its contents.
  void LoseContents();

  // Whether processes outside keep what is released from now on; false: they keep nothing any more.
  void KeepReleased(bool keep);
  uint64_t kept(TenantId owner) override;

  // The next `count` calls of AddSegment fail with `status`.
  void FailAdds(uint32_t count, absl::Status status);

  uint32_t segments() const { return segments_; }
  bool exists(SegmentIndex segment) const;

 private:
  struct FreeBytes {
    void operator()(std::byte* bytes) const;
  };
  struct Segment {
    bool exists = false;
    std::unique_ptr<std::byte, FreeBytes> bytes;
    std::vector<uint64_t> tags;
  };

  const Options options_;
  PoolDescription description_;
  std::vector<Segment> table_;      // by index
  std::vector<uint32_t> released_;  // indices to use again, last released first
  uint32_t used_max_ = 0;           // indices from here on were never used
  uint32_t segments_ = 0;
  bool keep_released_ = false;
  std::map<TenantId, uint64_t> kept_;
  uint32_t fail_adds_ = 0;
  absl::Status fail_status_;
};

}  // namespace kvtier::sim
