#include "daemon/rpc_metrics.h"

#include <algorithm>

namespace kvtier {

const char* RpcMethodName(RpcMethod method) {
  static constexpr const char* kNames[RpcMetrics::kMethods] = {
      "Attach",     "Heartbeat", "Detach",    "RegisterModel", "Reserve", "Store",
      "Commit",     "Abort",     "Lookup",    "Renew",         "Release", "Fetch",
      "CheckBlock", "Report",    "Prefetch",  "Forget",        "Watch",   "Status",
      "Topology",   "Pools",     "SetBudget", "Blocks",        "Drain",   "Settle"};
  return kNames[static_cast<size_t>(method)];
}

void RpcMetrics::End(RpcMethod method, absl::StatusCode code, absl::Duration took) {
  Method& counts = of(method);
  counts.in_progress.fetch_sub(1, std::memory_order_relaxed);
  counts.codes[std::min(static_cast<size_t>(code), kCodes - 1)].fetch_add(
      1, std::memory_order_relaxed);
  const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), absl::ToDoubleSeconds(took));
  counts.buckets[static_cast<size_t>(bound - kBounds.begin())].fetch_add(1,
                                                                         std::memory_order_relaxed);
  counts.nanoseconds.fetch_add(static_cast<uint64_t>(absl::ToInt64Nanoseconds(took)),
                               std::memory_order_relaxed);
}

}  // namespace kvtier
