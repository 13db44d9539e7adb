// Builds the engine that a configuration asks for: pools, copy engine, policy, tenants.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kvtier/v1/config.pb.h"
#include "tiering/engine/engine.h"
#include "tiering/host/host_pool.h"
#include "tiering/host/shared_region.h"
#include "tiering/topology/topology.h"

namespace kvtier {

struct BuiltEngine {
  std::unique_ptr<Engine> engine;
  // The engine's own pools, for as long as it lives; their stats are thread-safe.
  std::vector<HostPool*> pools;
  std::vector<std::string> salts;  // by tenant
};

// `on_copy_completion` is called by copying threads. Errors name the field or the pool.
absl::StatusOr<BuiltEngine> BuildEngine(const v1::Config& config, const Topology& topology,
                                        std::function<void()> on_copy_completion,
                                        ShareOptions share = {});

// The memory that tenants' clients look blocks up in, by tenant; it outlives the engine that gets
// it.
absl::StatusOr<std::vector<std::unique_ptr<SharedRegion>>> BuildIndexes(const v1::Config& config);
// What that engine is told of it.
absl::StatusOr<ShareOptions> ShareIndexes(absl::Span<const std::unique_ptr<SharedRegion>> indexes,
                                          uint64_t daemon_epoch);

// 16 random bytes as hexadecimal digits; UNAVAILABLE when the system has no randomness to give.
absl::StatusOr<std::string> RandomSalt();
// Random and not zero.
absl::StatusOr<uint64_t> RandomEpoch();

}  // namespace kvtier
