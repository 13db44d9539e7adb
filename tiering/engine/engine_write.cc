// Committing and forgetting.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine_state.h"
#include "tiering/engine/write_checks.h"

namespace kvtier {

absl::StatusOr<CommitOutcome> Engine::Commit(Caller caller, ReservationId id,
                                             const CommitArgs& args, absl::Time now) {
  State& s = *state_;
  KVTIER_RETURN_IF_ERROR(Heartbeat(caller, now));
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
  absl::InlinedVector<size_t, 8> positions;
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
    KVTIER_RETURN_IF_ERROR(s.CheckSealed(reservation->slots[args.chunk * stride + position]));
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
    row = s.CreateRow(caller.tenant, model, args.key, parent, args.token_count);
    if (row == kNoRow) {
      for (size_t pool = s.allocators.size(); pool-- > 0 && row == kNoRow;) {
        if (s.EvictOne(caller.tenant, PoolId(static_cast<uint8_t>(pool))) == Bytes(0)) continue;
        row = s.CreateRow(caller.tenant, model, args.key, parent, args.token_count);
      }
    }
    if (row == kNoRow) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "tenant \"%s\" has %d chunks and %d blocks in the block table; the limits are %d and %d, "
          "and nothing of it can be evicted now",
          s.tenants[caller.tenant.value()].name, s.use[caller.tenant.value()].chunks,
          s.use[caller.tenant.value()].blocks, s.Share(s.limits.chunks_max),
          s.Share(s.limits.blocks_max)));
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
  s.access_clocks[caller.tenant.value()].Observe(now);
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
