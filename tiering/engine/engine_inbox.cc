// Blocks that clients write and read through mappings of their own: inboxes, the segments that a
// client may map, and checks of what is in them.
#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {
namespace {

static_assert(SlotAllocator::kIncarnationMax == wire::ResidencyWord::kIncarnationMax);

// Rows and copies together that NextToScrub looks at, so that a call never takes long.
constexpr uint32_t kScrubLooksPerCall = 4096;

CopyRef CopyOf(wire::ResidencyWord word) {
  return CopyRef(PoolId(static_cast<uint8_t>(word.pool())), SegmentIndex(word.segment()),
                 word.slot());
}

}  // namespace

wire::ResidencyWord Engine::State::WordOf(CopyRef slot) const {
  return wire::ResidencyWord(slot.bits(), allocator(slot.pool()).Incarnation(slot));
}

std::optional<TenantId> Engine::State::TenantOf(ShmClientId client) const {
  const EngineShare::Client* found = share == nullptr ? nullptr : share->Find(client);
  if (found == nullptr) return std::nullopt;
  return found->tenant;
}

absl::StatusOr<SlotAllocator::SegmentUse> Engine::State::FindUse(TenantId tenant,
                                                                 wire::ResidencyWord word) const {
  std::optional<SlotAllocator::SegmentUse> found;
  if (word.valid() && word.pool() < allocators.size())
    found = allocators[word.pool()]->UseOf(SegmentIndex(word.segment()));
  if (!found || found->tenant != tenant || found->incarnation != word.incarnation()) {
    return absl::NotFoundError(
        absl::StrFormat("pool %d, segment %d: use %d of it is over, or never was", word.pool(),
                        word.segment(), word.incarnation()));
  }
  return *found;
}

absl::Status Engine::State::CheckSealed(CopyRef slot) const {
  if (allocator(slot.pool()).UseOf(slot.segment())->sealed) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat(
      "pool %d, segment %d can still be mapped for writing: nothing in it can be committed",
      slot.pool().value(), slot.segment().value()));
}

void Engine::State::EndWriter(ShmClientId client) {
  for (const auto& slots : allocators) slots->EndWriter(client);
}

absl::Status Engine::ReservationWords(Caller caller, ReservationId id,
                                      std::vector<uint64_t>& words) const {
  const State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(const Reservation* reservation, state_->FindReservation(caller, id));
  if (reservation->writer == ShmClientId()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("reservation %d is not in place", id.value()));
  }
  words.clear();
  for (const CopyRef slot : reservation->slots)
    words.push_back(slot.valid() ? s.WordOf(slot).bits() : 0);
  return absl::OkStatus();
}

absl::StatusOr<SegmentGrant> Engine::GrantSegment(ShmClientId client, wire::ResidencyWord word,
                                                  bool writable) {
  State& s = *state_;
  const std::optional<TenantId> tenant = s.TenantOf(client);
  if (!tenant) {
    return absl::NotFoundError(
        absl::StrFormat("client %d of shared memory is not attached", client.value()));
  }
  const absl::StatusOr<SlotAllocator::SegmentUse> found = s.FindUse(*tenant, word);
  if (!found.ok()) {
    if (writable || !s.FindGranted(client, word).ok()) return found.status();
    return absl::UnavailableError(
        absl::StrFormat("pool %d, segment %d: nothing is in it; it is kept for client %d as it is",
                        word.pool(), word.segment(), client.value()));
  }
  const SlotAllocator::SegmentUse& use = *found;
  const SegmentGrant grant{.pool = PoolId(static_cast<uint8_t>(word.pool())),
                           .segment = SegmentIndex(word.segment()),
                           .slot_bytes = use.slot_bytes,
                           .writable = writable};
  if (!writable) {
    if (use.sealed) return grant;
    return absl::UnavailableError(
        absl::StrFormat("pool %d, segment %d: its writer, client %d, has not mapped it yet",
                        word.pool(), word.segment(), use.writer.value()));
  }
  if (use.writer != client) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "pool %d, segment %d is not an inbox of client %d and cannot be mapped for writing by it",
        word.pool(), word.segment(), client.value()));
  }
  if (use.granted) {
    return absl::FailedPreconditionError(
        absl::StrFormat("pool %d, segment %d was given to client %d for writing before",
                        word.pool(), word.segment(), client.value()));
  }
  s.allocator(grant.pool).MarkGranted(grant.segment);
  return grant;
}

absl::StatusOr<SlotAllocator::InboxUse> Engine::State::FindGranted(ShmClientId client,
                                                                   wire::ResidencyWord word) const {
  const std::optional<TenantId> tenant = TenantOf(client);
  if (!tenant) {
    return absl::NotFoundError(
        absl::StrFormat("client %d of shared memory is not attached", client.value()));
  }
  std::optional<SlotAllocator::InboxUse> inbox;
  if (word.valid() && word.pool() < allocators.size())
    inbox = allocators[word.pool()]->InboxOf(SegmentIndex(word.segment()));
  if (!inbox || inbox->incarnation != word.incarnation() || TenantOf(inbox->writer) != tenant) {
    return absl::NotFoundError(
        absl::StrFormat("pool %d, segment %d: use %d of it is over, or was no inbox", word.pool(),
                        word.segment(), word.incarnation()));
  }
  if (inbox->writer != client || !inbox->granted) {
    return absl::FailedPreconditionError(
        absl::StrFormat("pool %d, segment %d was not given to client %d for writing", word.pool(),
                        word.segment(), client.value()));
  }
  return *inbox;
}

absl::Status Engine::SegmentReturned(ShmClientId client, wire::ResidencyWord word) {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(const SlotAllocator::InboxUse inbox, s.FindGranted(client, word));
  if (inbox.sealed) {
    return absl::FailedPreconditionError(
        absl::StrFormat("pool %d, segment %d is sealed and cannot be given to client %d again",
                        word.pool(), word.segment(), client.value()));
  }
  s.allocator(PoolId(static_cast<uint8_t>(word.pool()))).MarkReturned(SegmentIndex(word.segment()));
  return absl::OkStatus();
}

absl::Status Engine::SegmentSealed(ShmClientId client, wire::ResidencyWord word) {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(const SlotAllocator::InboxUse inbox, s.FindGranted(client, word));
  if (inbox.sealed) {
    return absl::FailedPreconditionError(
        absl::StrFormat("pool %d, segment %d is sealed already", word.pool(), word.segment()));
  }
  s.allocator(PoolId(static_cast<uint8_t>(word.pool()))).MarkSealed(SegmentIndex(word.segment()));
  return absl::OkStatus();
}

absl::Status Engine::CheckSealed(ShmClientId client, wire::ResidencyWord word) const {
  KVTIER_ASSIGN_OR_RETURN(const SlotAllocator::InboxUse inbox, state_->FindGranted(client, word));
  if (inbox.sealed) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("pool %d, segment %d is not sealed", word.pool(), word.segment()));
}

ReadTarget Engine::State::TargetOf(RowIndex row, PlaneIndex plane, CopyRef copy) const {
  ReadTarget target;
  target.plane = plane;
  target.row = row;
  target.bytes = blocks.layout(blocks.model(row)).plane_bytes[plane.value()];
  target.checksum = blocks.block(row, plane).checksum;
  target.copy_count = 1;
  target.copies[0] = {copy.pool(), AddressOf(copy), BytesOf(copy)};
  return target;
}

absl::StatusOr<ReadTarget> Engine::ResolveWord(Caller caller, uint64_t row_name, PlaneIndex plane,
                                               wire::ResidencyWord word) const {
  State& s = *state_;
  KVTIER_RETURN_IF_ERROR(s.FindSession(caller).status());
  KVTIER_RETURN_IF_ERROR(s.FindUse(caller.tenant, word).status());
  const CopyRef copy = CopyOf(word);
  const RowIndex row = s.allocator(copy.pool()).owner(copy);
  const bool is_there =
      row != kNoRow && s.share != nullptr && s.share->NameOf(row) == row_name &&
      plane.value() < s.blocks.plane_count(s.blocks.model(row)) &&
      (s.blocks.block(row, plane).best == copy || s.blocks.block(row, plane).second == copy);
  if (!is_there) {
    return absl::NotFoundError(
        absl::StrFormat("pool %d, segment %d, slot %d: plane %d of row %d is not there",
                        word.pool(), word.segment(), word.slot(), plane.value(), row_name));
  }
  return s.TargetOf(row, plane, copy);
}

bool Engine::NextToScrub(uint64_t& cursor, ReadTarget& target) const {
  // Row, plane and which of its copies: 32, 16 and 1 bits.
  const State& s = *state_;
  uint64_t row = cursor >> 17;
  uint64_t block = cursor & 0x1ffff;
  uint32_t looks = 0;
  for (; row < s.blocks.row_end() && looks < kScrubLooksPerCall; ++row, block = 0) {
    const RowIndex index = static_cast<RowIndex>(row);
    ++looks;
    if (!s.blocks.live(index)) continue;
    const uint64_t end = 2 * s.blocks.plane_count(s.blocks.model(index));
    for (; block < end; ++block, ++looks) {
      if (looks >= kScrubLooksPerCall) {
        cursor = row << 17 | block;
        return false;
      }
      const PlaneIndex plane(static_cast<uint16_t>(block / 2));
      const Block& copies = s.blocks.block(index, plane);
      const CopyRef copy = block % 2 == 0 ? copies.best : copies.second;
      if (!copy.valid() || s.BytesOf(copy) == nullptr) continue;
      target = s.TargetOf(index, plane, copy);
      cursor = row << 17 | (block + 1);
      return true;
    }
  }
  cursor = row < s.blocks.row_end() ? row << 17 : 0;
  return false;
}

}  // namespace kvtier
