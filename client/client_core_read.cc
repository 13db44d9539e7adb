// Leases: what is read.
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client_core.h"
#include "client/in_place.h"
#include "client/request_fields.h"

namespace kvtier {
namespace {

namespace v1 = kvtier::v1;

// Read within one section: a quarter of a second at 1 GB/s, of the ten that a daemon allows.
constexpr uint64_t kSectionBytes = 256 << 20;

// See ReportRequest.PlaneReads.log_mass. INVALID_ARGUMENT unless 0 <= mass <= 1.
absl::StatusOr<char> LogMass(double mass) {
  if (!(mass >= 0 && mass <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("attention mass ", mass, " is not within 0 to 1"));
  }
  if (mass == 0) return '\0';
  const double level = std::round(255 + 8 * std::log2(mass));
  return static_cast<char>(static_cast<uint8_t>(std::clamp(level, 1.0, 255.0)));
}

}  // namespace

absl::StatusOr<Match> ClientCore::Lookup(const LookupRequest& request) {
  const Running running(*this);
  auto target = LinkFor(request.model);
  if (!target.ok()) return target.status();
  auto ttl_ms = Milliseconds("lease_ttl", request.lease_ttl);
  if (!ttl_ms.ok()) return ttl_ms.status();
  absl::Status status = request.lease ? leases_.CheckRoom() : absl::OkStatus();
  if (!status.ok()) {
    // Leases that nobody released end by themselves.
    leases_.EraseIf(
        [now = absl::Now()](const LeasePointer& lease) { return lease->expires() < now; });
    if (status = leases_.CheckRoom(); !status.ok()) return status;
  }
  const LinkPointer& link = target->first;
  v1::LookupRequest message;
  message.set_session_id(link->session().id);
  message.set_model_id(target->second);
  message.set_keys(PackKeys(request.keys));
  message.set_lease(request.lease);
  message.set_lease_ttl_ms(*ttl_ms);
  message.set_logical_time_us(LogicalTimeUs(*link));
  v1::LookupReply reply;
  status = Send(link, &v1::KvCache::Stub::Lookup, message, reply);
  if (!status.ok()) return status;
  Match match;
  match.chunks = std::min<uint32_t>(reply.matched(), static_cast<uint32_t>(request.keys.size()));
  match.lease_ttl = absl::Milliseconds(static_cast<int64_t>(reply.lease_ttl_ms()));
  if (reply.lease_id() != 0) {
    std::vector<uint64_t> rows;
    if (link->memory() != nullptr && reply.rows_size() == static_cast<int>(match.chunks)) {
      rows.assign(reply.rows().begin(), reply.rows().end());
    }
    match.lease = leases_.Add(std::make_shared<LeaseRecord>(
        link, reply.lease_id(), request.model.registration_, match.chunks, std::move(rows),
        absl::Now() + match.lease_ttl));
  }
  return match;
}

absl::StatusOr<GetResult> ClientCore::Get(const GetRequest& request) {
  const Running running(*this);
  auto lease = FindLease(request.lease);
  if (!lease.ok()) return lease.status();
  if (request.model.registration_ != (*lease)->model) {
    return absl::InvalidArgumentError(
        absl::StrCat("lease ", request.lease, " is of another model"));
  }
  GetResult result;
  std::vector<size_t> rest;
  // Whether a lease has ended is for the daemon to say.
  const bool shared = !(*lease)->rows.empty() && absl::Now() < (*lease)->expires();
  if (shared) {
    absl::Status status = GetShared(**lease, request.blocks, result, rest);
    if (!status.ok()) return status;
    if (rest.empty()) return result;
  }
  const bool all = !shared || rest.size() == request.blocks.size();
  std::vector<BlockDestination> others;
  for (const size_t i : all ? std::vector<size_t>() : rest) others.push_back(request.blocks[i]);
  auto fetched = FetchBlocks(**lease, all ? request.blocks : others, options_.call_timeout);
  Learn(*(*lease)->link, fetched.status());
  if (all || !fetched.ok()) return fetched;
  for (size_t i = 0; i < rest.size(); ++i) {
    result.blocks[rest[i]] = std::move(fetched->blocks[i]);
  }
  for (const auto& [pool, bytes] : fetched->bytes_by_pool) result.bytes_by_pool[pool] += bytes;
  result.all_ok = std::all_of(result.blocks.begin(), result.blocks.end(),
                              [](const BlockResult& block) { return block.status.ok(); });
  return result;
}

absl::Status ClientCore::GetShared(const LeaseRecord& lease,
                                   absl::Span<const BlockDestination> blocks, GetResult& result,
                                   std::vector<size_t>& rest) {
  absl::Status status = CheckDestinations(lease, blocks);
  if (!status.ok()) return status;
  TenantMemory* const memory = lease.link->memory().get();
  const ModelGeometry& geometry = *lease.model->geometry();
  result.blocks.resize(blocks.size());
  const auto complain = [&](uint64_t row, uint32_t plane, wire::ResidencyWord word) {
    Complain(*memory, row, plane, word);
  };
  for (size_t first = 0; first < blocks.size();) {
    size_t end = first;
    for (uint64_t bytes = 0; end < blocks.size() && bytes < kSectionBytes; ++end) {
      bytes += geometry.planes[blocks[end].plane].bytes_per_chunk;
    }
    const auto [place, outcome] = places_->Enter();
    if (place == nullptr || place->memory != memory) {
      for (; first < blocks.size(); ++first) rest.push_back(first);
      if (place != nullptr) places_->Leave(*place);
      break;
    }
    GetInPlace(lease, options_.verify, complain, blocks.subspan(first, end - first),
               absl::MakeSpan(result.blocks).subspan(first, end - first));
    places_->Leave(*place);
    first = end;
  }
  result.all_ok = true;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockResult& block = result.blocks[i];
    if (block.status.ok() && !block.pool.empty()) {
      result.bytes_by_pool[block.pool] += geometry.planes[blocks[i].plane].bytes_per_chunk;
      ++result.blocks_in_place;
    } else if (absl::IsUnavailable(block.status)) {
      rest.push_back(i);
    }
    result.all_ok &= block.status.ok();
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::Duration> ClientCore::Renew(LeaseHandle handle, absl::Duration ttl) {
  const Running running(*this);
  auto lease = FindLease(handle);
  if (!lease.ok()) return lease.status();
  auto ttl_ms = Milliseconds("ttl", ttl);
  if (!ttl_ms.ok()) return ttl_ms.status();
  v1::RenewRequest message;
  message.set_session_id((*lease)->link->session().id);
  message.set_lease_id((*lease)->daemon_id);
  message.set_lease_ttl_ms(*ttl_ms);
  v1::RenewReply reply;
  absl::Status status = Send((*lease)->link, &v1::KvCache::Stub::Renew, message, reply);
  if (!status.ok()) return status;
  const absl::Duration granted = absl::Milliseconds(static_cast<int64_t>(reply.lease_ttl_ms()));
  (*lease)->set_expires(absl::Now() + granted);
  return granted;
}

absl::Status ClientCore::Release(LeaseHandle handle) {
  const Running running(*this);
  auto lease = FindLease(handle);
  if (!lease.ok()) return lease.status();
  v1::ReleaseRequest message;
  message.set_session_id((*lease)->link->session().id);
  message.add_lease_ids((*lease)->daemon_id);
  v1::ReleaseReply reply;
  absl::Status status = Send((*lease)->link, &v1::KvCache::Stub::Release, message, reply);
  if (status.ok() || absl::IsNotFound(status)) leases_.Erase(handle);
  return status;
}

absl::Status ClientCore::Report(LeaseHandle handle, const std::vector<ReadReport>& reports) {
  const Running running(*this);
  auto lease = FindLease(handle);
  if (!lease.ok()) return lease.status();
  v1::ReportRequest message;
  message.set_logical_time_us(LogicalTimeUs(*(*lease)->link));
  if (message.logical_time_us() == 0) {  // rings have no room for a time
    auto by_ring = ReportByRing(**lease, reports);
    if (!by_ring.ok()) return by_ring.status();
    if (*by_ring) return absl::OkStatus();
  }
  message.set_session_id((*lease)->link->session().id);
  message.set_lease_id((*lease)->daemon_id);
  for (const ReadReport& report : reports) {
    auto* out = message.add_planes();
    out->set_plane(report.plane);
    out->set_steps(report.steps);
    std::string& log_mass = *out->mutable_log_mass();
    log_mass.reserve(report.mass.size());
    for (const double mass : report.mass) {
      auto level = LogMass(mass);
      if (!level.ok()) return level.status();
      log_mass.push_back(*level);
    }
  }
  v1::ReportReply reply;
  return Send((*lease)->link, &v1::KvCache::Stub::Report, message, reply);
}

absl::StatusOr<bool> ClientCore::ReportByRing(const LeaseRecord& lease,
                                              const std::vector<ReadReport>& reports) {
  const auto in_index = [](uint64_t row) { return row != 0; };
  if (lease.rows.empty() || !std::all_of(lease.rows.begin(), lease.rows.end(), in_index)) {
    return false;
  }
  std::vector<wire::Report> records;
  for (const ReadReport& report : reports) {
    // The daemon has the words for what is wrong with it.
    if (report.plane >= lease.model->geometry()->planes.size() ||
        report.mass.size() != lease.rows.size()) {
      return false;
    }
    for (size_t i = 0; i < report.mass.size(); ++i) {
      auto level = LogMass(report.mass[i]);
      if (!level.ok()) return level.status();
      if (*level == 0) continue;
      records.push_back({.row = lease.rows[i],
                         .steps = report.steps,
                         .plane = static_cast<uint16_t>(report.plane),
                         .log_mass = static_cast<uint8_t>(*level)});
    }
  }
  lease.link->memory()->Report(records, /*wait=*/true);
  return true;
}

absl::StatusOr<ReadSection> ClientCore::EnterSection() {
  const auto [place, outcome] = places_->Enter();
  if (place != nullptr) {
    place->reported = options_.report_every != 0 && place->entered++ % options_.report_every == 0;
    return ReadSection(this, place);
  }
  if (outcome == SectionPlaces::Outcome::kAllTaken) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this client has ", wire::kSectionsMax, " open read sections, the limit"));
  }
  if (const auto link = attachment_->Link(); !link.ok()) return link.status();
  return absl::UnavailableError(transport_note());
}

absl::StatusOr<uint32_t> ClientCore::ModelIdFor(const Model& model, const TenantMemory& memory) {
  absl::Status status = models_.CheckKnown(model.registration_);
  if (!status.ok()) return status;
  auto link = attachment_->Link();
  if (!link.ok()) return link.status();
  if ((*link)->memory().get() != &memory) {
    return absl::FailedPreconditionError("the section is of an earlier daemon or session");
  }
  return model.registration_->IdFor(*link, options_.call_timeout);
}

void ClientCore::Complain(const TenantMemory& memory, uint64_t row, uint32_t plane,
                          wire::ResidencyWord word) {
  auto link = attachment_->Link();
  if (!link.ok() || (*link)->memory().get() != &memory) return;
  v1::CheckBlockRequest message;
  message.set_session_id((*link)->session().id);
  message.set_row(row);
  message.set_plane(plane);
  message.set_word(word.bits());
  v1::CheckBlockReply reply;
  DaemonLink::Call call(*link, options_.unavailable_after);
  // Whatever it says, this copy is not read: another may do.
  (void)call.Finish((*link)->control().CheckBlock(call.context(), message, &reply));
}

}  // namespace kvtier
