// What the engine shares with clients on the same machine: each tenant's index, kept like the block
// table, and memory that is used again only when no client can be reading it. Internal to
// tiering/engine.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/wire/client_page.h"
#include "proto/wire/report_ring.h"
#include "proto/wire/section_protocol.h"
#include "tiering/base/bytes.h"
#include "tiering/base/copy_ref.h"
#include "tiering/base/ids.h"
#include "tiering/base/paged_array.h"
#include "tiering/block/block_catalog.h"
#include "tiering/block/residency_observer.h"
#include "tiering/engine/engine.h"
#include "tiering/memory/slot_allocator.h"
#include "tiering/share/reader_sections.h"
#include "tiering/share/tenant_share.h"

namespace kvtier {

// Not thread-safe, like the engine. What waits for the readers of one tenant is in queues of its
// own, so nobody else's memory waits with it; a slot is in them at most once, a line and an
// overflow bucket likewise, so the pools and the index bound them.
class EngineShare : public ResidencyObserver {
 public:
  // One index for each tenant, or none at all: see EngineOptions. `blocks` and `allocators` outlive
  // it.
  static absl::StatusOr<std::unique_ptr<EngineShare>> Create(
      const ShareOptions& options, const EngineLimits& limits, size_t tenants,
      const BlockCatalog* blocks, const std::vector<std::unique_ptr<SlotAllocator>>* allocators);
  static IndexLimits LimitsOf(const EngineLimits& limits, size_t tenants);

  // --- the index
  void OnCreate(RowIndex row) override;
  void OnVisible(RowIndex row) override;
  void OnInvisible(RowIndex row) override;
  void OnCopies(RowIndex row, PlaneIndex plane) override;
  void OnRemove(RowIndex row) override;
  // wire::PackRow of the row in its tenant's index; 0 where it is not in it.
  uint64_t NameOf(RowIndex row) const;
  uint64_t index_refusals() const;
  uint64_t index_entries(TenantId tenant) const { return tenants_[tenant.value()].index->shown(); }
  uint64_t section_scans() const;
  // Of the index, as far as it was ever used, and what is kept about it.
  Bytes metadata_bytes() const;

  // --- slots
  // Nothing in the index names the slot any more.
  void Retire(CopyRef slot);
  // Calls `free(slot)` for those of the tenant that no section of its clients can hold, in the
  // order they were retired. Looks at the sections, all of them, only if something waits for them.
  void Reclaim(TenantId tenant, absl::FunctionRef<void(CopyRef)> free);

  // --- clients
  struct Client {
    TenantId tenant;
    SessionId session;  // zero: it ended
    wire::ReportConsumer reports;
    uint64_t dropped = 0;  // as it last said
    bool over_limit = false;
    absl::Time reserved_at = absl::InfinitePast();  // last, in place
    // When it last asked to, and how many inboxes it needs for what it asked for since
    // `wanted_from`; 0: it does not.
    absl::Time asked_at = absl::InfinitePast();
    absl::Time wanted_from = absl::InfinitePast();
    uint32_t inboxes_wanted = 0;
  };
  // A client counts as a writer for so long after it last asked to write in place, with the most
  // slot sizes that it asked for at once in about as long.
  static constexpr absl::Duration kWriterWindow = absl::Seconds(60);
  ShmClientId Add(Caller caller, wire::ClientPage* page);
  // False when there is no such client.
  bool Remove(ShmClientId client);
  Client* Find(ShmClientId client);
  uint64_t clients(TenantId tenant) const { return tenants_[tenant.value()].clients; }
  // The client, which exists, asks for slots of so many sizes to write them in place.
  void AskToWrite(ShmClientId client, uint32_t slot_sizes, absl::Time now);
  // Inboxes that the tenant's writers need, one for each of them and slot size.
  uint64_t inboxes_wanted(TenantId tenant) const { return tenants_[tenant.value()].inboxes_wanted; }
  void Observe(absl::Time now, absl::Duration section_max);
  std::vector<SharedClientStatus> Statuses() const;

  // --- reports
  struct Access {
    RowIndex row = kNoRow;
    uint16_t plane = 0;  // kAllPlanes: touched
    uint8_t log_mass = 0;
    uint32_t steps = 0;
  };
  struct Reports {
    uint64_t invalid = 0;  // of rows or planes that the tenant does not have
    uint64_t dropped = 0;  // by clients, as they say
  };
  // Takes some of what is in the clients' rings: about kReportsPerTick records, and from each
  // client its share. Calls `take` with those that are valid, up to kReportBatch of one client at a
  // time; their rows were visible, and are not forgotten.
  static constexpr uint64_t kReportsPerTick = 16'384;
  static constexpr uint64_t kReportBatch = 64;
  Reports TakeReports(absl::FunctionRef<void(absl::Span<const Access>)> take);

  // Aborts when an index contradicts the block table; O(everything).
  void CheckInvariants() const;

 private:
  struct Tenant {
    std::unique_ptr<TenantShare> index;
    ReaderSections sections;
    wire::RetiredQueue<CopyRef> slots;
    uint64_t clients = 0;
    uint64_t inboxes_wanted = 0;  // by its clients together
  };

  EngineShare(const BlockCatalog* blocks,
              const std::vector<std::unique_ptr<SlotAllocator>>* allocators)
      : blocks_(blocks), allocators_(allocators) {}
  const SlotAllocator& allocator(PoolId pool) const { return *(*allocators_)[pool.value()]; }
  void SetInboxesWanted(Client& client, uint32_t wanted);
  Tenant& TenantOf(RowIndex row) { return tenants_[blocks_->tenant(row).value()]; }
  wire::ResidencyWord WordOf(CopyRef copy) const;
  uint32_t LineOf(RowIndex row) const { return row < lines_.size() ? lines_[row] - 1 : kNoLine; }
  static constexpr uint32_t kNoLine = TenantShare::kNoLine;

  const BlockCatalog* blocks_;
  const std::vector<std::unique_ptr<SlotAllocator>>* allocators_;
  std::vector<Tenant> tenants_;
  PagedArray<uint32_t, 16384> lines_;   // by row: first line + 1, 0 where it has none
  std::map<uint32_t, Client> clients_;  // in the order they came: a run is to be repeatable
  uint32_t last_client_ = 0;
};

}  // namespace kvtier
