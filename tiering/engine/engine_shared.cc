// Clients that look blocks up by themselves: their coming and going, and what they report.
#include <array>
#include <cmath>
#include <vector>

#include "absl/strings/str_format.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/engine/engine_share.h"
#include "tiering/engine/engine_state.h"

namespace kvtier {
namespace {

// Attention mass as reports have it: eighths of a power of two, 255 is 1.
double MassOf(uint8_t log_mass) {
  static const std::array<double, 256> masses = [] {
    std::array<double, 256> all{};
    for (size_t i = 0; i < all.size(); ++i) all[i] = std::exp2((static_cast<double>(i) - 255) / 8);
    return all;
  }();
  return masses[log_mass];
}

}  // namespace

Bytes Engine::IndexBytes(const EngineLimits& limits, size_t tenants) {
  return TenantShare::BytesFor(EngineShare::LimitsOf(limits, tenants));
}

absl::StatusOr<ShmClientId> Engine::AttachShared(Caller caller, wire::ClientPage* page) {
  State& s = *state_;
  KVTIER_CHECK(page != nullptr);
  KVTIER_ASSIGN_OR_RETURN(Session * session, s.FindSession(caller));
  if (s.share == nullptr) return absl::FailedPreconditionError("no memory is shared with clients");
  if (session->shared != ShmClientId()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("session %d has a client of shared memory already, number %d",
                        caller.session.value(), session->shared.value()));
  }
  const uint64_t clients = s.share->clients(caller.tenant);
  const uint64_t clients_max = s.Share(s.limits.sessions_max);
  if (clients >= clients_max) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "tenant \"%s\" has %d clients of shared memory whose process has not ended; the limit is "
        "%d (sessions_max)",
        s.tenants[caller.tenant.value()].name, clients, clients_max));
  }
  session->shared = s.share->Add(caller, page);
  return session->shared;
}

void Engine::EndShared(ShmClientId client) {
  State& s = *state_;
  if (s.share == nullptr) return;
  const EngineShare::Client* ended = s.share->Find(client);
  if (ended == nullptr) return;
  if (Session* session = s.sessions.Find(ended->session.value()); session != nullptr)
    session->shared = ShmClientId();
  s.share->Remove(client);
  s.EndWriter(client);
}

absl::Status Engine::LeaseRows(Caller caller, LeaseId id, std::vector<uint64_t>& rows) const {
  State& s = *state_;
  KVTIER_ASSIGN_OR_RETURN(const Lease* lease, s.FindLease(caller, id));
  KVTIER_ASSIGN_OR_RETURN(const Session* session, s.FindSession(caller));
  rows.clear();
  if (session->shared == ShmClientId()) return absl::OkStatus();
  for (const RowIndex row : lease->rows) rows.push_back(s.share->NameOf(row));
  return absl::OkStatus();
}

std::vector<SharedClientStatus> Engine::SharedClients() const {
  return state_->share == nullptr ? std::vector<SharedClientStatus>() : state_->share->Statuses();
}

absl::Status Engine::State::CheckSections(const Session& session) {
  if (session.shared == ShmClientId()) return absl::OkStatus();
  if (!share->Find(session.shared)->over_limit) return absl::OkStatus();
  ++counts.section_limit_refusals;
  return absl::ResourceExhaustedError(absl::StrFormat(
      "client %d of shared memory has had a read section open for longer than %d ms "
      "(section_ms_max); nothing is leased or reserved for it until it leaves that section",
      session.shared.value(), absl::ToInt64Milliseconds(limits.section_max)));
}

void Engine::State::TakeReports() {
  std::vector<RowIndex>& touched = rows_scratch;
  const auto take = [&](absl::Span<const EngineShare::Access> accesses) {
    counts.shared_reports += accesses.size();
    touched.clear();
    for (const EngineShare::Access& access : accesses) {
      if (access.plane != wire::kAllPlanes) {
        if (access.log_mass == 0) continue;
        policy->OnRead(access.row, PlaneIndex(access.plane), access.steps, MassOf(access.log_mass));
        ++counts.reported_reads;
      }
      if (!touched.empty() && touched.back() == access.row) continue;
      // The policy takes the chunks of one prefix at a time.
      if (!touched.empty() && blocks.parent(access.row) != touched.back()) {
        policy->OnTouch(touched);
        touched.clear();
      }
      touched.push_back(access.row);
    }
    if (!touched.empty()) policy->OnTouch(touched);
  };
  const EngineShare::Reports reports = share->TakeReports(take);
  counts.shared_reports_invalid += reports.invalid;
  counts.shared_reports_dropped += reports.dropped;
}

}  // namespace kvtier
