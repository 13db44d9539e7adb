#include "sim/sim_copy_engine.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "proto/wire/checksum.h"
#include "tiering/base/check.h"
#include "tiering/move/copy_request_check.h"

namespace kvtier::sim {
namespace {

// The time that is open may become longer by this part of itself for copies.
constexpr SimTime kLongerBy = 32;

}  // namespace

SimCopyEngine::SimCopyEngine(Options options) : options_(std::move(options)), rng_(options_.seed) {
  KVTIER_CHECK(options_.in_flight_max > 0);
  KVTIER_CHECK(options_.machine == nullptr || options_.clock != nullptr);
  KVTIER_CHECK(options_.polls_min >= 1 && options_.polls_max >= options_.polls_min);
}

absl::Status SimCopyEngine::Submit(const CopyRequest& request) {
  if (absl::Status status = CheckCopyRequest(request, options_.pools); !status.ok()) return status;
  if (tickets_.contains(request.ticket)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("copy ticket %d is in flight already", request.ticket.value()));
  }
  if (copies_.size() >= options_.in_flight_max) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%d copies are in flight, the limit", options_.in_flight_max));
  }
  Copy copy;
  copy.request = request;
  copy.submitted = options_.clock != nullptr ? options_.clock->Now() : absl::UnixEpoch();
  copy.polls_left = options_.polls_min +
                    static_cast<uint32_t>(rng_.Below(options_.polls_max - options_.polls_min + 1));
  if (fail_one_in_ > 0 && rng_.OneIn(fail_one_in_)) copy.injected = fail_one_in_status_;
  if (auto fault = faults_.find(submitted_); fault != faults_.end()) {
    if (!fault->second.status.ok()) copy.injected = fault->second.status;
    copy.longer = fault->second.longer;
    copy.polls_left += fault->second.more_polls;
    faults_.erase(fault);
  }
  ++submitted_;
  tickets_.insert(request.ticket);
  copies_.push_back(std::move(copy));
  return absl::OkStatus();
}

void SimCopyEngine::Cancel(CopyTicket ticket) {
  for (Copy& copy : copies_) {
    if (copy.request.ticket != ticket || copy.cancelled) continue;
    copy.cancelled =
        options_.cancel_ignored_one_in == 0 || !rng_.OneIn(options_.cancel_ignored_one_in);
  }
}

void SimCopyEngine::Poll(std::vector<CopyCompletion>& completions) {
  if (held_ || copies_.empty()) return;
  if (options_.machine != nullptr) {
    RunMachine(SimTimeOf(options_.clock->Now()));
  } else if (options_.clock != nullptr) {
    RunLinks(options_.clock->Now());
  }
  size_t left = 0;
  for (Copy& copy : copies_) {
    const bool out_of_polls = options_.clock == nullptr && --copy.polls_left == 0;
    const bool finishes = copy.cancelled || copy.done || out_of_polls;
    Copy& to = finishes ? finished_.emplace_back() : copies_[left++];
    if (&to != &copy) to = std::move(copy);
  }
  copies_.resize(left);
  if (options_.reorder) {
    for (size_t i = finished_.size(); i > 1; --i)
      std::swap(finished_[i - 1], finished_[rng_.Below(i)]);
  }
  for (const Copy& copy : finished_) {
    tickets_.erase(copy.request.ticket);
    completions.push_back({.ticket = copy.request.ticket, .status = Execute(copy)});
  }
  finished_.clear();
}

absl::Status SimCopyEngine::Execute(const Copy& copy) {
  const CopyRequest& request = copy.request;
  const auto bytes = static_cast<size_t>(request.bytes.count());
  const std::byte* from =
      options_.pools[request.source.pool.value()]->Address(request.source.segment);
  std::byte* to =
      options_.pools[request.destination.pool.value()]->Address(request.destination.segment);
  if (from != nullptr) from += request.source.offset.count();
  if (to != nullptr) to += request.destination.offset.count();
  if (!copy.injected.ok()) {
    if (to != nullptr) std::memset(to, 0xa5, bytes);
    if (!options_.tagged.empty()) (void)CopyTag(request, true);
    return copy.injected;
  }
  if (copy.cancelled && !copy.done) {
    // Half of it was written: nobody may rely on the old bytes.
    if (to != nullptr) std::memset(to, 0x5a, bytes / 2);
    if (!options_.tagged.empty()) (void)CopyTag(request, true);
    return absl::CancelledError(absl::StrFormat("copy %d was cancelled", request.ticket.value()));
  }
  bytes_copied_ += request.bytes;
  if (!options_.tagged.empty()) return CopyTag(request, false);
  if (from == nullptr || to == nullptr) return absl::OkStatus();
  std::memcpy(to, from, bytes);
  const uint64_t checksum = wire::BlockChecksum({to, bytes});
  if (checksum == request.checksum) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("copy %d of %d bytes: checksum of the source is %016x, expected %016x",
                      request.ticket.value(), request.bytes.count(), checksum, request.checksum));
}

absl::Status SimCopyEngine::CopyTag(const CopyRequest& request, bool garbage) {
  const SimPool& from = *options_.tagged[request.source.pool.value()];
  SimPool& to = *options_.tagged[request.destination.pool.value()];
  const uint64_t tag = from.Tag(request.source.segment, request.source.offset);
  to.SetTag(request.destination.segment, request.destination.offset, garbage ? ~tag : tag);
  if (tag == request.checksum || garbage) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("copy %d: the tag of the source is %016x, expected %016x",
                      request.ticket.value(), tag, request.checksum));
}

void SimCopyEngine::Open(SimTime from, SimTime until) {
  KVTIER_CHECK(options_.machine != nullptr && from <= until);
  open_from_ = from;
  open_until_ = until;
  started_until_ = 0;
}

void SimCopyEngine::RunMachine(SimTime now) {
  SimPorts& ports = options_.machine->ports();
  constexpr CopyPriority kOrder[] = {CopyPriority::kDemand, CopyPriority::kPrefetch,
                                     CopyPriority::kMigration};
  const SimTime latest = open_until_ + (open_until_ - open_from_) / kLongerBy;
  for (const CopyPriority priority : kOrder) {
    for (Copy& copy : copies_) {
      const CopyRequest& request = copy.request;
      if (copy.ends != 0 || copy.cancelled || request.priority != priority) continue;
      const SimTime earliest = std::max(open_from_, SimTimeOf(copy.submitted));
      if (earliest >= open_until_ || earliest > now) continue;
      const OperationCost cost =
          options_.machine->Copy(request.source.pool.value(), request.destination.pool.value(),
                                 static_cast<uint64_t>(request.bytes.count()));
      // One that is too long for any phase would never start: so the first always does.
      if (started_until_ > 0 && ports.EndOf(cost.loads, earliest) > latest) continue;
      copy.ends = ports.Occupy(cost.loads, earliest,
                               cost.latency_ns + absl::ToInt64Nanoseconds(copy.longer));
      started_until_ = std::max(started_until_, copy.ends);
    }
  }
  for (Copy& copy : copies_) copy.done |= copy.ends != 0 && copy.ends <= now;
}

void SimCopyEngine::RunLinks(absl::Time now) {
  std::vector<std::pair<PoolId, PoolId>> ends;
  for (const Copy& copy : copies_) {
    ends.emplace_back(copy.request.source.pool, copy.request.destination.pool);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  for (const auto& pair : ends) RunLink(pair, now);
}

void SimCopyEngine::RunLink(const std::pair<PoolId, PoolId>& ends, absl::Time now) {
  const auto configured = options_.links.find(ends);
  const SimLink& link = configured == options_.links.end() ? options_.link : configured->second;
  absl::Time& free = link_free_.try_emplace(ends, absl::InfinitePast()).first->second;
  const auto waits_here = [&](const Copy& copy) {
    return !copy.done && !copy.cancelled &&
           std::pair(copy.request.source.pool, copy.request.destination.pool) == ends;
  };
  while (true) {
    // The link takes its next copy when it is free and one is there: the most urgent of those
    // submitted by then.
    Copy* next = nullptr;
    absl::Time start = absl::InfiniteFuture();
    for (Copy& copy : copies_) {
      if (waits_here(copy)) start = std::min(start, std::max(free, copy.submitted));
    }
    for (Copy& copy : copies_) {
      if (!waits_here(copy) || copy.submitted > start) continue;
      const bool started = copy.finish != absl::InfiniteFuture();
      if (next == nullptr || started || copy.request.priority < next->request.priority)
        next = &copy;
      if (started) break;
    }
    if (next == nullptr) return;
    if (next->finish == absl::InfiniteFuture()) {
      if (start > now) return;
      next->finish =
          start + link.latency + next->longer +
          absl::Seconds(static_cast<double>(next->request.bytes.count()) / link.bandwidth.value);
    }
    if (next->finish > now) return;
    free = next->finish;
    next->done = true;
  }
}

void SimCopyEngine::FailCopy(uint64_t nth, absl::Status status) {
  KVTIER_CHECK(!status.ok());
  faults_[submitted_ + nth].status = std::move(status);
}

void SimCopyEngine::FailOneIn(uint64_t n, absl::Status status) {
  KVTIER_CHECK(n == 0 || !status.ok());
  fail_one_in_ = n;
  fail_one_in_status_ = std::move(status);
}

void SimCopyEngine::DelayCopy(uint64_t nth, absl::Duration longer, uint32_t more_polls) {
  faults_[submitted_ + nth].longer = longer;
  faults_[submitted_ + nth].more_polls = more_polls;
}

std::vector<CopyRequest> SimCopyEngine::InFlight() const {
  std::vector<CopyRequest> requests;
  for (const Copy& copy : copies_) requests.push_back(copy.request);
  return requests;
}

}  // namespace kvtier::sim
