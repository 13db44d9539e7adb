// Reservations: their slots, where they are written, and their end.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine_state.h"
#include "tiering/engine/write_checks.h"

namespace kvtier {

absl::StatusOr<Reservation*> Engine::State::FindReservation(Caller caller, ReservationId id) {
  KVTIER_RETURN_IF_ERROR(FindSession(caller).status());
  Reservation* reservation = reservations.Find(id.value());
  if (reservation == nullptr || reservation->session != caller.session) {
    return absl::NotFoundError(absl::StrFormat("reservation %d is not held by session %d",
                                               id.value(), caller.session.value()));
  }
  return reservation;
}

absl::StatusOr<ReservationId> Engine::Reserve(Caller caller, const ReserveArgs& args,
                                              absl::Time now) {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(Session * session, s.FindSession(caller));
  session->seen = std::max(session->seen, now);
  KVTIER_ASSIGN_OR_RETURN(const RegisteredSpec* spec, s.FindSpec(caller.tenant, args.model));
  if (args.chunk_count < 1 || args.chunk_count > s.limits.chunks_per_call_max) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "chunk_count is %d; 1 to %d are allowed", args.chunk_count, s.limits.chunks_per_call_max));
  }
  Reservation reservation;
  KVTIER_ASSIGN_OR_RETURN(reservation.planes, CheckPlanes(spec->spec, args.planes));
  if (!args.parent.is_zero()) {
    reservation.parent = s.blocks.Find(args.model, args.parent);
    KVTIER_RETURN_IF_ERROR(CheckParent(s.blocks, reservation.parent, args.parent));
  }
  const auto refused = [&](const std::string& why) {
    ++s.counts.reservations_refused;
    return absl::ResourceExhaustedError(why);
  };
  if (absl::Status sections = s.CheckSections(*session); !sections.ok())
    return refused(std::string(sections.message()));
  TenantUse& use = s.use[caller.tenant.value()];
  if (absl::Status share = s.CheckShare(caller.tenant, "reservations", use.reservations,
                                        s.reservations.size(), s.limits.reservations_max);
      !share.ok()) {
    return refused(std::string(share.message()));
  }

  std::vector<State::SlotGroup> runs;
  Bytes chunk_bytes;
  std::vector<PoolId> pools;
  for (size_t i = 0; i < reservation.planes.size(); ++i) {
    const PlaneIndex plane = reservation.planes[i];
    pools.clear();
    s.policy->PlaceNew(caller.tenant, args.model, plane, pools);
    KVTIER_CHECK(!pools.empty());
    const Bytes bytes = spec->spec.planes[plane.value()].bytes_per_chunk;
    chunk_bytes += s.SlotBytes(args.model, plane);
    if (!runs.empty() && runs.back().pools == pools &&
        s.allocators[0]->SlotBytes(runs.back().block_bytes) == s.allocators[0]->SlotBytes(bytes)) {
      runs.back().block_bytes = std::max(runs.back().block_bytes, bytes);
      ++runs.back().count;
    } else {
      runs.push_back({pools, bytes, 1});
    }
  }
  if (args.chunk_count > (s.limits.reserved_bytes_max - session->reserved) / chunk_bytes) {
    return refused(absl::StrFormat(
        "session %d has %d bytes reserved and asks for %d chunks of %d bytes; the limit is %d "
        "(reserved_bytes_max)",
        caller.session.value(), session->reserved.count(), args.chunk_count, chunk_bytes.count(),
        s.limits.reserved_bytes_max.count()));
  }
  reservation.bytes = chunk_bytes * args.chunk_count;
  if (absl::Status fits = s.CheckFits(caller.tenant, runs, args.chunk_count); !fits.ok()) {
    return refused(std::string(fits.message()));
  }

  // The parent is pinned first: making room must not drop it.
  if (reservation.parent != kNoRow) s.blocks.Pin(reservation.parent);
  if (args.in_place && session->shared != ShmClientId()) {
    s.share->AskToWrite(session->shared, s.SlotSizes(runs), now);
    if (!s.WritersCrowd(caller.tenant) &&
        s.AllocateChunks({caller.tenant, session->shared}, runs, args.chunk_count,
                         reservation.slots) == nullptr) {
      reservation.writer = session->shared;
      s.share->Find(session->shared)->reserved_at = now;
    }
  }
  if (reservation.writer == ShmClientId()) {
    const State::SlotGroup* const without_room =
        s.AllocateChunks({caller.tenant, {}}, runs, args.chunk_count, reservation.slots);
    if (without_room != nullptr) {
      if (reservation.parent != kNoRow) s.UnpinRow(reservation.parent);
      const PoolId pool = without_room->pools.back();
      const PoolRoom room = s.Room(caller.tenant, pool);
      const SlotAllocator& slots = s.allocator(pool);
      const absl::Status& growth = slots.growth(caller.tenant);
      return refused(absl::StrFormat(
          "pool %s: no room for %d blocks of %d bytes for tenant \"%s\", which uses %d of %d bytes "
          "in %d held, and what may be evicted for them now does not make the room; %d of the "
          "segments there are inboxes of single clients, of %d bytes each%s%s",
          s.pools[pool.value()]->description().name, without_room->count,
          without_room->block_bytes.count(), s.tenants[caller.tenant.value()].name,
          room.used.count(), room.limit.count(), slots.held(caller.tenant).count(),
          slots.inboxes(caller.tenant), s.pools[pool.value()]->segment_bytes().count(),
          growth.ok() ? "" : "; ", growth.message()));
    }
  }
  reservation.session = caller.session;
  reservation.model = args.model;
  reservation.chunk_count = args.chunk_count;
  reservation.rows.assign(args.chunk_count, kNoRow);
  reservation.open_slots = reservation.slots.size();
  session->reserved += reservation.bytes;
  ++use.reservations;
  s.counts.reserved_chunks += args.chunk_count;
  return ReservationId(s.reservations.Add(session->reservations, std::move(reservation)));
}

uint32_t Engine::State::SlotSizes(const std::vector<SlotGroup>& groups) const {
  uint32_t sizes = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const Bytes size = allocators[0]->SlotBytes(groups[i].block_bytes);
    sizes += std::none_of(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(i),
                          [&](const SlotGroup& earlier) {
                            return allocators[0]->SlotBytes(earlier.block_bytes) == size;
                          });
  }
  return sizes;
}

bool Engine::State::WritersCrowd(TenantId tenant) const {
  int64_t segments = 0;
  for (size_t p = 0; p < allocators.size(); ++p) {
    const PoolId pool(static_cast<uint8_t>(p));
    segments += Room(tenant, pool).limit / pools[p]->segment_bytes();
  }
  return 2 * share->inboxes_wanted(tenant) > static_cast<uint64_t>(segments);
}

const Engine::State::SlotGroup* Engine::State::AllocateChunks(SlotUser user,
                                                              const std::vector<SlotGroup>& groups,
                                                              uint32_t chunk_count,
                                                              std::vector<CopyRef>& slots) {
  // Not everything is dropped where chunks in use leave too little room: some chunks free more
  // elsewhere than where it is wanted, and another slot size or writer takes a whole segment.
  RoomMaking making;
  for (const SlotGroup& group : groups) {
    making.allowance += allocators[0]->SlotBytes(group.block_bytes) *
                            static_cast<int64_t>(group.count * chunk_count * 4) +
                        pools[group.pools.back().value()]->segment_bytes();
  }
  for (uint32_t chunk = 0; chunk < chunk_count; ++chunk) {
    for (const SlotGroup& group : groups) {
      if (AllocateSlots(user, group.pools, group.block_bytes, group.count, chunk_count - chunk,
                        making, slots)) {
        continue;
      }
      for (const CopyRef slot : slots) allocator(slot.pool()).Free(slot);
      slots.clear();
      return &group;
    }
  }
  return nullptr;
}

absl::Status Engine::State::CheckFits(TenantId tenant, const std::vector<SlotGroup>& groups,
                                      uint32_t chunk_count) const {
  const auto refuse = [&](const std::string& where, Bytes needed, Bytes limit) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: %d chunks take %d bytes there; tenant \"%s\" may have %d", where,
                        chunk_count, needed.count(), tenants[tenant.value()].name, limit.count()));
  };
  Bytes needed, reachable;
  for (size_t p = 0; p < allocators.size(); ++p) {
    const PoolId pool(static_cast<uint8_t>(p));
    Bytes here_only;
    bool wanted = false;
    for (const SlotGroup& group : groups) {
      const Bytes bytes = allocators[p]->SlotBytes(group.block_bytes) *
                          static_cast<int64_t>(group.count) * chunk_count;
      if (p == 0) needed += bytes;
      if (std::find(group.pools.begin(), group.pools.end(), pool) == group.pools.end()) continue;
      wanted = true;
      if (group.pools.size() == 1) here_only += bytes;
    }
    const Bytes limit = Room(tenant, pool).limit;
    if (here_only > limit) {
      return refuse("pool " + pools[p]->description().name, here_only, limit);
    }
    if (wanted) reachable += limit;
  }
  if (needed > reachable) return refuse("all pools", needed, reachable);
  return absl::OkStatus();
}

absl::StatusOr<ReservationInfo> Engine::Describe(Caller caller, ReservationId id) const {
  KVTIER_ASSIGN_OR_RETURN(const Reservation* reservation, state_->FindReservation(caller, id));
  return ReservationInfo{reservation->model, reservation->chunk_count, reservation->planes,
                         reservation->writer != ShmClientId()};
}

absl::StatusOr<WriteTarget> Engine::Target(Caller caller, ReservationId id, uint32_t chunk,
                                           PlaneIndex plane) const {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(const Reservation* reservation, s.FindReservation(caller, id));
  if (chunk >= reservation->chunk_count) {
    return absl::InvalidArgumentError(
        absl::StrFormat("chunk %d is not in reservation %d, which has %d chunks", chunk, id.value(),
                        reservation->chunk_count));
  }
  const auto& planes = reservation->planes;
  const auto found = std::find(planes.begin(), planes.end(), plane);
  if (found == planes.end()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("plane %d is not in reservation %d", plane.value(), id.value()));
  }
  const CopyRef slot =
      reservation->slots[chunk * planes.size() + static_cast<size_t>(found - planes.begin())];
  if (!slot.valid()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "chunk %d, plane %d of reservation %d is committed already; committed blocks never change",
        chunk, plane.value(), id.value()));
  }
  if (reservation->writer != ShmClientId()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "reservation %d is in place: its client writes it through its own mapping", id.value()));
  }
  return WriteTarget{s.AddressOf(slot), s.BytesOf(slot),
                     s.blocks.layout(reservation->model).plane_bytes[plane.value()]};
}

absl::Status Engine::Abort(Caller caller, ReservationId id) {
  State& s = *state_;
  KVTIER_RETURN_IF_ERROR(s.FindReservation(caller, id).status());
  KVTIER_ASSIGN_OR_RETURN(Session * session, s.FindSession(caller));
  s.EndReservation(*session, id);
  return absl::OkStatus();
}

void Engine::State::EndReservation(Session& session, ReservationId id) {
  const Reservation reservation = reservations.Remove(session.reservations, id.value());
  session.reserved -= reservation.bytes;
  --use[session.tenant.value()].reservations;
  for (const CopyRef slot : reservation.slots) {
    if (slot.valid()) Retire(slot);
  }
  // Tails first, so that a forgotten chain is freed from its end.
  for (size_t i = reservation.rows.size(); i-- > 0;) {
    if (reservation.rows[i] != kNoRow) UnpinRow(reservation.rows[i]);
  }
  if (reservation.parent != kNoRow) UnpinRow(reservation.parent);
}

}  // namespace kvtier
