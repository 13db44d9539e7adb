// Reserving, committing and forgetting.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {
namespace {

// Numbers of a request's planes, checked: known, not twice. Empty means all.
absl::StatusOr<std::vector<PlaneIndex>> CheckPlanes(const ModelSpec& spec,
                                                    const std::vector<PlaneIndex>& planes) {
  const size_t count = spec.planes.size();
  std::vector<PlaneIndex> result;
  if (planes.empty()) {
    for (size_t i = 0; i < count; ++i) result.push_back(PlaneIndex(static_cast<uint16_t>(i)));
    return result;
  }
  if (planes.size() > count) {
    return absl::InvalidArgumentError(absl::StrFormat("%d planes are named; model \"%s\" has %d",
                                                      planes.size(), spec.name, count));
  }
  std::vector<bool> seen(count);
  for (const PlaneIndex plane : planes) {
    if (plane.value() >= count) {
      return absl::InvalidArgumentError(
          absl::StrFormat("plane %d does not belong to model \"%s\", which has %d", plane.value(),
                          spec.name, count));
    }
    if (seen[plane.value()]) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "plane %d (\"%s\") is named twice", plane.value(), spec.planes[plane.value()].name));
    }
    seen[plane.value()] = true;
  }
  return planes;
}

absl::Status CheckParent(const BlockTable& blocks, RowIndex parent, const wire::ChunkKey& key) {
  if (parent == kNoRow || blocks.hidden(parent)) {
    return absl::FailedPreconditionError(
        absl::StrFormat("parent chunk %s is not committed", key.ToHex()));
  }
  const uint32_t full = blocks.layout(blocks.model(parent)).chunk_tokens;
  if (blocks.token_count(parent) != full) {
    return absl::FailedPreconditionError(
        absl::StrFormat("parent chunk %s has %d of %d tokens; a partial chunk is a leaf",
                        key.ToHex(), blocks.token_count(parent), full));
  }
  return absl::OkStatus();
}

}  // namespace

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
  if (s.reservations.full()) {
    return refused(absl::StrFormat("%d reservations are open; the limit is %d",
                                   s.reservations.size(), s.limits.reservations_max));
  }

  // Neighbouring planes that go to the same pools in slots of the same size share a run.
  struct Run {
    std::vector<PoolId> pools;
    Bytes block_bytes;
    size_t first = 0, count = 0;  // positions in reservation.planes
  };
  std::vector<Run> runs;
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
      runs.push_back({pools, bytes, i, 1});
    }
  }
  reservation.bytes = chunk_bytes * args.chunk_count;
  if (session->reserved + reservation.bytes > s.limits.reserved_bytes_max) {
    return refused(
        absl::StrFormat("session %d has %d bytes reserved and asks for %d more; the limit is %d",
                        caller.session.value(), session->reserved.count(),
                        reservation.bytes.count(), s.limits.reserved_bytes_max.count()));
  }

  // The parent is pinned first: making room must not drop it.
  if (reservation.parent != kNoRow) s.blocks.Pin(reservation.parent);
  for (uint32_t chunk = 0; chunk < args.chunk_count; ++chunk) {
    for (const Run& run : runs) {
      if (s.AllocateSlots(caller.tenant, run.pools, run.block_bytes, run.count, reservation.slots))
        continue;
      for (const CopyRef slot : reservation.slots) s.allocator(slot.pool()).Free(slot);
      if (reservation.parent != kNoRow) s.UnpinRow(reservation.parent);
      const PoolId pool = run.pools.back();
      const PoolRoom room = s.Room(caller.tenant, pool);
      return refused(absl::StrFormat(
          "pool %s: no room for %d blocks of %d bytes for tenant \"%s\", which uses %d of %d "
          "bytes, and nothing "
          "of it can be evicted now",
          s.pools[pool.value()]->description().name, run.count, run.block_bytes.count(),
          s.tenants[caller.tenant.value()].name, room.used.count(), room.limit.count()));
    }
  }
  reservation.session = caller.session;
  reservation.model = args.model;
  reservation.chunk_count = args.chunk_count;
  reservation.rows.assign(args.chunk_count, kNoRow);
  reservation.open_slots = reservation.slots.size();
  session->reserved += reservation.bytes;
  s.counts.reserved_chunks += args.chunk_count;
  return ReservationId(s.reservations.Add(session->reservations, std::move(reservation)));
}

absl::StatusOr<ReservationInfo> Engine::Describe(Caller caller, ReservationId id) const {
  KVTIER_ASSIGN_OR_RETURN(const Reservation* reservation, state_->FindReservation(caller, id));
  return ReservationInfo{reservation->model, reservation->chunk_count, reservation->planes};
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
  return WriteTarget{s.AddressOf(slot), s.BytesOf(slot),
                     s.blocks.layout(reservation->model).plane_bytes[plane.value()]};
}

absl::StatusOr<CommitOutcome> Engine::Commit(Caller caller, ReservationId id,
                                             const CommitArgs& args, absl::Time now) {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(Reservation * reservation, s.FindReservation(caller, id));
  const auto bad = [&](std::string what) {
    return absl::InvalidArgumentError(
        absl::StrFormat("commit of chunk %d of reservation %d: %s", args.chunk, id.value(), what));
  };
  if (args.chunk >= reservation->chunk_count) {
    return bad(absl::StrFormat("the reservation has %d chunks", reservation->chunk_count));
  }
  const ModelId model = reservation->model;
  const ModelSpec& spec = s.specs[model.value()].spec;
  if (args.token_count < 1 || args.token_count > spec.chunk_tokens) {
    return bad(absl::StrFormat("token_count is %d; 1 to %d are allowed", args.token_count,
                               spec.chunk_tokens));
  }
  if (args.key.is_zero()) return bad("the key is zero, which stands for no parent");

  // Positions of the planes within the reservation.
  const std::vector<PlaneIndex>& reserved = reservation->planes;
  const size_t stride = reserved.size();
  std::vector<size_t> positions;
  if (args.planes.empty()) {
    for (size_t i = 0; i < stride; ++i) positions.push_back(i);
  } else {
    KVTIER_ASSIGN_OR_RETURN(const std::vector<PlaneIndex> planes, CheckPlanes(spec, args.planes));
    for (const PlaneIndex plane : planes) {
      const auto found = std::find(reserved.begin(), reserved.end(), plane);
      if (found == reserved.end()) {
        return bad(absl::StrFormat("plane %d is not in the reservation", plane.value()));
      }
      positions.push_back(static_cast<size_t>(found - reserved.begin()));
    }
  }
  if (args.checksums.size() != positions.size()) {
    return bad(
        absl::StrFormat("%d checksums for %d planes", args.checksums.size(), positions.size()));
  }
  for (const size_t position : positions) {
    if (!reservation->slots[args.chunk * stride + position].valid()) {
      return absl::FailedPreconditionError(
          absl::StrFormat("chunk %d, plane %d of reservation %d is committed already", args.chunk,
                          reserved[position].value(), id.value()));
    }
  }

  // The parent, by order within the reservation.
  RowIndex parent = reservation->parent;
  if (args.chunk > 0) {
    parent = reservation->rows[args.chunk - 1];
    if (parent == kNoRow) {
      return absl::FailedPreconditionError(
          absl::StrFormat("chunk %d of reservation %d: its parent, chunk %d, is not committed",
                          args.chunk, id.value(), args.chunk - 1));
    }
  }
  const wire::ChunkKey parent_key = parent == kNoRow ? wire::ChunkKey{} : s.blocks.key(parent);
  if (parent != kNoRow) KVTIER_RETURN_IF_ERROR(CheckParent(s.blocks, parent, parent_key));
  if (args.parent && *args.parent != parent_key) {
    return bad(absl::StrFormat("its name says parent %s, its place in the reservation %s",
                               args.parent->ToHex(), parent_key.ToHex()));
  }

  bool created = false;
  RowIndex row = s.blocks.Find(model, args.key);
  if (row != kNoRow) {
    if (s.blocks.parent(row) != parent) {
      return bad(absl::StrFormat("chunk %s is committed with another parent", args.key.ToHex()));
    }
    if (s.blocks.token_count(row) != args.token_count) {
      return bad(absl::StrFormat("chunk %s is committed with %d tokens, not %d", args.key.ToHex(),
                                 s.blocks.token_count(row), args.token_count));
    }
    if (reservation->rows[args.chunk] != kNoRow && reservation->rows[args.chunk] != row) {
      return bad(absl::StrFormat("other planes of it were committed as another chunk than %s",
                                 args.key.ToHex()));
    }
  } else {
    if (reservation->rows[args.chunk] != kNoRow) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "chunk %d of reservation %d was forgotten after some of its planes were committed",
          args.chunk, id.value()));
    }
    row = s.blocks.Create(model, args.key, parent, args.token_count);
    if (row == kNoRow) {
      for (size_t pool = s.allocators.size(); pool-- > 0 && row == kNoRow;) {
        if (!s.EvictOne(caller.tenant, PoolId(static_cast<uint8_t>(pool)))) continue;
        row = s.blocks.Create(model, args.key, parent, args.token_count);
      }
    }
    if (row == kNoRow) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "the block table has %d chunks; the limit is %d, and nothing of tenant \"%s\" can be "
          "evicted now",
          s.blocks.row_count(), s.limits.chunks_max, s.tenants[caller.tenant.value()].name));
    }
    created = true;
  }

  bool any_new = false;
  for (size_t i = 0; i < positions.size(); ++i) {
    CopyRef& slot = reservation->slots[args.chunk * stride + positions[i]];
    const PlaneIndex plane = reserved[positions[i]];
    if (s.blocks.block(row, plane).best.valid()) {
      s.Retire(slot);  // another writer was first; ours may still be read by whoever wrote it
    } else {
      s.blocks.SetFirst(row, plane, slot, args.checksums[i]);
      s.allocator(slot.pool()).SetOwner(slot, row);
      any_new = true;
    }
    slot = CopyRef();
    --reservation->open_slots;
  }
  if (reservation->rows[args.chunk] == kNoRow) {
    reservation->rows[args.chunk] = row;
    s.blocks.Pin(row);
  }
  const CommitOutcome outcome = s.Publish(row, any_new);
  if (created && outcome == CommitOutcome::kPartial) {
    // Each live row is here at most once, so what this leaves is at most half of the maximum.
    if (s.incomplete.size() >= 2 * size_t{s.blocks.row_count()} + 64) {
      s.incomplete.erase(std::remove_if(s.incomplete.begin(), s.incomplete.end(),
                                        [&](const IncompleteChunk& c) { return s.Settled(c); }),
                         s.incomplete.end());
    }
    s.incomplete.push_back(
        {row, s.blocks.generation(row), caller.session, now + s.limits.incomplete_chunk_ttl});
  }
  if (reservation->open_slots == 0) {
    Session* session = s.sessions.Find(caller.session.value());
    s.EndReservation(*session, id);
  }
  return outcome;
}

CommitOutcome Engine::State::Publish(RowIndex row, bool any_new) {
  if (!any_new) {
    ++counts.already_existing_chunks;
    return CommitOutcome::kAlreadyExists;
  }
  if (!blocks.Visible(row)) return CommitOutcome::kPartial;
  if (!blocks.was_visible(row)) {
    blocks.MarkVisible(row);
    policy->OnCommit(row);
    ++counts.committed_chunks;
  } else {
    policy->OnResidency(row);  // a lost block came back, or an optional plane was added
  }
  Log(row, EventKind::kCommitted);
  return CommitOutcome::kCommitted;
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
  for (const CopyRef slot : reservation.slots) {
    if (slot.valid()) Retire(slot);
  }
  // Tails first, so that a forgotten chain is freed from its end.
  for (size_t i = reservation.rows.size(); i-- > 0;) {
    if (reservation.rows[i] != kNoRow) UnpinRow(reservation.rows[i]);
  }
  if (reservation.parent != kNoRow) UnpinRow(reservation.parent);
}

absl::StatusOr<uint32_t> Engine::Forget(Caller caller, ModelId model,
                                        absl::Span<const wire::ChunkKey> keys) {
  State& s = *state_;
  KVTIER_RETURN_IF_ERROR(s.FindSession(caller).status());
  KVTIER_RETURN_IF_ERROR(s.FindSpec(caller.tenant, model).status());
  if (keys.size() > s.limits.chunks_per_call_max) {
    return absl::InvalidArgumentError(absl::StrFormat("%d keys in one call; at most %d",
                                                      keys.size(), s.limits.chunks_per_call_max));
  }
  uint32_t forgotten = 0;
  for (const wire::ChunkKey& key : keys) {
    const RowIndex row = s.blocks.Find(model, key);
    if (row != kNoRow) forgotten += s.HideSubtree(row);
  }
  s.counts.forgotten_chunks += forgotten;
  return forgotten;
}

}  // namespace kvtier
