#include "tiering/host/cpu_copy_engine.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "proto/wire/block_copy.h"
#include "tiering/base/check.h"
#include "tiering/move/copy_request_check.h"

namespace kvtier {
namespace {

constexpr uint32_t kThreadsMax = 64;
constexpr uint32_t kInFlightMax = 65536;

}  // namespace

absl::StatusOr<std::unique_ptr<CpuCopyEngine>> CpuCopyEngine::Create(Options options) {
  if (options.threads < 1 || options.threads > kThreadsMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("copy engine: %d threads, must be 1 to %d", options.threads, kThreadsMax));
  }
  if (options.in_flight_max < 1 || options.in_flight_max > kInFlightMax) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "copy engine: %d copies in flight, must be 1 to %d", options.in_flight_max, kInFlightMax));
  }
  const uint32_t threads = options.threads;
  std::unique_ptr<CpuCopyEngine> engine(new CpuCopyEngine(std::move(options)));
  for (uint32_t i = 0; i < threads; ++i) {
    engine->threads_.emplace_back([raw = engine.get()] { raw->Run(); });
  }
  return engine;
}

CpuCopyEngine::CpuCopyEngine(Options options)
    : pools_(std::move(options.pools)),
      on_completion_(std::move(options.on_completion)),
      entries_(options.in_flight_max) {
  MutexLock lock(mutex_);
  by_ticket_.reserve(entries_.size());
  for (uint32_t index = 0; index < entries_.size(); ++index) Append(free_, index);
}

CpuCopyEngine::~CpuCopyEngine() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    work_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

absl::Status CpuCopyEngine::Submit(const CopyRequest& request) {
  if (absl::Status status = CheckCopyRequest(request, pools_); !status.ok()) return status;
  std::byte* from = pools_[request.source.pool.value()]->Address(request.source.segment);
  std::byte* to = pools_[request.destination.pool.value()]->Address(request.destination.segment);
  if (from == nullptr || to == nullptr) {
    const SlotAddress& missing = from == nullptr ? request.source : request.destination;
    return absl::InvalidArgumentError(absl::StrFormat(
        "copy %s: pool %s has no segment %d", from == nullptr ? "source" : "destination",
        pools_[missing.pool.value()]->description().name, missing.segment.value()));
  }
  MutexLock lock(mutex_);
  if (free_.first == kNone) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%d copies are in flight, the limit", entries_.size()));
  }
  const uint32_t index = free_.first;
  if (!by_ticket_.try_emplace(request.ticket, index).second) {
    return absl::InvalidArgumentError(
        absl::StrFormat("copy ticket %d is in flight already", request.ticket.value()));
  }
  Remove(free_, index);
  Entry& entry = entries_[index];
  entry.request = request;
  entry.from = from + request.source.offset.count();
  entry.to = to + request.destination.offset.count();
  entry.state = State::kQueued;
  Append(queued_[static_cast<int>(request.priority)], index);
  work_.notify_one();
  return absl::OkStatus();
}

void CpuCopyEngine::Cancel(CopyTicket ticket) {
  bool notify = false;
  {
    MutexLock lock(mutex_);
    const auto found = by_ticket_.find(ticket);
    if (found == by_ticket_.end()) return;
    const uint32_t index = found->second;
    Entry& entry = entries_[index];
    if (entry.state != State::kQueued) return;
    Remove(queued_[static_cast<int>(entry.request.priority)], index);
    notify = Finish(index,
                    absl::CancelledError(absl::StrFormat("copy %d was cancelled", ticket.value())));
  }
  if (notify) {
    MutexLock lock(notify_mutex_);
    if (on_completion_) on_completion_();
  }
}

void CpuCopyEngine::Poll(std::vector<CopyCompletion>& completions) {
  MutexLock lock(mutex_);
  while (done_.first != kNone) {
    const uint32_t index = done_.first;
    Remove(done_, index);
    Entry& entry = entries_[index];
    by_ticket_.erase(entry.request.ticket);
    completions.push_back({.ticket = entry.request.ticket, .status = std::move(entry.status)});
    entry.status = absl::OkStatus();
    entry.state = State::kFree;
    Append(free_, index);
  }
}

void CpuCopyEngine::set_held(bool held) {
  MutexLock lock(mutex_);
  held_ = held;
  work_.notify_all();
}

void CpuCopyEngine::Run() {
  mutex_.Lock();
  while (!stopping_) {
    const uint32_t index = TakeQueued();
    if (index == kNone) {
      work_.wait(mutex_);
      continue;
    }
    mutex_.Unlock();
    absl::Status status = Copy(entries_[index]);
    mutex_.Lock();
    if (Finish(index, std::move(status))) {
      mutex_.Unlock();
      {
        MutexLock notify_lock(notify_mutex_);
        if (on_completion_) on_completion_();
      }
      mutex_.Lock();
    }
  }
  mutex_.Unlock();
}

absl::Status CpuCopyEngine::Copy(const Entry& entry) const {
  const CopyRequest& request = entry.request;
  const uint64_t checksum =
      wire::CopyWithChecksum(entry.to, entry.from, static_cast<size_t>(request.bytes.count()));
  if (checksum == request.checksum) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat(
      "copy %d of %d bytes from pool %s segment %d offset %d: checksum %016x, expected %016x",
      request.ticket.value(), request.bytes.count(),
      pools_[request.source.pool.value()]->description().name, request.source.segment.value(),
      request.source.offset.count(), checksum, request.checksum));
}

void CpuCopyEngine::Append(List& list, uint32_t index) {
  Entry& entry = entries_[index];
  entry.next = kNone;
  entry.previous = list.last;
  (list.last == kNone ? list.first : entries_[list.last].next) = index;
  list.last = index;
}

void CpuCopyEngine::Remove(List& list, uint32_t index) {
  const Entry& entry = entries_[index];
  (entry.previous == kNone ? list.first : entries_[entry.previous].next) = entry.next;
  (entry.next == kNone ? list.last : entries_[entry.next].previous) = entry.previous;
}

uint32_t CpuCopyEngine::TakeQueued() {
  if (held_) return kNone;
  for (List& list : queued_) {
    const uint32_t index = list.first;
    if (index == kNone) continue;
    Remove(list, index);
    entries_[index].state = State::kRunning;
    return index;
  }
  return kNone;
}

bool CpuCopyEngine::Finish(uint32_t index, absl::Status status) {
  entries_[index].status = std::move(status);
  entries_[index].state = State::kDone;
  const bool first = done_.first == kNone;
  Append(done_, index);
  return first;
}

}  // namespace kvtier
