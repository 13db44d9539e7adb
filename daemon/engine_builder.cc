#include "daemon/engine_builder.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/cpu_copy_engine.h"
#include "tiering/plan/lfu_policy.h"
#include "tiering/plan/lru_policy.h"
#include "tiering/plan/s3fifo_policy.h"
#include "tiering/plan/static_split_policy.h"

namespace kvtier {
namespace {

constexpr size_t kSaltBytes = 16;

absl::Status FillRandom(void* to, size_t bytes) {
  // Up to 256 bytes come whole.
  if (getrandom(to, bytes, 0) == static_cast<ssize_t>(bytes)) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("getrandom: ", std::strerror(errno)));
}

Bytes ToBytes(uint64_t count) { return Bytes(static_cast<int64_t>(count)); }

absl::StatusOr<std::unique_ptr<HostPool>> BuildPool(const v1::Config& config,
                                                    const v1::PoolConfig& pool,
                                                    const std::shared_ptr<MemoryReserve>& reserve,
                                                    const Topology& topology) {
  HostPoolOptions options;
  options.budget_bytes = ToBytes(pool.budget_bytes());
  options.segment_bytes = ToBytes(config.memory().segment_bytes());
  options.numa_node = pool.numa_node();
  options.reserve = reserve;
  options.huge_pages = config.memory().huge_pages();
  options.sealed = config.listen().shared_memory();
  int number = 0;
  KVTIER_CHECK(absl::SimpleAtoi(pool.name().substr(pool.kind().size() + 1), &number));
  // Its errors name the pool.
  return pool.kind() == "hbm" ? HostPool::CreateEmulatedHbm(number, options, topology)
                              : HostPool::CreateDram(number, options, topology);
}

absl::StatusOr<std::unique_ptr<PlacementPolicy>> BuildPolicy(const v1::PolicyConfig& policy) {
  if (policy.name() == "lru") return LruPolicy::Create();
  if (policy.name() == "lfu") return LfuPolicy::Create();
  if (policy.name() == "s3fifo") return S3FifoPolicy::Create();
  KVTIER_CHECK(policy.name() == "static");
  return StaticSplitPolicy::Create({policy.static_share().begin(), policy.static_share().end()});
}

EngineLimits BuildLimits(const v1::Config& config) {
  const v1::LimitsConfig& from = config.limits();
  EngineLimits limits;
  limits.chunks_max = from.chunks_max();
  limits.models_max = from.models_max();
  limits.planes_max = from.planes_max();
  limits.sessions_max = from.sessions_max();
  limits.blocks_max = from.blocks_max();
  limits.leases_max = from.leases_max();
  limits.leased_chunks_max = from.leased_chunks_max();
  limits.reservations_max = from.reservations_max();
  limits.chunks_per_call_max = from.chunks_per_call_max();
  limits.reserved_bytes_max = ToBytes(from.reserved_bytes_max());
  limits.session_timeout = absl::Milliseconds(from.session_timeout_ms());
  limits.lease_ttl = absl::Milliseconds(from.lease_ttl_ms());
  limits.lease_ttl_max = absl::Milliseconds(from.lease_ttl_max_ms());
  limits.incomplete_chunk_ttl = absl::Milliseconds(from.incomplete_chunk_ttl_ms());
  limits.retired_share_max = from.retired_share_max();
  limits.moves_in_flight_max = static_cast<uint32_t>(config.policy().moves_in_flight_max());
  limits.move_bytes_per_second_max = ToBytes(config.policy().move_bytes_per_second_max());
  limits.events_kept = from.events_kept();
  limits.section_max = absl::Milliseconds(from.section_ms_max());
  return limits;
}

}  // namespace

absl::StatusOr<std::string> RandomSalt() {
  char bytes[kSaltBytes];
  KVTIER_RETURN_IF_ERROR(FillRandom(bytes, sizeof bytes));
  return absl::BytesToHexString(absl::string_view(bytes, sizeof bytes));
}

absl::StatusOr<uint64_t> RandomEpoch() {
  uint64_t epoch = 0;
  while (epoch == 0) KVTIER_RETURN_IF_ERROR(FillRandom(&epoch, sizeof epoch));
  return epoch;
}

absl::StatusOr<std::vector<std::unique_ptr<SharedRegion>>> BuildIndexes(const v1::Config& config) {
  const Bytes bytes =
      Engine::IndexBytes(BuildLimits(config), static_cast<size_t>(config.tenants_size()));
  std::vector<std::unique_ptr<SharedRegion>> indexes;
  for (const v1::TenantConfig& tenant : config.tenants()) {
    KVTIER_ASSIGN_OR_RETURN(std::unique_ptr<SharedRegion> index,
                            SharedRegion::Create(absl::StrCat("kvtier-index:", tenant.name()),
                                                 bytes, SharedRegion::Writers::kOwner));
    indexes.push_back(std::move(index));
  }
  return indexes;
}

absl::StatusOr<ShareOptions> ShareIndexes(absl::Span<const std::unique_ptr<SharedRegion>> indexes,
                                          uint64_t daemon_epoch) {
  ShareOptions share;
  for (const std::unique_ptr<SharedRegion>& index : indexes) share.index.push_back(index->memory());
  share.daemon_epoch = daemon_epoch;
  KVTIER_RETURN_IF_ERROR(FillRandom(&share.seed, sizeof share.seed));
  return share;
}

absl::StatusOr<BuiltEngine> BuildEngine(const v1::Config& config, const Topology& topology,
                                        std::function<void()> on_copy_completion,
                                        ShareOptions share) {
  BuiltEngine built;
  EngineOptions options;
  options.share = std::move(share);
  options.limits = BuildLimits(config);
  KVTIER_RETURN_IF_ERROR(FillRandom(&options.index_seed, sizeof options.index_seed));
  auto reserve = std::make_shared<MemoryReserve>(
      MemoryReserve::Options{.reserve = ToBytes(config.memory().reserve_bytes())});
  std::vector<MemoryPool*> pools;
  for (const v1::PoolConfig& pool : config.pools()) {
    KVTIER_ASSIGN_OR_RETURN(std::unique_ptr<HostPool> made,
                            BuildPool(config, pool, reserve, topology));
    built.pools.push_back(made.get());
    pools.push_back(made.get());
    // The pool rounds its limit down to whole segments.
    const Bytes limit = made->segment_bytes() * made->segments_max();
    options.pools.push_back(
        {.pool = std::move(made), .budget = std::min(ToBytes(pool.budget_bytes()), limit)});
  }
  for (const v1::TenantConfig& tenant : config.tenants()) {
    TenantOptions made{.name = tenant.name(), .salt = tenant.salt(), .quota = {}};
    if (made.salt.empty()) {
      KVTIER_ASSIGN_OR_RETURN(made.salt, RandomSalt());
    }
    built.salts.push_back(made.salt);
    for (const v1::PoolConfig& pool : config.pools()) {
      const auto quota = tenant.quota_bytes().find(pool.name());
      made.quota.push_back(
          ToBytes(quota == tenant.quota_bytes().end() ? pool.budget_bytes() : quota->second));
    }
    options.tenants.push_back(std::move(made));
  }
  KVTIER_ASSIGN_OR_RETURN(options.policy, BuildPolicy(config.policy()));
  CpuCopyEngine::Options copies;
  copies.pools = std::move(pools);
  copies.threads = config.memory().copy_threads();
  copies.in_flight_max = options.limits.moves_in_flight_max;
  copies.on_completion = std::move(on_copy_completion);
  KVTIER_ASSIGN_OR_RETURN(options.copies, CpuCopyEngine::Create(std::move(copies)));
  KVTIER_ASSIGN_OR_RETURN(built.engine, Engine::Create(std::move(options)));
  return built;
}

}  // namespace kvtier
