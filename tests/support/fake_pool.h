// A MemoryPool of segment numbers without bytes, which can be told to refuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/base/check.h"
#include "tiering/memory/memory_pool.h"

namespace kvtier::test_support {

class FakePool : public MemoryPool {
 public:
  FakePool(Bytes segment_bytes, uint32_t segments_max)
      : segment_bytes_(segment_bytes), segments_max_(segments_max) {
    description_.name = "fake:0";
  }

  const PoolDescription& description() const override { return description_; }
  Bytes segment_bytes() const override { return segment_bytes_; }
  uint32_t segments_max() const override { return segments_max_; }
  // The smallest index that is free.
  absl::StatusOr<SegmentIndex> AddSegment() override {
    ++add_calls;
    if (segments.size() == segments_max_)
      return absl::ResourceExhaustedError("fake pool: segments_max is reached");
    if (segments.size() >= segments_that_fit)
      return absl::ResourceExhaustedError("fake pool: the machine is full");
    if (adds_before_failure == 0) return absl::ResourceExhaustedError("fake pool: told to fail");
    --adds_before_failure;
    uint32_t index = 0;
    while (segments.count(index) != 0) ++index;
    segments.insert(index);
    ++adds_of[index];
    return SegmentIndex(index);
  }
  void ReleaseSegment(SegmentIndex segment, TenantId owner) override {
    KVTIER_CHECK(segments.erase(segment.value()) == 1);
    if (mapped_outside.count(segment.value()) != 0) ++kept_for[owner];
    mapped_outside.erase(segment.value());
    released_by.push_back(owner);
  }
  uint64_t kept(TenantId owner) override {
    const auto found = kept_for.find(owner);
    return found == kept_for.end() ? 0 : found->second;
  }
  // Addresses that look like one reservation from 1 TiB on; nobody may follow them.
  std::byte* Address(SegmentIndex segment) const override {
    return reinterpret_cast<std::byte*>(
        (uintptr_t{1} << 40) + segment.value() * static_cast<uintptr_t>(segment_bytes_.count()));
  }

  std::set<uint32_t> segments;           // that exist
  uint64_t adds_before_failure = ~0ull;  // AddSegment calls that still succeed
  uint64_t segments_that_fit = ~0ull;    // what the machine has memory for
  uint64_t add_calls = 0;
  std::map<uint32_t, uint64_t> adds_of;  // by segment: how often it was added
  std::set<uint32_t> mapped_outside;     // segments that are kept when they are released
  std::map<TenantId, uint64_t> kept_for;
  std::vector<TenantId> released_by;  // one for each segment given back

 private:
  PoolDescription description_;
  const Bytes segment_bytes_;
  const uint32_t segments_max_;
};

}  // namespace kvtier::test_support
