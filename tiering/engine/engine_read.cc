// Lookup, leases, resolving, reports and hints.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {
namespace {

// Chunks at the end of a prefix that hold its last `tokens` tokens. Only the last chunk may be
// partial; it has `last_tokens`.
uint64_t ChunksThatHold(uint32_t tokens, uint32_t last_tokens, uint32_t chunk_tokens) {
  if (tokens <= last_tokens) return 1;
  return 1 + (uint64_t{tokens} - last_tokens + chunk_tokens - 1) / chunk_tokens;
}

// How many of `rows` (a prefix in order, kNoRow where unknown) a worker can go on from, by the
// planes' kinds.
size_t UsablePrefix(const BlockCatalog& blocks, ModelId model, const std::vector<RowIndex>& rows) {
  const ModelLayout& layout = blocks.layout(model);
  const auto& resume_planes = layout.resume_planes;
  std::vector<uint32_t> run(resume_planes.size(),
                            0);  // chunks in a row, up to here, that have the plane
  size_t usable = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const RowIndex row = rows[i];
    if (row == kNoRow || !blocks.Visible(row)) break;
    // A path down the tree has no row twice; one without a parent can only begin it.
    if (i > 0 && blocks.parent(row) != rows[i - 1]) break;
    bool resumable = true;
    for (size_t p = 0; p < resume_planes.size(); ++p) {
      run[p] = blocks.block(row, resume_planes[p].plane).best.valid() ? run[p] + 1 : 0;
      const uint64_t needed =
          ChunksThatHold(resume_planes[p].tokens, blocks.token_count(row), layout.chunk_tokens);
      resumable &= run[p] >= std::min<uint64_t>(needed, i + 1);
    }
    if (resumable) usable = i + 1;
  }
  return usable;
}

// A leased row whose successor in the lease is its child needs no pin: a row with a child is not
// dropped.
bool HeldByNext(const BlockCatalog& blocks, absl::Span<const RowIndex> rows, size_t i) {
  return i + 1 < rows.size() && blocks.parent(rows[i + 1]) == rows[i];
}

}  // namespace

absl::StatusOr<Lease*> Engine::State::FindLease(Caller caller, LeaseId id) {
  KVTIER_RETURN_IF_ERROR(FindSession(caller).status());
  Lease* lease = leases.Find(id.value());
  if (lease == nullptr || lease->session != caller.session) {
    return absl::NotFoundError(
        absl::StrFormat("lease %d is not held by session %d", id.value(), caller.session.value()));
  }
  return lease;
}

absl::StatusOr<LookupResult> Engine::Lookup(Caller caller, ModelId model,
                                            absl::Span<const wire::ChunkKey> keys,
                                            std::optional<absl::Duration> lease_ttl,
                                            absl::Time now) {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(Session * session, s.FindSession(caller));
  session->seen = std::max(session->seen, now);
  KVTIER_RETURN_IF_ERROR(s.FindSpec(caller.tenant, model).status());
  if (keys.size() > s.limits.chunks_per_call_max) {
    return absl::InvalidArgumentError(absl::StrFormat("%d keys in one call; at most %d",
                                                      keys.size(), s.limits.chunks_per_call_max));
  }
  std::vector<RowIndex>& rows = s.rows_scratch;
  s.blocks.FindAll(model, keys, rows);
  rows.resize(UsablePrefix(s.blocks, model, rows));

  LookupResult result;
  result.matched = static_cast<uint32_t>(rows.size());
  ++s.counts.lookups;
  s.counts.lookup_chunks += keys.size();
  s.counts.hit_chunks += result.matched;
  s.access_clocks[caller.tenant.value()].Observe(now);
  s.policy->OnTouch(rows);
  if (!lease_ttl || rows.empty()) return result;

  KVTIER_RETURN_IF_ERROR(s.CheckSections(*session));
  TenantUse& use = s.use[caller.tenant.value()];
  KVTIER_RETURN_IF_ERROR(
      s.CheckShare(caller.tenant, "leases", use.leases, s.leases.size(), s.limits.leases_max));
  const uint64_t leased_max = s.Share(s.limits.leased_chunks_max);
  if (use.leased_chunks + rows.size() > leased_max) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "tenant \"%s\" has %d chunks leased and asks for %d more; the limit is %d "
        "(leased_chunks_max)",
        s.tenants[caller.tenant.value()].name, use.leased_chunks, rows.size(), leased_max));
  }
  ++use.leases;
  use.leased_chunks += rows.size();
  result.lease_ttl = *lease_ttl <= absl::ZeroDuration()
                         ? s.limits.lease_ttl
                         : std::min(*lease_ttl, s.limits.lease_ttl_max);
  Lease lease;
  lease.session = caller.session;
  lease.model = model;
  lease.deadline = now + result.lease_ttl;
  lease.rows.assign(rows.begin(), rows.end());
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!HeldByNext(s.blocks, rows, i)) s.blocks.Pin(rows[i]);
  }
  result.lease = LeaseId(s.leases.Add(session->leases, std::move(lease)));
  return result;
}

void Engine::State::EndLease(Session& session, LeaseId id) {
  const Lease lease = leases.Remove(session.leases, id.value());
  --use[session.tenant.value()].leases;
  use[session.tenant.value()].leased_chunks -= lease.rows.size();
  // Which rows are pinned follows from parent links, read before any row can go; tails first.
  absl::InlinedVector<RowIndex, 4> pinned;
  for (size_t i = lease.rows.size(); i-- > 0;) {
    if (!HeldByNext(blocks, lease.rows, i)) pinned.push_back(lease.rows[i]);
  }
  for (const RowIndex row : pinned) UnpinRow(row);
}

absl::StatusOr<absl::Duration> Engine::Renew(Caller caller, LeaseId id, absl::Duration ttl,
                                             absl::Time now) {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(Session * session, s.FindSession(caller));
  session->seen = std::max(session->seen, now);
  KVTIER_ASSIGN_OR_RETURN(Lease * lease, s.FindLease(caller, id));
  if (lease->deadline < now) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "lease %d ended %s ago", id.value(), absl::FormatDuration(now - lease->deadline)));
  }
  const absl::Duration granted =
      ttl <= absl::ZeroDuration() ? s.limits.lease_ttl : std::min(ttl, s.limits.lease_ttl_max);
  lease->deadline = now + granted;
  return granted;
}

absl::Status Engine::Release(Caller caller, LeaseId id) {
  State& s = *state_;
  KVTIER_RETURN_IF_ERROR(s.FindLease(caller, id).status());
  KVTIER_ASSIGN_OR_RETURN(Session * session, s.FindSession(caller));
  s.EndLease(*session, id);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> Engine::LeaseChunks(Caller caller, LeaseId id) const {
  KVTIER_ASSIGN_OR_RETURN(const Lease* lease, state_->FindLease(caller, id));
  return static_cast<uint32_t>(lease->rows.size());
}

absl::StatusOr<ModelId> Engine::LeaseModel(Caller caller, LeaseId id) const {
  KVTIER_ASSIGN_OR_RETURN(const Lease* lease, state_->FindLease(caller, id));
  return lease->model;
}

absl::Status Engine::Resolve(Caller caller, LeaseId id, uint32_t chunk,
                             absl::Span<const PlaneIndex> planes,
                             std::vector<ReadTarget>& targets) const {
  const State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(const Lease* lease, state_->FindLease(caller, id));
  if (chunk >= lease->rows.size()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "chunk %d is not in lease %d, which has %d chunks", chunk, id.value(), lease->rows.size()));
  }
  const size_t plane_count = s.blocks.plane_count(lease->model);
  for (const PlaneIndex plane : planes) {
    if (plane.value() < plane_count) continue;
    return absl::InvalidArgumentError(absl::StrFormat(
        "plane %d does not belong to the lease's model, which has %d", plane.value(), plane_count));
  }
  const RowIndex row = lease->rows[chunk];
  const auto resolve = [&](PlaneIndex plane) {
    const Block& block = s.blocks.block(row, plane);
    ReadTarget target;
    target.chunk = chunk;
    target.plane = plane;
    target.row = row;
    target.bytes = s.blocks.layout(lease->model).plane_bytes[plane.value()];
    target.checksum = block.checksum;
    for (const CopyRef copy : {block.best, block.second}) {
      if (copy.valid())
        target.copies[target.copy_count++] = {copy.pool(), s.AddressOf(copy), s.BytesOf(copy)};
    }
    return target;
  };
  if (!planes.empty()) {
    for (const PlaneIndex plane : planes) targets.push_back(resolve(plane));
    return absl::OkStatus();
  }
  for (size_t i = 0; i < plane_count; ++i) {
    const ReadTarget target = resolve(PlaneIndex(static_cast<uint16_t>(i)));
    // A required plane without a copy was lost: the reader has to know.
    if (target.copy_count > 0 || s.blocks.layout(lease->model).required[i])
      targets.push_back(target);
  }
  return absl::OkStatus();
}

void Engine::ReportCorrupt(const ReadTarget& target, uint8_t copy) {
  State& s = *state_;
  if (copy >= target.copy_count || !s.blocks.live(target.row)) return;
  if (target.plane.value() >= s.blocks.plane_count(s.blocks.model(target.row))) return;
  // The section keeps the slot from reuse, so a copy at this address is the one that was read.
  const Block& block = s.blocks.block(target.row, target.plane);
  for (const CopyRef ref : {block.best, block.second}) {
    if (ref.valid() && s.AddressOf(ref) == target.copies[copy].slot) {
      s.DropBadCopy(target.row, target.plane, ref);
      return;
    }
  }
}

void Engine::CountVerified(Bytes bytes) {
  state_->counts.verified_bytes += static_cast<uint64_t>(bytes.count());
}

SectionId Engine::EnterSection() { return state_->quarantine.Enter(); }

void Engine::ExitSection(SectionId section) { KVTIER_CHECK(state_->quarantine.Exit(section)); }

absl::Status Engine::Report(Caller caller, LeaseId id, absl::Span<const PlaneReads> reads,
                            absl::Time now) {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(Session * session, s.FindSession(caller));
  session->seen = std::max(session->seen, now);
  KVTIER_ASSIGN_OR_RETURN(const Lease* lease, s.FindLease(caller, id));
  const size_t plane_count = s.blocks.plane_count(lease->model);
  for (const PlaneReads& plane : reads) {
    if (plane.plane.value() >= plane_count) {
      return absl::InvalidArgumentError(
          absl::StrFormat("plane %d does not belong to the lease's model, which has %d",
                          plane.plane.value(), plane_count));
    }
    if (plane.log_mass.size() != lease->rows.size()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("plane %d: %d masses for %d chunks of lease %d", plane.plane.value(),
                          plane.log_mass.size(), lease->rows.size(), id.value()));
    }
  }
  s.access_clocks[caller.tenant.value()].Observe(now);
  std::vector<bool> read(lease->rows.size());
  for (const PlaneReads& plane : reads) {
    for (size_t i = 0; i < lease->rows.size(); ++i) {
      if (plane.log_mass[i] == 0 || s.blocks.hidden(lease->rows[i])) continue;
      s.policy->OnRead(lease->rows[i], plane.plane, plane.steps,
                       std::exp2((static_cast<double>(plane.log_mass[i]) - 255) / 8));
      ++s.counts.reported_reads;
      read[i] = true;
    }
  }
  std::vector<RowIndex>& touched = s.rows_scratch;
  touched.clear();
  for (size_t i = 0; i < lease->rows.size(); ++i) {
    if (read[i]) touched.push_back(lease->rows[i]);
  }
  s.policy->OnTouch(touched);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> Engine::Prefetch(Caller caller, ModelId model,
                                          absl::Span<const wire::ChunkKey> keys) {
  State& s = *state_;
  KVTIER_RETURN_IF_ERROR(s.FindSession(caller).status());
  KVTIER_RETURN_IF_ERROR(s.FindSpec(caller.tenant, model).status());
  if (keys.size() > s.limits.chunks_per_call_max) {
    return absl::InvalidArgumentError(absl::StrFormat("%d keys in one call; at most %d",
                                                      keys.size(), s.limits.chunks_per_call_max));
  }
  uint32_t accepted = 0;
  for (size_t i = keys.size(); i-- > 0;) {  // heads last: they stay more recent than their tails
    const RowIndex row = s.blocks.Find(model, keys[i]);
    if (row == kNoRow || !s.blocks.Visible(row)) continue;
    s.policy->OnPrefetch(row);
    ++accepted;
  }
  s.counts.prefetch_chunks += accepted;
  return accepted;
}

}  // namespace kvtier
