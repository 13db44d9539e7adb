#include "sim/sim_pool.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"

namespace kvtier::sim {

void SimPool::FreeBytes::operator()(std::byte* bytes) const { std::free(bytes); }

SimPool::SimPool(Options options) : options_(std::move(options)), table_(options_.segments_max) {
  KVTIER_CHECK(options_.segments_max > 0);
  KVTIER_CHECK(options_.segment_bytes > Bytes(0) && options_.segment_bytes.count() % 4096 == 0);
  description_.name = options_.name;
  description_.kind = options_.kind;
  description_.emulated = true;
}

absl::StatusOr<SegmentIndex> SimPool::AddSegment() {
  if (fail_adds_ > 0) {
    --fail_adds_;
    return fail_status_;
  }
  if (segments_ == options_.segments_max) {
    return absl::ResourceExhaustedError(absl::StrFormat("pool %s has all of its %d segments of %s",
                                                        options_.name, options_.segments_max,
                                                        FormatBytes(options_.segment_bytes)));
  }
  uint32_t index = used_max_;
  if (!released_.empty()) {
    index = released_.back();
    released_.pop_back();
  } else {
    ++used_max_;
  }
  Segment& segment = table_[index];
  if (options_.with_bytes) {
    const auto bytes = static_cast<size_t>(options_.segment_bytes.count());
    segment.bytes.reset(static_cast<std::byte*>(std::aligned_alloc(4096, bytes)));
    KVTIER_CHECK(segment.bytes != nullptr);
    std::memset(segment.bytes.get(), 0, bytes);
  }
  if (options_.tag_bytes > Bytes(0))
    segment.tags.assign(static_cast<size_t>(options_.segment_bytes / options_.tag_bytes), 0);
  segment.exists = true;
  ++segments_;
  return SegmentIndex(index);
}

void SimPool::ReleaseSegment(SegmentIndex segment, TenantId owner) {
  KVTIER_CHECK(exists(segment));
  if (keep_released_) ++kept_[owner];
  table_[segment.value()] = Segment{};
  released_.push_back(segment.value());
  --segments_;
}

std::byte* SimPool::Address(SegmentIndex segment) const {
  return exists(segment) ? table_[segment.value()].bytes.get() : nullptr;
}

uint64_t SimPool::Tag(SegmentIndex segment, Bytes offset) const {
  KVTIER_CHECK(exists(segment));
  return table_[segment.value()].tags[static_cast<size_t>(offset / options_.tag_bytes)];
}

void SimPool::SetTag(SegmentIndex segment, Bytes offset, uint64_t tag) {
  KVTIER_CHECK(exists(segment));
  table_[segment.value()].tags[static_cast<size_t>(offset / options_.tag_bytes)] = tag;
}

void SimPool::LoseContents() {
  for (Segment& segment : table_) {
    for (uint64_t& tag : segment.tags) tag = ~tag;
  }
}

void SimPool::KeepReleased(bool keep) {
  keep_released_ = keep;
  if (!keep) kept_.clear();
}

uint64_t SimPool::kept(TenantId owner) {
  const auto found = kept_.find(owner);
  return found == kept_.end() ? 0 : found->second;
}

void SimPool::FailAdds(uint32_t count, absl::Status status) {
  KVTIER_CHECK(!status.ok());
  fail_adds_ = count;
  fail_status_ = std::move(status);
}

bool SimPool::exists(SegmentIndex segment) const {
  return segment.value() < table_.size() && table_[segment.value()].exists;
}

}  // namespace kvtier::sim
