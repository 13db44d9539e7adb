#include "tiering/host/host_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {
namespace {

constexpr Bytes kPageBytes = KiB(4);
constexpr Bytes kHugePageBytes = MiB(2);
constexpr uint32_t kPrefaultThreadsMax = 64;
// The block table addresses segments with fewer bits than this allows; a descriptor each is the
// real limit.
constexpr int64_t kSegmentsMax = 1 << 20;

absl::Status CheckOptions(const std::string& name, const HostPoolOptions& options) {
  if (options.reserve == nullptr) {
    return absl::InvalidArgumentError(absl::StrFormat("pool %s has no memory reserve", name));
  }
  if (options.segment_bytes < kPageBytes ||
      options.segment_bytes.count() % kPageBytes.count() != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("pool %s: segments of %d bytes, must be a multiple of %d above zero", name,
                        options.segment_bytes.count(), kPageBytes.count()));
  }
  const int64_t segments = options.budget_bytes / options.segment_bytes;
  if (segments < 1 || segments > kSegmentsMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("pool %s: a budget of %s makes %d segments of %s, must be 1 to %d", name,
                        FormatBytes(options.budget_bytes), segments,
                        FormatBytes(options.segment_bytes), kSegmentsMax));
  }
  if (options.prefault_threads < 1 || options.prefault_threads > kPrefaultThreadsMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("pool %s: %d prefault threads, must be 1 to %d", name,
                        options.prefault_threads, kPrefaultThreadsMax));
  }
  return absl::OkStatus();
}

absl::Status CheckNode(const std::string& name, int node, const Topology& topology) {
  if (node < 0) return absl::OkStatus();
  for (const NumaNode& candidate : topology.nodes) {
    if (candidate.os_index != node) continue;
    if (!candidate.is_gpu_memory) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat(
        "pool %s: NUMA node %d is a GPU's memory; host pools must not use it", name, node));
  }
  const auto print = [](std::string* out, const NumaNode& n) {
    absl::StrAppendFormat(out, "%d", n.os_index);
  };
  return absl::InvalidArgumentError(
      absl::StrFormat("pool %s: there is no NUMA node %d; this machine has: %s", name, node,
                      absl::StrJoin(topology.nodes, ", ", print)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HostPool>> HostPool::CreateDram(int number,
                                                               const HostPoolOptions& options,
                                                               const Topology& topology) {
  return Create({.name = absl::StrFormat("dram:%d", number), .kind = PoolKind::kDram}, options,
                topology);
}

absl::StatusOr<std::unique_ptr<HostPool>> HostPool::CreateEmulatedHbm(
    int number, const HostPoolOptions& options, const Topology& topology) {
  return Create(
      {.name = absl::StrFormat("hbm:%d", number), .kind = PoolKind::kHbm, .emulated = true},
      options, topology);
}

absl::StatusOr<std::unique_ptr<HostPool>> HostPool::Create(PoolDescription description,
                                                           const HostPoolOptions& options,
                                                           const Topology& topology) {
  KVTIER_RETURN_IF_ERROR(CheckOptions(description.name, options));
  KVTIER_RETURN_IF_ERROR(CheckNode(description.name, options.numa_node, topology));
  const auto segments = static_cast<uint32_t>(options.budget_bytes / options.segment_bytes);

  Placement placement;
  if (options.numa_node >= 0) {
    if (topology.is_this_system) placement.binding = ProbeNodeBinding(options.numa_node);
    if (placement.binding != NodeBinding::kBound) {
      placement.note =
          absl::StrFormat("NUMA node %d: %s", options.numa_node,
                          !topology.is_this_system ? "the topology is not this system's"
                          : placement.binding == NodeBinding::kPreferred
                              ? "binding was refused, it is only preferred"
                              : "binding was refused");
    }
  }
  const int bound_node = placement.binding == NodeBinding::kNone ? -1 : options.numa_node;
  placement.huge_pages =
      options.huge_pages && options.segment_bytes.count() % kHugePageBytes.count() == 0 &&
      options.reserve->ClaimHugePages(bound_node, options.segment_bytes * segments);
  if (placement.huge_pages && options.sealed) {
    const absl::Status seals =
        options.check_huge_seals != nullptr ? options.check_huge_seals() : CheckSealsHold(true);
    if (!seals.ok()) {
      placement.page_note = std::string(seals.message());
      placement.huge_pages = false;
      options.reserve->ReleaseHugePages(bound_node, options.segment_bytes * segments);
    }
  }
  std::optional<HolderWatch> holders;
  if (options.sealed) {
    absl::Status watched = options.check_holder_watch != nullptr
                               ? options.check_holder_watch()
                               : CheckHolderWatch(placement.huge_pages);
    absl::StatusOr<HolderWatch> made = HolderWatch::Create();
    watched.Update(made.status());
    if (watched.ok()) holders = *std::move(made);
    placement.holder_note = std::string(watched.message());
  }
  description.numa_node = bound_node;
  description.page_bytes = placement.huge_pages ? kHugePageBytes : kPageBytes;

  std::unique_ptr<HostPool> pool(
      new HostPool(std::move(description), options, segments, std::move(placement)));
  {
    MutexLock lock(pool->mutex_);
    pool->holders_ = std::move(holders);
  }
  for (uint32_t i = 0; i < options.prefault_threads; ++i) {
    pool->threads_.emplace_back([raw = pool.get()] { raw->Run(); });
  }
  return pool;
}

HostPool::HostPool(PoolDescription description, const HostPoolOptions& options,
                   uint32_t segments_max, Placement placement)
    : description_(std::move(description)),
      options_(options),
      segments_max_(segments_max),
      placement_(std::move(placement)),
      addresses_(segments_max),
      active_(segments_max) {
  free_indices_.reserve(segments_max);
  for (uint32_t index = segments_max; index > 0; --index) free_indices_.push_back(index - 1);
}

HostPool::~HostPool() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
  MutexLock lock(mutex_);
  for (auto& mapping : active_) {
    if (mapping != nullptr) DeleteMapping(std::move(mapping));
  }
  for (auto* mappings : {&ready_, &released_}) {
    for (auto& mapping : *mappings) DeleteMapping(std::move(mapping));
  }
  if (placement_.huge_pages) {
    options_.reserve->ReleaseHugePages(description_.numa_node,
                                       options_.segment_bytes * segments_max_);
  }
}

absl::StatusOr<std::unique_ptr<HostPool::Mapping>> HostPool::NewMapping() const {
  const int node = description_.numa_node;
  // Huge pages were taken from the machine when they were reserved; the reserve does not see them.
  if (!placement_.huge_pages) {
    KVTIER_RETURN_IF_ERROR(
        options_.reserve->Claim(description_.name, node, options_.segment_bytes));
  }
  auto segment = HostSegment::Create({.name = "kvtier:" + description_.name,
                                      .bytes = options_.segment_bytes,
                                      .huge_pages = placement_.huge_pages,
                                      .binding = placement_.binding,
                                      .node = node});
  absl::Status status = segment.status();
  auto mapping = std::make_unique<Mapping>();
  if (status.ok()) {
    mapping->segment = *std::move(segment);
    if (placement_.huge_pages) {
      // Touching a huge page that is not there kills the process, so none is handed out before it
      // is.
      status = Populate(*mapping, Bytes(0), options_.segment_bytes);
      mapping->next = mapping->populated = options_.segment_bytes;
    }
  }
  if (status.ok()) return mapping;
  if (!placement_.huge_pages) options_.reserve->Settle(node, options_.segment_bytes);
  // Whatever the kernel's reason, to the caller the pool cannot grow now.
  return absl::ResourceExhaustedError(
      absl::StrFormat("pool %s cannot grow by %s: %s", description_.name,
                      FormatBytes(options_.segment_bytes), status.message()));
}

absl::Status HostPool::Populate(Mapping& mapping, Bytes offset, Bytes bytes) const {
  if (options_.populate) return options_.populate(*mapping.segment, offset, bytes);
  return mapping.segment->Populate(offset, bytes);
}

void HostPool::DeleteMapping(std::unique_ptr<Mapping> mapping) const {
  const Bytes untouched = options_.segment_bytes - mapping->populated;
  mapping.reset();
  if (!placement_.huge_pages) options_.reserve->Settle(description_.numa_node, untouched);
}

absl::StatusOr<SegmentIndex> HostPool::AddSegment() {
  MutexLock lock(mutex_);
  if (free_indices_.empty()) {
    return absl::ResourceExhaustedError(absl::StrFormat("pool %s has all of its %d segments of %s",
                                                        description_.name, segments_max_,
                                                        FormatBytes(options_.segment_bytes)));
  }
  growth_ = absl::OkStatus();
  std::unique_ptr<Mapping> mapping = TakeReady();
  if (mapping == nullptr && !prefault_.ok()) {
    changed_.notify_all();  // growth_ is OK again, so that they try
    return absl::ResourceExhaustedError(
        absl::StrFormat("pool %s cannot grow by %s: %s", description_.name,
                        FormatBytes(options_.segment_bytes), prefault_.message()));
  }
  // At the limit without a ready one, a thread is making or unmaking a mapping: a few system calls,
  // which take milliseconds where they free the pages of a large segment.
  while (mapping == nullptr && mapped_ == segments_max_) {
    changed_.wait(mutex_);
    mapping = TakeReady();
  }
  if (mapping == nullptr) {
    ++mapped_;
    mutex_.Unlock();
    absl::StatusOr<std::unique_ptr<Mapping>> made = NewMapping();
    mutex_.Lock();
    if (!made.ok()) {
      --mapped_;
      growth_ = made.status();
      return made.status();
    }
    mapping = *std::move(made);
  }
  const uint32_t index = free_indices_.back();
  free_indices_.pop_back();
  addresses_[index].store(mapping->segment->address(), std::memory_order_release);
  active_[index] = std::move(mapping);
  changed_.notify_all();
  return SegmentIndex(index);
}

void HostPool::ReleaseSegment(SegmentIndex segment, TenantId owner) {
  MutexLock lock(mutex_);
  const uint32_t index = segment.value();
  KVTIER_CHECK(index < segments_max_ && active_[index] != nullptr);
  addresses_[index].store(nullptr, std::memory_order_release);
  free_indices_.push_back(index);
  if (const std::optional<int> watch = active_[index]->watch; watch.has_value()) {
    kept_.emplace(*watch, owner);
    ++kept_counts_[owner];
  }
  // Its bytes may be a tenant's. Fresh pages come zeroed, and cost no more than zeroing these.
  released_.push_back(std::move(active_[index]));
  growth_ = absl::OkStatus();
  changed_.notify_all();
}

std::byte* HostPool::Address(SegmentIndex segment) const {
  return segment.value() < segments_max_
             ? addresses_[segment.value()].load(std::memory_order_acquire)
             : nullptr;
}

HostPoolStats HostPool::stats() const {
  MutexLock lock(mutex_);
  HostPoolStats stats;
  stats.segments_active = segments_max_ - static_cast<uint32_t>(free_indices_.size());
  stats.segments_ready = static_cast<uint32_t>(ready_.size());
  stats.mapped_bytes =
      options_.segment_bytes *
      static_cast<int64_t>(stats.segments_active + stats.segments_ready + released_.size());
  for (const auto& mapping : active_) {
    if (mapping != nullptr) stats.prefaulted_bytes += mapping->populated;
  }
  for (const auto* mappings : {&ready_, &released_}) {
    for (const auto& mapping : *mappings) stats.prefaulted_bytes += mapping->populated;
  }
  stats.binding = placement_.binding;
  stats.binding_note = placement_.note;
  stats.page_note = placement_.page_note;
  stats.holder_note = placement_.holder_note;
  stats.growth = growth_;
  return stats;
}

bool HostPool::AwaitPrefault(absl::Duration timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(mutex_);
  while (!Idle()) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) return Idle();
  }
  return true;
}

}  // namespace kvtier
