// Counts and times the calls of both services.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace kvtier {

enum class RpcMethod : uint8_t {
  kAttach,
  kHeartbeat,
  kDetach,
  kRegisterModel,
  kReserve,
  kStore,
  kCommit,
  kAbort,
  kLookup,
  kRenew,
  kRelease,
  kFetch,
  kCheckBlock,
  kReport,
  kPrefetch,
  kForget,
  kWatch,
  kStatus,
  kTopology,
  kPools,
  kSetBudget,
  kBlocks,
  kDrain,
  kSettle,
  kCount,
};
const char* RpcMethodName(RpcMethod method);

// Thread-safe; a handful of relaxed additions a call.
class RpcMetrics {
 public:
  static constexpr size_t kMethods = static_cast<size_t>(RpcMethod::kCount);
  static constexpr size_t kCodes = 17;  // of absl::StatusCode
  // Upper bounds in seconds; one more bucket takes the rest.
  static constexpr std::array<double, 9> kBounds = {50e-6, 100e-6, 250e-6, 1e-3, 5e-3,
                                                    25e-3, 100e-3, 1,      10};

  struct Method {
    std::array<std::atomic<uint64_t>, kCodes> codes{};
    std::array<std::atomic<uint64_t>, kBounds.size() + 1> buckets{};
    std::atomic<uint64_t> nanoseconds{0};
    std::atomic<uint64_t> in_progress{0};
  };

  void Begin(RpcMethod method) { ++of(method).in_progress; }
  void End(RpcMethod method, absl::StatusCode code, absl::Duration took);
  const Method& method(RpcMethod method) const { return methods_[static_cast<size_t>(method)]; }

  // Payload of byte streams.
  std::atomic<uint64_t> stored_bytes{0};
  std::atomic<uint64_t> fetched_bytes{0};
  std::atomic<uint64_t> watch_streams{0};

 private:
  Method& of(RpcMethod method) { return methods_[static_cast<size_t>(method)]; }
  std::array<Method, kMethods> methods_;
};

}  // namespace kvtier
