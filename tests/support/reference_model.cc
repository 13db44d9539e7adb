#include "tests/support/reference_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tiering/base/check.h"

namespace kvtier::test_support {
namespace {

using Code = absl::StatusCode;

bool ValidPlanes(const ModelSpec& spec, const std::vector<PlaneIndex>& planes) {
  std::set<uint16_t> seen;
  return std::all_of(planes.begin(), planes.end(), [&](PlaneIndex plane) {
    return plane.value() < spec.planes.size() && seen.insert(plane.value()).second;
  });
}

std::set<uint16_t> PlaneSet(const ModelSpec& spec, const std::vector<PlaneIndex>& planes) {
  std::set<uint16_t> result;
  for (const PlaneIndex plane : planes) result.insert(plane.value());
  for (size_t i = 0; planes.empty() && i < spec.planes.size(); ++i) {
    result.insert(static_cast<uint16_t>(i));
  }
  return result;
}

}  // namespace

bool Expected::Allows(const absl::Status& status) const {
  if (may_exhaust && status.code() == Code::kResourceExhausted) return true;
  return errors.empty() ? status.ok() : errors.contains(status.code());
}

std::string Expected::ToString() const {
  std::string text = errors.empty() ? "OK" : "";
  for (const Code code : errors)
    absl::StrAppend(&text, text.empty() ? "" : " or ", absl::StatusCodeToString(code));
  return may_exhaust ? text + " or RESOURCE_EXHAUSTED" : text;
}

// --- sessions and models ---

Expected ReferenceModel::AttachExpected(TenantId tenant) const {
  size_t own = 0;
  for (const auto& [id, session] : sessions_) own += session.tenant == tenant;
  if (own >= Share(limits_.sessions_max) || sessions_.size() >= limits_.sessions_max)
    return {.errors = {Code::kResourceExhausted}};
  return {};
}

void ReferenceModel::Attached(Caller caller, absl::Time now) {
  sessions_[caller.session] = {.tenant = caller.tenant, .seen = now};
}

bool ReferenceModel::SessionAlive(Caller caller) const {
  const auto found = sessions_.find(caller.session);
  return found != sessions_.end() && found->second.tenant == caller.tenant;
}

Expected ReferenceModel::SessionExpected(Caller caller) const {
  if (SessionAlive(caller)) return {};
  return {.errors = {Code::kNotFound}};
}

void ReferenceModel::Seen(Caller caller, absl::Time now) {
  sessions_.at(caller.session).seen = now;
}

void ReferenceModel::Detached(SessionId session) {
  std::vector<LeaseId> leases;
  for (const auto& [id, lease] : leases_) {
    if (lease.caller.session == session) leases.push_back(id);
  }
  for (const LeaseId id : leases) Released(id);
  std::vector<ReservationId> reservations;
  for (const auto& [id, reservation] : reservations_) {
    if (reservation.caller.session == session) reservations.push_back(id);
  }
  for (const ReservationId id : reservations) Aborted(id);
  // What it began and nobody completed goes with it, and what was built on that.
  HideIncomplete([&](const RefChunk& chunk) { return chunk.writer == session; });
  sessions_.erase(session);
}

void ReferenceModel::Registered(TenantId tenant, ModelId model, const ModelSpec& spec) {
  models_[{tenant, model}] = spec;
}

const ModelSpec* ReferenceModel::Model(TenantId tenant, ModelId model) const {
  const auto found = models_.find({tenant, model});
  return found == models_.end() ? nullptr : &found->second;
}

// --- writing ---

Expected ReferenceModel::ReserveExpected(Caller caller, const ReserveArgs& args) const {
  Expected expected = SessionExpected(caller);
  const ModelSpec* spec = Model(caller.tenant, args.model);
  if (spec == nullptr) {
    expected.errors.insert(Code::kNotFound);
    return expected;
  }
  if (args.chunk_count == 0 || args.chunk_count > limits_.chunks_per_call_max ||
      !ValidPlanes(*spec, args.planes)) {
    expected.errors.insert(Code::kInvalidArgument);
  }
  if (!args.parent.is_zero()) {
    const RefChunk* parent = Find(caller.tenant, args.model, args.parent);
    if (parent == nullptr || !CanContinue(*parent))
      expected.errors.insert(Code::kFailedPrecondition);
  }
  expected.may_exhaust = true;
  return expected;
}

void ReferenceModel::PinParent(Caller caller, const ReserveArgs& args) {
  RefChunk* parent = Find(caller.tenant, args.model, args.parent);
  if (parent != nullptr) ++parent->pins;
}

void ReferenceModel::UnpinParent(Caller caller, const ReserveArgs& args) {
  RefChunk* parent = Find(caller.tenant, args.model, args.parent);
  if (parent != nullptr) --parent->pins;
}

void ReferenceModel::Reserved(Caller caller, ReservationId id, const ReserveArgs& args) {
  RefReservation reservation{.caller = caller, .model = args.model};
  const RefChunk* parent = Find(caller.tenant, args.model, args.parent);
  if (parent != nullptr) reservation.parent = parent->id;
  const ModelSpec& spec = *Model(caller.tenant, args.model);
  reservation.chunks.resize(args.chunk_count);
  for (RefReservation::Chunk& chunk : reservation.chunks) {
    chunk.reserved = chunk.open = PlaneSet(spec, args.planes);
  }
  reservations_[id] = std::move(reservation);
}

Expected ReferenceModel::ReservationExpected(Caller caller, ReservationId id) const {
  Expected expected = SessionExpected(caller);
  const auto found = reservations_.find(id);
  if (found == reservations_.end() || found->second.caller.session != caller.session) {
    expected.errors.insert(Code::kNotFound);
  }
  return expected;
}

Expected ReferenceModel::CommitExpected(Caller caller, ReservationId id, const CommitArgs& args,
                                        uint64_t moves_in_flight) const {
  Expected expected = ReservationExpected(caller, id);
  if (!expected.errors.empty()) return expected;
  const RefReservation& reservation = reservations_.at(id);
  const ModelSpec& spec = *Model(caller.tenant, reservation.model);
  std::set<absl::StatusCode>& errors = expected.errors;
  if (args.chunk >= reservation.chunks.size()) return {.errors = {Code::kInvalidArgument}};
  const RefReservation::Chunk& chunk = reservation.chunks[args.chunk];
  if (args.key.is_zero() || args.token_count == 0 || args.token_count > spec.chunk_tokens) {
    errors.insert(Code::kInvalidArgument);
  }
  const size_t planes = args.planes.empty() ? chunk.reserved.size() : args.planes.size();
  if (args.checksums.size() != planes || !ValidPlanes(spec, args.planes)) {
    errors.insert(Code::kInvalidArgument);
  }
  for (const uint16_t plane : args.planes.empty() ? chunk.reserved : PlaneSet(spec, args.planes)) {
    if (!chunk.reserved.contains(plane)) {
      errors.insert(Code::kInvalidArgument);
    } else if (!chunk.open.contains(plane)) {
      errors.insert(Code::kFailedPrecondition);
    }
  }
  const uint64_t parent =
      args.chunk == 0 ? reservation.parent : reservation.chunks[args.chunk - 1].row;
  if (parent == 0) {
    if (args.chunk > 0) errors.insert(Code::kFailedPrecondition);
  } else if (!CanContinue(chunks_.at(parent))) {
    errors.insert(Code::kFailedPrecondition);
  }
  const wire::ChunkKey parent_key = parent == 0 ? wire::ChunkKey{} : chunks_.at(parent).key;
  if (args.parent.has_value() && *args.parent != parent_key) errors.insert(Code::kInvalidArgument);
  const RefChunk* row = Find(caller.tenant, reservation.model, args.key);
  if (row != nullptr) {
    if (row->parent != parent || row->token_count != args.token_count ||
        (chunk.row != 0 && chunk.row != row->id)) {
      errors.insert(Code::kInvalidArgument);
    }
  } else if (chunk.row != 0) {
    errors.insert(Code::kFailedPrecondition);
  } else if (moves_in_flight > 0 || Chunks(caller.tenant) >= Share(limits_.chunks_max) ||
             chunks_.size() >= limits_.chunks_max) {
    expected.may_exhaust = true;
  }
  return expected;
}

CommitOutcome ReferenceModel::Committed(Caller caller, ReservationId id, const CommitArgs& args,
                                        absl::Time now) {
  RefReservation& reservation = reservations_.at(id);
  RefReservation::Chunk& chunk = reservation.chunks[args.chunk];
  RefChunk* row = Find(caller.tenant, reservation.model, args.key);
  if (row == nullptr) {
    RefChunk made{
        .id = next_chunk_++, .tenant = caller.tenant, .model = reservation.model, .key = args.key};
    made.parent = args.chunk == 0 ? reservation.parent : reservation.chunks[args.chunk - 1].row;
    made.token_count = args.token_count;
    made.writer = caller.session;
    made.incomplete_since = now;
    by_key_[{{made.tenant, made.model}, made.key}] = made.id;
    row = &(chunks_[made.id] = made);
  }
  bool any_new = false;
  const std::vector<PlaneIndex> planes = args.planes;
  const ModelSpec& spec = *Model(caller.tenant, reservation.model);
  for (const uint16_t plane : planes.empty() ? chunk.reserved : PlaneSet(spec, planes)) {
    chunk.open.erase(plane);
    any_new |= row->planes.insert(plane).second;
  }
  if (chunk.row == 0) {
    chunk.row = row->id;
    ++row->pins;
  }
  CommitOutcome outcome = CommitOutcome::kAlreadyExists;
  if (any_new) outcome = Visible(*row) ? CommitOutcome::kCommitted : CommitOutcome::kPartial;
  if (outcome == CommitOutcome::kCommitted) {
    row->was_visible = true;
    expected_events_.insert({EventKind::kCommitted, {{row->tenant, row->model}, row->key}});
  }
  // A reservation ends by itself when nothing of it is left to commit.
  if (std::all_of(reservation.chunks.begin(), reservation.chunks.end(),
                  [](const RefReservation::Chunk& other) { return other.open.empty(); })) {
    Aborted(id);
  }
  return outcome;
}

void ReferenceModel::Aborted(ReservationId id) {
  const RefReservation reservation = reservations_.at(id);
  reservations_.erase(id);
  if (reservation.parent != 0) --chunks_.at(reservation.parent).pins;
  for (const RefReservation::Chunk& chunk : reservation.chunks) {
    if (chunk.row != 0) --chunks_.at(chunk.row).pins;
  }
}

// --- reading ---

uint64_t ReferenceModel::VisibleId(TenantId tenant, ModelId model,
                                   const wire::ChunkKey& key) const {
  const RefChunk* chunk = Find(tenant, model, key);
  return chunk != nullptr && Visible(*chunk) ? chunk->id : 0;
}

bool ReferenceModel::Visible(const RefChunk& chunk) const {
  if (chunk.forgotten) return false;
  const ModelSpec& spec = *Model(chunk.tenant, chunk.model);
  for (size_t i = 0; i < spec.planes.size(); ++i) {
    if (spec.planes[i].required && !chunk.planes.contains(static_cast<uint16_t>(i))) return false;
  }
  return true;
}

bool ReferenceModel::IsLost(TenantId tenant, ModelId model, const wire::ChunkKey& key) const {
  const RefChunk* chunk = Find(tenant, model, key);
  return chunk != nullptr && chunk->was_visible && !Visible(*chunk);
}

// What a reservation may go on from: a chunk that is not forgotten and not a partial one. Planes of
// it may be missing, so that ranks need not wait for each other.
bool ReferenceModel::CanContinue(const RefChunk& chunk) const {
  return !chunk.forgotten && chunk.token_count == Model(chunk.tenant, chunk.model)->chunk_tokens;
}

// The longest m such that the first m chunks are visible, each hangs on the one before, and every
// plane that decides by its kind is there where going on from chunk m needs it: a state in chunk m,
// a window in every chunk that has one of the last tokens it spans.
uint32_t ReferenceModel::Matched(TenantId tenant, ModelId model,
                                 absl::Span<const wire::ChunkKey> keys) const {
  const ModelSpec& spec = *Model(tenant, model);
  std::vector<const RefChunk*> known;
  for (const wire::ChunkKey& key : keys) {
    const uint64_t id = VisibleId(tenant, model, key);
    if (id == 0) break;
    const RefChunk& chunk = chunks_.at(id);
    // The first may be any chunk; what has no parent follows nothing.
    if (!known.empty() && chunk.parent != known.back()->id) break;
    known.push_back(&chunk);
  }
  for (; !known.empty(); known.pop_back()) {
    bool usable = true;
    for (size_t plane = 0; plane < spec.planes.size(); ++plane) {
      const PlaneSpec& of = spec.planes[plane];
      const auto has = [plane](const RefChunk* chunk) {
        return chunk->planes.contains(static_cast<uint16_t>(plane));
      };
      if (of.kind == PlaneKind::kState) usable &= has(known.back());
      if (of.kind != PlaneKind::kWindow) continue;
      uint32_t covered = 0;
      for (auto chunk = known.rbegin(); chunk != known.rend() && covered < of.window_tokens;
           ++chunk) {
        usable &= has(*chunk);
        covered += (*chunk)->token_count;
      }
    }
    if (usable) return static_cast<uint32_t>(known.size());
  }
  return 0;
}

size_t ReferenceModel::Chunks(TenantId tenant) const {
  size_t count = 0;
  for (const auto& [id, chunk] : chunks_) count += chunk.tenant == tenant;
  return count;
}

bool ReferenceModel::LeaseExhausts(TenantId tenant, uint32_t chunks) const {
  uint64_t leased = chunks;
  size_t own = 0;
  for (const auto& [id, lease] : leases_) {
    if (lease.caller.tenant != tenant) continue;
    leased += lease.chunks.size();
    ++own;
  }
  return own >= Share(limits_.leases_max) || leases_.size() >= limits_.leases_max ||
         leased > Share(limits_.leased_chunks_max);
}

Expected ReferenceModel::LookupExpected(Caller caller, ModelId model, size_t keys) const {
  Expected expected = SessionExpected(caller);
  if (Model(caller.tenant, model) == nullptr) expected.errors.insert(Code::kNotFound);
  if (keys > limits_.chunks_per_call_max) expected.errors.insert(Code::kInvalidArgument);
  return expected;
}

void ReferenceModel::Leased(Caller caller, LeaseId id, ModelId model,
                            absl::Span<const wire::ChunkKey> keys, absl::Time ends) {
  RefLease lease{.caller = caller, .model = model, .ends = ends};
  for (const wire::ChunkKey& key : keys) {
    const uint64_t chunk = VisibleId(caller.tenant, model, key);
    KVTIER_CHECK(chunk != 0);
    ++chunks_.at(chunk).leases;
    lease.chunks.push_back(chunk);
  }
  leases_[id] = std::move(lease);
}

const RefLease* ReferenceModel::Lease(LeaseId id) const {
  const auto found = leases_.find(id);
  return found == leases_.end() ? nullptr : &found->second;
}

const RefReservation* ReferenceModel::Reservation(ReservationId id) const {
  const auto found = reservations_.find(id);
  return found == reservations_.end() ? nullptr : &found->second;
}

Expected ReferenceModel::LeaseExpected(Caller caller, LeaseId id) const {
  Expected expected = SessionExpected(caller);
  const RefLease* lease = Lease(id);
  if (lease == nullptr || lease->caller.session != caller.session) {
    expected.errors.insert(Code::kNotFound);
  }
  return expected;
}

Expected ReferenceModel::RenewExpected(Caller caller, LeaseId id) const {
  Expected expected = LeaseExpected(caller, id);
  // A lease that ended may or may not be remembered.
  if (!expected.errors.empty()) expected.errors.insert(Code::kFailedPrecondition);
  return expected;
}

void ReferenceModel::Renewed(LeaseId id, absl::Time ends) { leases_.at(id).ends = ends; }

void ReferenceModel::Released(LeaseId id) {
  for (const uint64_t chunk : leases_.at(id).chunks) --chunks_.at(chunk).leases;
  leases_.erase(id);
}

// --- hints ---

void ReferenceModel::Hide(uint64_t id, uint32_t& count) {
  RefChunk& chunk = chunks_.at(id);
  if (chunk.forgotten) return;
  chunk.forgotten = true;
  ++count;
  by_key_.erase({{chunk.tenant, chunk.model}, chunk.key});
  if (chunk.was_visible) {
    expected_events_.insert({EventKind::kForgotten, {{chunk.tenant, chunk.model}, chunk.key}});
  }
  for (const auto& [other, candidate] : chunks_) {
    if (candidate.parent == id) Hide(other, count);
  }
}

void ReferenceModel::HideIncomplete(const std::function<bool(const RefChunk&)>& which) {
  uint32_t count = 0;
  for (const auto& [id, chunk] : chunks_) {
    if (!chunk.was_visible && !chunk.forgotten && which(chunk)) Hide(id, count);
  }
}

void ReferenceModel::LostSilently(uint64_t id, uint16_t plane) {
  RefChunk& chunk = chunks_.at(id);
  if (chunk.forgotten) chunk.planes.erase(plane);
}

uint32_t ReferenceModel::Forget(TenantId tenant, ModelId model,
                                absl::Span<const wire::ChunkKey> keys) {
  uint32_t count = 0;
  for (const wire::ChunkKey& key : keys) {
    const RefChunk* chunk = Find(tenant, model, key);
    if (chunk != nullptr) Hide(chunk->id, count);
  }
  return count;
}

// --- time and freedom ---

void ReferenceModel::Tick(absl::Time now) {
  std::vector<SessionId> ended;
  for (const auto& [id, session] : sessions_) {
    if (now - session.seen > limits_.session_timeout) ended.push_back(id);
  }
  for (const SessionId id : ended) Detached(id);
  std::vector<LeaseId> leases;
  for (const auto& [id, lease] : leases_) {
    if (now > lease.ends) leases.push_back(id);
  }
  for (const LeaseId id : leases) Released(id);
  HideIncomplete([&](const RefChunk& chunk) {
    return now > chunk.incomplete_since + limits_.incomplete_chunk_ttl;
  });
}

std::string ReferenceModel::OnEvent(
    TenantId tenant, const Event& event,
    const std::function<bool(uint64_t chunk, uint16_t plane)>& damaged) {
  const KeyName name{{tenant, event.model}, event.key};
  const std::string what = absl::StrCat(
      "event ", event.sequence, " kind ", static_cast<int>(event.kind), " of tenant ",
      tenant.value(), " model ", event.model.value(), " key ", event.key.ToHex(), ": ");
  // What was freed meanwhile is no child any more.
  if (event.kind == EventKind::kDropped) EndEvents(tenant);
  RefChunk* chunk = Find(tenant, event.model, event.key);
  switch (event.kind) {
    case EventKind::kCommitted:
    case EventKind::kForgotten: {
      const auto expected = expected_events_.find({event.kind, name});
      if (expected == expected_events_.end()) return what + "nothing was committed or forgotten";
      expected_events_.erase(expected);
      return {};
    }
    case EventKind::kDropped:
      if (chunk == nullptr) return what + "there is no such chunk";
      if (HasChildren(chunk->id)) return what + "the dropped chunk has a child";
      if (chunk->leases > 0) return what + "the dropped chunk is leased";
      if (chunk->pins > 0) return what + "the dropped chunk is a reservation's parent";
      Remove(chunk->id);
      return {};
    case EventKind::kMoved: {
      // A chunk that was forgotten while a copy was under way may still be named.
      const bool known = std::any_of(chunks_.begin(), chunks_.end(), [&](const auto& entry) {
        return entry.second.tenant == tenant && entry.second.model == event.model &&
               entry.second.key == event.key && entry.second.planes.contains(event.plane.value());
      });
      return known ? std::string() : what + "a block that is not there was moved";
    }
    case EventKind::kLost:
      if (chunk == nullptr) chunk = FindForgotten(tenant, event.model, event.key);
      if (chunk == nullptr) return what + "there is no such chunk";
      if (!damaged(chunk->id, event.plane.value())) return what + "its bytes were never damaged";
      if (chunk->planes.erase(event.plane.value()) == 0) return what + "the block was not there";
      return {};
  }
  return what + "unknown kind";
}

std::string ReferenceModel::MissingEvents() {
  if (expected_events_.empty()) return {};
  const auto& [kind, name] = *expected_events_.begin();
  const std::string text =
      absl::StrCat(expected_events_.size(), " events are missing, among them kind ",
                   static_cast<int>(kind), " of key ", name.second.ToHex());
  expected_events_.clear();
  return text;
}

// --- all of it ---

}  // namespace kvtier::test_support
