#include "tiering/engine/engine_share.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "proto/wire/index_reader.h"
#include "tiering/base/check.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

// What one look at a client's own count may add to ours, whatever it says.
constexpr uint64_t kDroppedPerLookMax = 1u << 20;
constexpr uint64_t kReportsPerClientMin = 16;

}  // namespace

IndexLimits EngineShare::LimitsOf(const EngineLimits& limits, size_t tenants) {
  const auto share = [tenants](uint64_t limit) { return std::max<uint64_t>(1, limit / tenants); };
  return {share(limits.chunks_max), share(limits.blocks_max)};
}

absl::StatusOr<std::unique_ptr<EngineShare>> EngineShare::Create(
    const ShareOptions& options, const EngineLimits& limits, size_t tenants,
    const BlockCatalog* blocks, const std::vector<std::unique_ptr<SlotAllocator>>* allocators) {
  if (options.index.size() != tenants) {
    return absl::InvalidArgumentError(absl::StrFormat("engine: memory for %d indexes of %d tenants",
                                                      options.index.size(), tenants));
  }
  if (limits.section_max <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("engine option section_max is %s; it has to be above 0",
                        absl::FormatDuration(limits.section_max)));
  }
  auto share = std::unique_ptr<EngineShare>(new EngineShare(blocks, allocators));
  Rng seeds(options.seed);
  for (const absl::Span<std::byte> memory : options.index) {
    TenantShare::Options index;
    index.memory = memory;
    index.limits = LimitsOf(limits, tenants);
    index.daemon_epoch = options.daemon_epoch;
    index.hash_seed = seeds.Next();
    Tenant tenant;
    KVTIER_ASSIGN_OR_RETURN(tenant.index, TenantShare::Create(index));
    share->tenants_.push_back(std::move(tenant));
  }
  return share;
}

wire::ResidencyWord EngineShare::WordOf(CopyRef copy) const {
  if (!copy.valid()) return wire::ResidencyWord();
  return wire::ResidencyWord(copy.bits(), allocator(copy.pool()).Incarnation(copy));
}

void EngineShare::OnCreate(RowIndex row) {
  const ModelId model = blocks_->model(row);
  const RowIndex parent = blocks_->parent(row);
  TenantShare::RowArgs args;
  args.key = blocks_->key(row);
  args.model = model;
  args.planes = static_cast<uint16_t>(blocks_->plane_count(model));
  args.token_count = static_cast<uint16_t>(blocks_->token_count(row));
  args.parent = parent == kNoRow ? kNoLine : LineOf(parent);
  args.row = row;
  if (row >= lines_.size()) lines_.Grow(row + 1 - lines_.size());
  lines_[row] = TenantOf(row).index->AddRow(args) + 1;
}

void EngineShare::OnVisible(RowIndex row) {
  const uint32_t line = LineOf(row);
  // Where the table is full the row is found by its name and by calls only; that is counted.
  if (line != kNoLine) (void)TenantOf(row).index->Show(line);
}

void EngineShare::OnInvisible(RowIndex row) {
  const uint32_t line = LineOf(row);
  if (line != kNoLine) TenantOf(row).index->Hide(line);
}

void EngineShare::OnCopies(RowIndex row, PlaneIndex plane) {
  const uint32_t line = LineOf(row);
  if (line == kNoLine) return;
  const Block& block = blocks_->block(row, plane);
  const TenantShare::BlockWords words{WordOf(block.best), WordOf(block.second), block.checksum};
  // Before a row was ever visible nobody has a block table that it is in.
  TenantOf(row).index->SetBlock(line, plane.value(), words, blocks_->was_visible(row));
}

void EngineShare::OnRemove(RowIndex row) {
  const uint32_t line = LineOf(row);
  if (line == kNoLine) return;
  TenantOf(row).index->RemoveRow(line);
  lines_[row] = 0;
}

uint64_t EngineShare::NameOf(RowIndex row) const {
  const uint32_t line = LineOf(row);
  return line == kNoLine ? 0 : tenants_[blocks_->tenant(row).value()].index->NameOf(line);
}

uint64_t EngineShare::index_refusals() const {
  uint64_t refusals = 0;
  for (const Tenant& tenant : tenants_) refusals += tenant.index->refusals();
  return refusals;
}

uint64_t EngineShare::section_scans() const {
  uint64_t scans = 0;
  for (const Tenant& tenant : tenants_) scans += tenant.sections.scans();
  return scans;
}

Bytes EngineShare::metadata_bytes() const {
  Bytes total = lines_.metadata_bytes();
  for (const Tenant& tenant : tenants_) total += tenant.index->metadata_bytes();
  return total;
}

void EngineShare::Retire(CopyRef slot) {
  Tenant& tenant = tenants_[allocator(slot.pool()).tenant(slot).value()];
  tenant.slots.Retire(tenant.index->retire_epoch(), slot);
}

void EngineShare::Reclaim(TenantId id, absl::FunctionRef<void(CopyRef)> free) {
  Tenant& tenant = tenants_[id.value()];
  if (tenant.slots.empty() && !tenant.index->waits()) return;
  const uint64_t oldest =
      wire::OldestSection(tenant.index->retire_epoch(), [&] { return tenant.sections.Oldest(); });
  tenant.slots.TakeFree(oldest, free);
  tenant.index->Reclaim(oldest);
}

ShmClientId EngineShare::Add(Caller caller, wire::ClientPage* page) {
  do {
    ++last_client_;
  } while (last_client_ == 0 || clients_.contains(last_client_));
  const ShmClientId client(last_client_);
  clients_.emplace(last_client_, Client{caller.tenant, caller.session, wire::ReportConsumer(page)});
  Tenant& tenant = tenants_[caller.tenant.value()];
  tenant.sections.Add(client, page);
  ++tenant.clients;
  return client;
}

bool EngineShare::Remove(ShmClientId client) {
  const auto found = clients_.find(client.value());
  if (found == clients_.end()) return false;
  Tenant& tenant = tenants_[found->second.tenant.value()];
  tenant.sections.Remove(client);
  --tenant.clients;
  SetInboxesWanted(found->second, 0);
  clients_.erase(found);
  return true;
}

EngineShare::Client* EngineShare::Find(ShmClientId client) {
  const auto found = clients_.find(client.value());
  return found == clients_.end() ? nullptr : &found->second;
}

void EngineShare::SetInboxesWanted(Client& client, uint32_t wanted) {
  uint64_t& sum = tenants_[client.tenant.value()].inboxes_wanted;
  sum = sum - client.inboxes_wanted + wanted;
  client.inboxes_wanted = wanted;
}

void EngineShare::AskToWrite(ShmClientId id, uint32_t slot_sizes, absl::Time now) {
  Client* const client = Find(id);
  KVTIER_CHECK(client != nullptr);
  client->asked_at = std::max(client->asked_at, now);
  const bool afresh = client->wanted_from + kWriterWindow < now;
  if (afresh) client->wanted_from = now;
  SetInboxesWanted(*client, afresh ? slot_sizes : std::max(client->inboxes_wanted, slot_sizes));
}

void EngineShare::Observe(absl::Time now, absl::Duration section_max) {
  for (auto& [id, client] : clients_) {
    if (client.inboxes_wanted > 0 && client.asked_at + kWriterWindow < now)
      SetInboxesWanted(client, 0);
  }
  for (Tenant& tenant : tenants_) {
    if (tenant.sections.empty()) continue;
    std::atomic<uint64_t>& epoch = tenant.index->retire_epoch();
    const uint64_t current = epoch.load(std::memory_order_relaxed);
    if (tenant.sections.Observe(now, section_max, current))
      epoch.store(current + 1, std::memory_order_release);
    for (const ReaderSections::Status& status : tenant.sections.statuses())
      Find(status.client)->over_limit = status.over_limit;
  }
}

std::vector<SharedClientStatus> EngineShare::Statuses() const {
  std::vector<SharedClientStatus> result;
  for (const Tenant& tenant : tenants_) {
    for (const ReaderSections::Status& status : tenant.sections.statuses()) {
      const Client& client = clients_.at(status.client.value());
      result.push_back({status.client, client.tenant, client.session, status.open, status.longest,
                        status.over_limit});
    }
  }
  return result;
}

EngineShare::Reports EngineShare::TakeReports(
    absl::FunctionRef<void(absl::Span<const Access>)> take) {
  Reports counts;
  std::array<wire::Report, kReportBatch> batch;
  std::array<Access, kReportBatch> accesses;
  const uint64_t each =
      std::max(kReportsPerClientMin, kReportsPerTick / std::max<uint64_t>(1, clients_.size()));
  for (auto& [id, client] : clients_) {
    const TenantShare& index = *tenants_[client.tenant.value()].index;
    for (uint64_t left = each; left > 0;) {
      // Three rounds, so that the cache misses of a batch overlap: names, rows, policy.
      uint64_t read = 0;
      client.reports.Read(std::min(left, kReportBatch), [&](const wire::Report& report) {
        index.Prefetch(report.row);
        batch[read++] = report;
      });
      if (read == 0) break;
      left -= read;
      for (uint64_t i = 0; i < read; ++i) {
        accesses[i] = {index.RowOf(batch[i].row), batch[i].plane, batch[i].log_mass,
                       batch[i].steps};
        if (accesses[i].row != kNoRow) blocks_->Prefetch(accesses[i].row);
      }
      uint64_t valid = 0;
      for (uint64_t i = 0; i < read; ++i) {
        const Access& access = accesses[i];
        const bool known = access.row != kNoRow && blocks_->was_visible(access.row) &&
                           (access.plane == wire::kAllPlanes ||
                            access.plane < blocks_->plane_count(blocks_->model(access.row)));
        counts.invalid += !known;
        if (known && !blocks_->hidden(access.row)) accesses[valid++] = access;
      }
      take(absl::MakeConstSpan(accesses.data(), valid));
    }
    const uint64_t dropped = client.reports.dropped();
    counts.dropped += std::min(dropped - client.dropped, kDroppedPerLookMax);
    client.dropped = dropped;
  }
  return counts;
}

void EngineShare::CheckInvariants() const {
  std::vector<uint64_t> shown(tenants_.size());
  std::vector<wire::IndexReader> readers;
  for (const Tenant& tenant : tenants_) {
    std::string why;
    std::optional<wire::IndexReader> reader =
        wire::IndexReader::Create(tenant.index->memory(), why);
    KVTIER_CHECK(reader.has_value());
    readers.push_back(*reader);
  }
  for (RowIndex row = 0; row < blocks_->row_end(); ++row) {
    const uint32_t line = LineOf(row);
    if (!blocks_->live(row)) {
      KVTIER_CHECK(line == kNoLine);
      continue;
    }
    const size_t tenant = blocks_->tenant(row).value();
    if (line == kNoLine) continue;  // refused
    const ModelId model = blocks_->model(row);
    const wire::IndexReader::Row named = readers[tenant].At(NameOf(row));
    KVTIER_CHECK(named && tenants_[tenant].index->RowOf(named.name()) == row);
    KVTIER_CHECK(named.planes == blocks_->plane_count(model));
    for (uint16_t i = 0; i < named.planes; ++i) {
      const Block& block = blocks_->block(row, PlaneIndex(i));
      KVTIER_CHECK(wire::IndexReader::Resolve(named, i) == WordOf(block.best));
      KVTIER_CHECK(named.plane(i).second.load(std::memory_order_relaxed) ==
                   WordOf(block.second).bits());
      KVTIER_CHECK(!block.best.valid() ||
                   named.plane(i).checksum.load(std::memory_order_relaxed) == block.checksum);
    }
    const wire::IndexReader::Row found = readers[tenant].Find(blocks_->key(row), model.value());
    if (blocks_->Visible(row) && found) {
      KVTIER_CHECK(found.line == line);
      ++shown[tenant];
    } else {
      KVTIER_CHECK(found.line != line || !found);
    }
  }
  // Whatever else is in a table names no row of the engine's.
  for (size_t i = 0; i < tenants_.size(); ++i) KVTIER_CHECK(tenants_[i].index->shown() == shown[i]);
}

}  // namespace kvtier
