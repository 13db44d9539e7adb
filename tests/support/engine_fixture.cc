#include "tests/support/engine_fixture.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "tests/support/block_content.h"
#include "tiering/base/check.h"
#include "tiering/plan/lru_policy.h"
#include "tiering/plan/static_split_policy.h"

namespace kvtier::test_support {

std::unique_ptr<PlacementPolicy> MakePolicy(PolicyChoice choice, size_t pool_count) {
  if (choice == PolicyChoice::kLru) return LruPolicy::Create();
  if (choice == PolicyChoice::kShuffle) return std::make_unique<ShufflePolicy>(1);
  if (choice == PolicyChoice::kScripted) return std::make_unique<ScriptedPolicy>();
  auto policy = StaticSplitPolicy::Create(
      std::vector<double>(pool_count, 1.0 / static_cast<double>(pool_count)));
  KVTIER_CHECK(policy.ok());
  return *std::move(policy);
}

EngineOptions MakeEngineOptions(const EngineFixtureOptions& options,
                                std::vector<sim::SimPool*>* pools, sim::SimCopyEngine** copies) {
  EngineOptions result;
  sim::SimCopyEngine::Options copy_options;
  for (size_t i = 0; i < options.segments.size(); ++i) {
    sim::SimPool::Options pool;
    pool.name = i == 0 ? "hbm:0" : "dram:" + std::to_string(i - 1);
    pool.kind = i == 0 ? PoolKind::kHbm : PoolKind::kDram;
    pool.segment_bytes = options.segment_bytes;
    pool.segments_max = options.segments[i];
    pool.with_bytes = options.with_bytes;
    auto owned = std::make_unique<sim::SimPool>(pool);
    copy_options.pools.push_back(owned.get());
    if (pools != nullptr) pools->push_back(owned.get());
    result.pools.push_back(
        {.pool = std::move(owned), .budget = options.segment_bytes * options.segments[i]});
  }
  for (uint16_t tenant = 0; tenant < options.tenants; ++tenant) {
    TenantOptions tenant_options;
    tenant_options.name = "tenant-" + std::to_string(tenant);
    tenant_options.salt = "salt-" + std::to_string(tenant);
    for (size_t i = 0; i < options.segments.size(); ++i) {
      const uint32_t segments =
          options.quota_segments.empty() ? options.segments[i] : options.quota_segments[i];
      tenant_options.quota.push_back(options.segment_bytes * segments);
    }
    result.tenants.push_back(std::move(tenant_options));
  }
  copy_options.seed = options.copy_seed;
  copy_options.polls_max = options.copy_polls_max;
  auto copy_engine = std::make_unique<sim::SimCopyEngine>(std::move(copy_options));
  if (copies != nullptr) *copies = copy_engine.get();
  result.copies = std::move(copy_engine);
  result.policy = MakePolicy(options.policy, options.segments.size());
  result.limits = options.limits;
  return result;
}

EngineFixture::EngineFixture(EngineFixtureOptions options) : options_(std::move(options)) {
  EngineOptions engine_options = MakeEngineOptions(options_, &pools_, &copies_);
  for (uint16_t tenant = 0; options_.shared && tenant < options_.tenants; ++tenant) {
    index_memory_.push_back(
        std::make_unique<IndexMemory>(Engine::IndexBytes(options_.limits, options_.tenants)));
    engine_options.share.index.push_back(index_memory_.back()->bytes());
  }
  auto engine = Engine::Create(std::move(engine_options));
  if (!engine.ok()) std::fprintf(stderr, "%s\n", engine.status().ToString().c_str());
  KVTIER_CHECK(engine.ok());
  engine_ = *std::move(engine);
}

ScriptedPolicy& EngineFixture::script() {
  KVTIER_CHECK(options_.policy == PolicyChoice::kScripted);
  return const_cast<ScriptedPolicy&>(static_cast<const ScriptedPolicy&>(engine_->policy()));
}

bool EngineFixture::Advance(absl::Duration step) {
  now_ += step;
  return engine_->Tick(now_);
}

void EngineFixture::Settle(int ticks_max) {
  while (Advance(absl::Milliseconds(5)) && --ticks_max > 0) {
  }
}

Caller EngineFixture::Attach(uint16_t tenant) {
  auto session = engine_->Attach(TenantId(tenant), now_);
  KVTIER_CHECK(session.ok());
  return Caller{TenantId(tenant), *session};
}

ModelId EngineFixture::Register(Caller caller, const ModelSpec& spec) {
  auto model = engine_->RegisterModel(caller, spec);
  if (!model.ok()) std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
  KVTIER_CHECK(model.ok());
  return model->id;
}

CommitArgs EngineFixture::Fill(Caller caller, ReservationId reservation, uint32_t chunk,
                               ModelId model, const wire::ChunkKey& key,
                               std::vector<PlaneIndex> planes, uint32_t token_count) {
  const ModelSpec* spec = engine_->FindModel(caller.tenant, model);
  KVTIER_CHECK(spec != nullptr);
  if (planes.empty()) {
    for (size_t i = 0; i < spec->planes.size(); ++i) planes.emplace_back(static_cast<uint16_t>(i));
  }
  CommitArgs args;
  args.chunk = chunk;
  args.key = key;
  args.token_count = token_count == 0 ? spec->chunk_tokens : token_count;
  const SectionId section = engine_->EnterSection();
  for (const PlaneIndex plane : planes) {
    const Bytes bytes = spec->planes[plane.value()].bytes_per_chunk;
    auto target = engine_->Target(caller, reservation, chunk, plane);
    KVTIER_CHECK(target.ok() && target->bytes == bytes);
    const std::vector<std::byte> content = BlockContent(caller.tenant, model, key, plane, bytes);
    if (target->address != nullptr) std::memcpy(target->address, content.data(), content.size());
    args.checksums.push_back(ContentChecksum(content));
  }
  engine_->ExitSection(section);
  args.planes = std::move(planes);
  return args;
}

absl::StatusOr<CommitOutcome> EngineFixture::Put(Caller caller, ModelId model,
                                                 const wire::ChunkKey& parent,
                                                 const wire::ChunkKey& key,
                                                 std::vector<PlaneIndex> planes,
                                                 uint32_t token_count) {
  auto reservation = engine_->Reserve(
      caller, {.model = model, .parent = parent, .chunk_count = 1, .planes = planes}, now_);
  if (!reservation.ok()) return reservation.status();
  const CommitArgs args = Fill(caller, *reservation, 0, model, key, std::move(planes), token_count);
  auto outcome = engine_->Commit(caller, *reservation, args, now_);
  // The engine may have ended a reservation whose last slot was committed: either answer is fine.
  (void)engine_->Abort(caller, *reservation);
  return outcome;
}

void EngineFixture::PutChain(Caller caller, ModelId model, absl::Span<const wire::ChunkKey> keys) {
  wire::ChunkKey parent;
  for (const wire::ChunkKey& key : keys) {
    auto outcome = Put(caller, model, parent, key);
    if (!outcome.ok()) std::fprintf(stderr, "%s\n", outcome.status().ToString().c_str());
    KVTIER_CHECK(outcome.ok() && *outcome == CommitOutcome::kCommitted);
    parent = key;
  }
}

LookupResult EngineFixture::Lookup(Caller caller, ModelId model,
                                   absl::Span<const wire::ChunkKey> keys, bool lease) {
  auto result = engine_->Lookup(caller, model, keys,
                                lease ? std::optional(absl::ZeroDuration()) : std::nullopt, now_);
  KVTIER_CHECK(result.ok());
  return *result;
}

uint32_t EngineFixture::Matched(Caller caller, ModelId model,
                                absl::Span<const wire::ChunkKey> keys) {
  return Lookup(caller, model, keys, false).matched;
}

std::vector<ReadTarget> EngineFixture::Read(Caller caller, LeaseId lease, uint32_t chunk,
                                            const wire::ChunkKey& key) {
  const SectionId section = engine_->EnterSection();
  std::vector<ReadTarget> targets;
  const absl::Status status = engine_->Resolve(caller, lease, chunk, {}, targets);
  KVTIER_CHECK(status.ok());
  auto model = engine_->LeaseModel(caller, lease);
  KVTIER_CHECK(model.ok());
  for (const ReadTarget& target : targets) {
    const auto content = BlockContent(caller.tenant, *model, key, target.plane, target.bytes);
    for (uint8_t copy = 0; copy < target.copy_count; ++copy) {
      const std::byte* address = target.copies[copy].address;
      if (address != nullptr) {
        KVTIER_CHECK(std::memcmp(address, content.data(), content.size()) == 0);
      }
    }
  }
  engine_->ExitSection(section);
  return targets;
}

void EngineFixture::Corrupt(Caller caller, LeaseId lease, uint32_t chunk, PlaneIndex plane,
                            uint8_t copy) {
  std::vector<ReadTarget> targets;
  const PlaneIndex planes[] = {plane};
  const absl::Status status = engine_->Resolve(caller, lease, chunk, planes, targets);
  KVTIER_CHECK(status.ok() && targets.size() == 1 && copy < targets[0].copy_count);
  const SlotAddress slot = targets[0].copies[copy].slot;
  std::byte* bytes = pools_[slot.pool.value()]->Address(slot.segment);
  KVTIER_CHECK(bytes != nullptr);
  bytes[slot.offset.count()] ^= std::byte{1};
}

std::vector<Event> EngineFixture::Events(uint16_t tenant, uint64_t after) {
  std::vector<Event> events;
  const EventLog& log = engine_->events(TenantId(tenant));
  log.Read(after, log.last_sequence(), events);
  return events;
}

Bytes EngineFixture::Used() {
  Bytes used;
  for (const PoolStatus& pool : engine_->Pools()) used += pool.used;
  return used;
}

}  // namespace kvtier::test_support
