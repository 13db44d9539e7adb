#include "sim/trace_load.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "tiering/base/status_macros.h"

namespace kvtier::sim {
namespace {

// Scopes of the copies: those of the first are its own, and no two are equal.
class Scopes {
 public:
  explicit Scopes(const Trace& trace) {
    for (const TraceRequest& request : trace.requests) {
      taken_.insert(request.scope);
      taken_.insert(request.shared_scope);
    }
  }
  uint64_t Of(uint32_t copy, uint64_t scope) {
    if (copy == 0) return scope;
    const auto [found, is_new] = numbers_.try_emplace(std::pair(copy, scope));
    if (is_new) {
      while (taken_.contains(next_)) ++next_;
      found->second = next_++;
    }
    return found->second;
  }

 private:
  absl::flat_hash_set<uint64_t> taken_;
  absl::flat_hash_map<std::pair<uint32_t, uint64_t>, uint64_t> numbers_;
  uint64_t next_ = 1;
};

absl::Status CheckCount(uint64_t count, uint32_t load, uint64_t limit, absl::string_view what) {
  if (count <= limit / load) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("load ", load, " makes ", count * load, " ", what,
                                                 " of ", count, "; the limit is ", limit));
}

}  // namespace

absl::StatusOr<Trace> WithLoad(const Trace& trace, uint32_t load) {
  if (load < 1 || load > kLoadMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("load is ", load, "; 1 to ", kLoadMax, " is needed"));
  }
  KVTIER_RETURN_IF_ERROR(CheckCount(trace.requests.size(), load, kRequestsMax, "requests"));
  KVTIER_RETURN_IF_ERROR(CheckCount(trace.sessions.size(), load, kSessionsMax, "sessions"));
  Scopes scopes(trace);
  const auto copy_of = [&](const TraceRequest& request, uint32_t copy) {
    TraceRequest result = request;  // with the same ids: scopes keep them apart
    result.scope = scopes.Of(copy, request.scope);
    result.shared_scope = scopes.Of(copy, request.shared_scope);
    return result;
  };
  Trace more{.block_tokens = trace.block_tokens, .ids = trace.ids};
  more.requests.reserve(trace.requests.size() * load);
  if (trace.sessions.empty()) {
    for (const TraceRequest& request : trace.requests) {
      for (uint32_t copy = 0; copy < load; ++copy) more.requests.push_back(copy_of(request, copy));
    }
    return more;
  }
  for (uint32_t copy = 0; copy < load; ++copy) {
    for (const TraceSession& session : trace.sessions) {
      more.sessions.push_back(
          {.first_request = copy * trace.requests.size() + session.first_request,
           .request_count = session.request_count});
    }
    for (const TraceRequest& request : trace.requests)
      more.requests.push_back(copy_of(request, copy));
  }
  return more;
}

}  // namespace kvtier::sim
