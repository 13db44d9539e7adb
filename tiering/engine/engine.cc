// Creation, sessions and models.
#include "tiering/engine/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {
namespace {

constexpr uint64_t kChunksMax = 1ull << 28;
constexpr uint64_t kLeasedChunksMax = 1ull << 28;
constexpr uint64_t kReservationsMax = 1ull << 28;
// A lease pins a chunk at most once, a reservation once as parent or once as a chunk of its own, a
// move that is being started once more: no row's count of pins can wrap.
static_assert(kLeasedChunksMax + kReservationsMax + 1 <= 0xffffffffu);
// A page of the block store always fits.
constexpr uint64_t kBlocksMin = 8192;

absl::Status CheckLimits(const EngineLimits& limits) {
  const auto check = [](const char* option, uint64_t value, uint64_t min, uint64_t max) {
    if (value >= min && value <= max) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrFormat("engine option %s is %d; %d to %d are allowed", option, value, min, max));
  };
  KVTIER_RETURN_IF_ERROR(check("chunks_max", limits.chunks_max, 1, kChunksMax));
  KVTIER_RETURN_IF_ERROR(
      check("blocks_max", limits.blocks_max, kBlocksMin, BlockCatalog::kBlocksMax));
  KVTIER_RETURN_IF_ERROR(check("models_max", limits.models_max, 1, 65'535));
  KVTIER_RETURN_IF_ERROR(check("planes_max", limits.planes_max, 1, 8192));
  KVTIER_RETURN_IF_ERROR(check("sessions_max", limits.sessions_max, 1, 1u << 20));
  KVTIER_RETURN_IF_ERROR(check("leases_max", limits.leases_max, 1, 1u << 28));
  KVTIER_RETURN_IF_ERROR(check("leased_chunks_max", limits.leased_chunks_max, 1, kLeasedChunksMax));
  KVTIER_RETURN_IF_ERROR(check("reservations_max", limits.reservations_max, 1, kReservationsMax));
  KVTIER_RETURN_IF_ERROR(check("chunks_per_call_max", limits.chunks_per_call_max, 1, 1u << 24));
  KVTIER_RETURN_IF_ERROR(check("moves_in_flight_max", limits.moves_in_flight_max, 1, 4096));
  KVTIER_RETURN_IF_ERROR(check("events_kept", limits.events_kept, 1, 1u << 24));
  if (!(limits.retired_share_max > 0 && limits.retired_share_max <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("engine option retired_share_max is %g; above 0 to 1 is allowed",
                        limits.retired_share_max));
  }
  return absl::OkStatus();
}

}  // namespace

Engine::State::State(EngineOptions options)
    : limits(options.limits),
      tenants(std::move(options.tenants)),
      policy(std::move(options.policy)),
      copies(std::move(options.copies)),
      blocks(options.limits.chunks_max, options.limits.blocks_max, options.index_seed),
      quarantine(options.pools.size()),
      sessions(options.limits.sessions_max),
      leases(options.limits.leases_max),
      use(tenants.size()),
      access_clocks(tenants.size()),
      reservations(options.limits.reservations_max),
      moved_in_blocks(options.pools.size()),
      missed(options.pools.size() * tenants.size()),
      inbox_room(options.pools.size() * tenants.size()),
      shrinking(options.pools.size()),
      move_budget(options.limits.move_bytes_per_second_max) {
  for (PoolOptions& pool : options.pools) pools.push_back(std::move(pool.pool));
  for (size_t i = 0; i < tenants.size(); ++i) logs.emplace_back(limits.events_kept);
}

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(EngineOptions options) {
  KVTIER_RETURN_IF_ERROR(CheckLimits(options.limits));
  if (options.pools.empty() || options.pools.size() > CopyRef::kPoolsMax) {
    return absl::InvalidArgumentError(absl::StrFormat("engine: %d pools; 1 to %d are allowed",
                                                      options.pools.size(), CopyRef::kPoolsMax));
  }
  if (options.tenants.empty() || options.tenants.size() > 65'535) {
    return absl::InvalidArgumentError(
        absl::StrFormat("engine: %d tenants; 1 to 65535 are allowed", options.tenants.size()));
  }
  if (options.policy == nullptr || options.copies == nullptr) {
    return absl::InvalidArgumentError("engine: a placement policy and a copy engine are needed");
  }
  for (const TenantOptions& tenant : options.tenants) {
    if (tenant.quota.size() != options.pools.size()) {
      return absl::InvalidArgumentError(absl::StrFormat("tenant \"%s\": %d quotas for %d pools",
                                                        tenant.name, tenant.quota.size(),
                                                        options.pools.size()));
    }
  }
  const ShareOptions share = std::move(options.share);
  std::vector<Bytes> budgets;
  for (const PoolOptions& pool : options.pools) budgets.push_back(pool.budget);

  auto state = std::make_unique<State>(std::move(options));
  for (size_t i = 0; i < state->pools.size(); ++i) {
    SlotAllocator::Options slots;
    slots.id = PoolId(static_cast<uint8_t>(i));
    slots.pool = state->pools[i].get();
    slots.budget = budgets[i];
    // What has no faster place left goes down into the last pool, wherever it was written.
    slots.inboxes_limited = i > 0 && i + 1 == state->pools.size();
    for (const TenantOptions& tenant : state->tenants) slots.quota.push_back(tenant.quota[i]);
    KVTIER_ASSIGN_OR_RETURN(auto allocator, SlotAllocator::Create(std::move(slots)));
    state->allocators.push_back(std::move(allocator));
  }
  if (!share.index.empty()) {
    KVTIER_ASSIGN_OR_RETURN(state->share,
                            EngineShare::Create(share, state->limits, state->tenants.size(),
                                                &state->blocks, &state->allocators));
    state->blocks.Observe(state->share.get());
  }
  state->policy->Bind(state.get(), &state->blocks);
  return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

// --- sessions
// -------------------------------------------------------------------------------------------------

absl::StatusOr<SessionId> Engine::Attach(TenantId tenant, absl::Time now) {
  State& s = *state_;
  KVTIER_CHECK(tenant.value() < s.tenants.size());
  TenantUse& use = s.use[tenant.value()];
  KVTIER_RETURN_IF_ERROR(
      s.CheckShare(tenant, "sessions", use.sessions, s.sessions.size(), s.limits.sessions_max));
  ++use.sessions;
  Session session;
  session.tenant = tenant;
  session.seen = now;
  return SessionId(s.sessions.Add(s.all_sessions, std::move(session)));
}

absl::Status Engine::State::CheckShare(TenantId tenant, const char* what, uint64_t count,
                                       uint64_t all, uint64_t limit) const {
  if (count < Share(limit) && all < limit) return absl::OkStatus();
  if (tenants.size() == 1) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("there are %d %s; the limit is %d (%s_max)", all, what, limit, what));
  }
  return absl::ResourceExhaustedError(
      absl::StrFormat("tenant \"%s\" has %d %s, all tenants %d; the limits are %d and %d (%s_max)",
                      tenants[tenant.value()].name, count, what, all, Share(limit), limit, what));
}

absl::Status Engine::Heartbeat(Caller caller, absl::Time now) {
  KVTIER_ASSIGN_OR_RETURN(Session * session, state_->FindSession(caller));
  session->seen = std::max(session->seen, now);
  return absl::OkStatus();
}

absl::Status Engine::Detach(Caller caller) {
  KVTIER_RETURN_IF_ERROR(state_->FindSession(caller).status());
  state_->EndSession(caller.session);
  return absl::OkStatus();
}

absl::Status Engine::SetLogicalTime(Caller caller, absl::Duration logical, absl::Time now) {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(Session * session, s.FindSession(caller));
  if (logical < absl::ZeroDuration() || logical > kLogicalTimeMax) {
    return absl::InvalidArgumentError(absl::StrFormat("a logical time of %s; up to %s is possible",
                                                      absl::FormatDuration(logical),
                                                      absl::FormatDuration(kLogicalTimeMax)));
  }
  AccessClock& clock = s.access_clocks[caller.tenant.value()];
  if (!session->logical_time) clock.Join(logical, now);
  session->logical_time = true;
  clock.Advance(logical);
  ++s.counts.logical_times;
  return absl::OkStatus();
}

bool Engine::HasSession(Caller caller) const { return state_->FindSession(caller).ok(); }

absl::StatusOr<Session*> Engine::State::FindSession(Caller caller) {
  Session* session = sessions.Find(caller.session.value());
  if (session == nullptr || session->tenant != caller.tenant) {
    return absl::NotFoundError(
        absl::StrFormat("session %d is not attached", caller.session.value()));
  }
  return session;
}

void Engine::State::EndSession(SessionId id) {
  Session* session = sessions.Find(id.value());
  while (const uint64_t lease = leases.FirstOf(session->leases)) EndLease(*session, LeaseId(lease));
  while (const uint64_t reservation = reservations.FirstOf(session->reservations)) {
    EndReservation(*session, ReservationId(reservation));
  }
  // What it began to commit and nobody completed leaves nothing behind.
  for (const IncompleteChunk& chunk : incomplete) {
    if (chunk.creator != id || Settled(chunk)) continue;
    counts.incomplete_dropped_chunks += HideSubtree(chunk.row);
  }
  if (session->shared != ShmClientId()) {
    share->Find(session->shared)->session = SessionId();
    EndWriter(session->shared);  // no other session can reserve for it
  }
  if (session->logical_time) access_clocks[session->tenant.value()].Leave();
  --use[session->tenant.value()].sessions;
  sessions.Remove(all_sessions, id.value());
}

// --- models
// ---------------------------------------------------------------------------------------------------

absl::StatusOr<RegisteredModel> Engine::RegisterModel(Caller caller, const ModelSpec& spec) {
  State& s = *state_;
  KVTIER_RETURN_IF_ERROR(s.FindSession(caller).status());
  ModelLimits limits;
  limits.planes_max = s.limits.planes_max;
  for (size_t i = 0; i < s.allocators.size(); ++i) {
    limits.plane_bytes_max =
        i == 0 ? s.allocators[i]->slot_bytes_max()
               : std::min(limits.plane_bytes_max, s.allocators[i]->slot_bytes_max());
  }
  KVTIER_RETURN_IF_ERROR(ValidateModel(spec, limits));
  const wire::ModelFingerprint fingerprint = FingerprintOf(spec);
  for (size_t i = 0; i < s.specs.size(); ++i) {
    if (s.specs[i].tenant == caller.tenant && s.specs[i].fingerprint == fingerprint) {
      return RegisteredModel{ModelId(static_cast<uint16_t>(i)), fingerprint};
    }
  }
  TenantUse& use = s.use[caller.tenant.value()];
  KVTIER_RETURN_IF_ERROR(
      s.CheckShare(caller.tenant, "models", use.models, s.specs.size(), s.limits.models_max));
  ++use.models;
  ModelLayout layout;
  layout.tenant = caller.tenant;
  layout.chunk_tokens = spec.chunk_tokens;
  for (size_t i = 0; i < spec.planes.size(); ++i) {
    const PlaneSpec& plane = spec.planes[i];
    layout.plane_bytes.push_back(plane.bytes_per_chunk);
    layout.required.push_back(plane.required);
    if (plane.required) {
      ++layout.required_count;
    } else if (plane.kind == PlaneKind::kWindow || plane.kind == PlaneKind::kState) {
      const uint32_t tokens = plane.kind == PlaneKind::kState ? 1 : plane.window_tokens;
      layout.resume_planes.push_back({PlaneIndex(static_cast<uint16_t>(i)), tokens});
    }
  }
  s.blocks.AddModel(std::move(layout));
  s.specs.push_back({caller.tenant, spec, fingerprint});
  return RegisteredModel{ModelId(static_cast<uint16_t>(s.specs.size() - 1)), fingerprint};
}

absl::StatusOr<const RegisteredSpec*> Engine::State::FindSpec(TenantId tenant,
                                                              ModelId model) const {
  if (model.value() >= specs.size() || specs[model.value()].tenant != tenant) {
    return absl::NotFoundError(absl::StrFormat("model %d is not registered", model.value()));
  }
  return &specs[model.value()];
}

absl::StatusOr<wire::KeyScope> Engine::Scope(Caller caller, ModelId model) const {
  KVTIER_RETURN_IF_ERROR(state_->FindSession(caller).status());
  KVTIER_ASSIGN_OR_RETURN(const RegisteredSpec* spec, state_->FindSpec(caller.tenant, model));
  return wire::KeyScope{state_->tenants[caller.tenant.value()].salt, spec->fingerprint};
}

const ModelSpec* Engine::FindModel(TenantId tenant, ModelId model) const {
  const auto spec = state_->FindSpec(tenant, model);
  return spec.ok() ? &(*spec)->spec : nullptr;
}

}  // namespace kvtier
