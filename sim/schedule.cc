#include "sim/schedule.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "tiering/base/rng.h"

namespace kvtier::sim {
namespace {

std::vector<Play> ByTime(std::vector<Play> plays, uint64_t requests_max) {
  std::stable_sort(plays.begin(), plays.end(),
                   [](const Play& a, const Play& b) { return a.at_s < b.at_s; });
  if (plays.size() > requests_max) plays.resize(requests_max);
  return plays;
}

std::vector<Play> ScheduleConversations(const Trace& trace, const ScheduleOptions& options) {
  std::vector<uint32_t> order(trace.requests.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return trace.requests[a].at_s < trace.requests[b].at_s;
  });
  const std::vector<uint32_t> conversations = LinkConversations(trace, order);
  const uint32_t count = *std::max_element(conversations.begin(), conversations.end()) + 1;
  std::vector<uint64_t> blocks(count);  // of a conversation: its share of the work
  for (size_t i = 0; i < conversations.size(); ++i)
    blocks[conversations[i]] += trace.requests[i].block_count + 1;
  // Conversations are numbered by their start; each goes to whom was given least until then.
  std::vector<uint64_t> given(options.workers);
  std::vector<uint32_t> worker(count);
  for (uint32_t i = 0; i < count; ++i) {
    const auto least = std::min_element(given.begin(), given.end());
    *least += blocks[i];
    worker[i] = static_cast<uint32_t>(least - given.begin());
  }
  const double start_s = trace.requests[order[0]].at_s;
  std::vector<Play> plays;
  plays.reserve(order.size());
  for (const uint32_t request : order) {
    plays.push_back(
        {trace.requests[request].at_s - start_s, request, worker[conversations[request]]});
  }
  return plays;
}

std::vector<Play> ScheduleSessions(const Trace& trace, const ScheduleOptions& options) {
  Rng rng(options.seed);
  std::vector<size_t> order(trace.sessions.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
  std::vector<double> free_s(options.sessions);  // when a slot's last session ends
  std::vector<Play> plays;
  plays.reserve(trace.requests.size());
  for (const size_t index : order) {
    const TraceSession& session = trace.sessions[index];
    if (session.request_count == 0) continue;
    const auto slot = std::min_element(free_s.begin(), free_s.end());
    const auto worker = static_cast<uint32_t>((slot - free_s.begin()) % options.workers);
    const double first_s = trace.requests[session.first_request].at_s;
    const double start_s = *slot + rng.Unit() * kSessionPauseSecondsMax;
    for (size_t i = 0; i < session.request_count; ++i) {
      const size_t request = session.first_request + i;
      *slot = start_s + trace.requests[request].at_s - first_s;
      plays.push_back({*slot, static_cast<uint32_t>(request), worker});
    }
  }
  return plays;
}

}  // namespace

std::vector<uint32_t> LinkConversations(const Trace& trace, const std::vector<uint32_t>& requests) {
  // An id names a prefix, so who used it first had all that is before it.
  absl::flat_hash_map<uint64_t, uint32_t> first_user;
  std::vector<uint32_t> conversations(trace.requests.size());
  // Whether a request's prompt was extended by a later one already.
  std::vector<bool> extended(trace.requests.size());
  uint32_t count = 0;
  for (const uint32_t request : requests) {
    const auto ids = trace.IdsOf(trace.requests[request]);
    size_t known = 0;
    uint32_t before = 0;
    for (; known < ids.size(); ++known) {
      const auto [user, is_new] = first_user.try_emplace(ids[known], request);
      if (is_new) break;
      before = user->second;
    }
    for (size_t i = known + 1; i < ids.size(); ++i) first_user.try_emplace(ids[i], request);
    const bool repeats = known > 0 && known == ids.size();
    const uint32_t blocks_before = trace.requests[before].block_count;
    // All of a prompt is in this one. One block alone may be what conversations have in common.
    const bool contains = known >= blocks_before && blocks_before > 1;
    const bool extends = known > 0 && known + 1 >= blocks_before && !extended[before];
    if (extends && !repeats) extended[before] = true;
    conversations[request] = repeats || contains || extends ? conversations[before] : count++;
  }
  return conversations;
}

std::vector<Play> MakeSchedule(const Trace& trace, const ScheduleOptions& options) {
  return ByTime(trace.sessions.empty() ? ScheduleConversations(trace, options)
                                       : ScheduleSessions(trace, options),
                options.requests_max);
}

}  // namespace kvtier::sim
