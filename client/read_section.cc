#include "kvtier/read_section.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/block_finder.h"
#include "client/client_core.h"
#include "client/section_places.h"
#include "client/touches.h"
#include "proto/wire/section_protocol.h"

namespace kvtier {
namespace {

static_assert(ReadSection::kTimelineWords == wire::kTimelineWords);

absl::Status LeftError() {
  return absl::FailedPreconditionError("the read section has ended already");
}

absl::Status CheckViews(size_t views, size_t wanted) {
  if (views == wanted) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(views, " views were given for ", wanted, " blocks"));
}

// Keys that are looked up at once.
constexpr size_t kKeysAtOnce = 64;

}  // namespace

ReadSection::ReadSection(ReadSection&& other) noexcept
    : core_(other.core_), place_(std::exchange(other.place_, nullptr)) {}

ReadSection& ReadSection::operator=(ReadSection&& other) noexcept {
  if (this != &other) {
    Leave();
    core_ = other.core_;
    place_ = std::exchange(other.place_, nullptr);
  }
  return *this;
}

void ReadSection::Leave() {
  if (place_ == nullptr) return;
  SectionPlace* const place = std::exchange(place_, nullptr);
  place->places->Leave(*place);
}

std::atomic<uint64_t>* ReadSection::timeline_word(uint32_t timeline) const {
  if (place_ == nullptr || timeline >= kTimelineWords) return nullptr;
  return &place_->memory->page().timeline[timeline];
}

absl::Status ReadSection::EndAt(uint32_t timeline, uint64_t value) {
  if (place_ == nullptr) return LeftError();
  if (timeline >= kTimelineWords) {
    return absl::InvalidArgumentError(
        absl::StrCat("timeline word ", timeline, ": there are ", kTimelineWords));
  }
  if (value > wire::SectionEnd::kValueMask) {
    return absl::InvalidArgumentError(
        absl::StrCat("timeline value ", value, ": the limit is ", wire::SectionEnd::kValueMask));
  }
  SectionPlace* const place = std::exchange(place_, nullptr);
  place->places->LeaveAt(*place, timeline, value);
  return absl::OkStatus();
}

absl::StatusOr<size_t> ReadSection::Resolve(LeaseHandle lease, absl::Span<const BlockId> blocks,
                                            absl::Span<BlockView> views) {
  auto record = LeaseOf(lease);
  if (!record.ok()) return record.status();
  if (absl::Status status = CheckViews(views.size(), blocks.size()); !status.ok()) return status;
  const LeaseRecord& leased = **record;
  const std::vector<PlaneGeometry>& planes = leased.model->geometry()->planes;
  for (const BlockId& block : blocks) {
    if (block.chunk >= leased.chunk_count || block.plane >= planes.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("chunk ", block.chunk, " plane ", block.plane, ": the lease has ",
                       leased.chunk_count, " chunks, the model ", planes.size(), " planes"));
    }
  }
  return Find(
      blocks.size(),
      [&](size_t i) {
        const uint32_t chunk = blocks[i].chunk;
        return WantedBlock{leased.rows.empty() ? 0 : leased.rows[chunk], blocks[i].plane,
                           planes[blocks[i].plane].bytes_per_chunk};
      },
      views);
}

absl::StatusOr<size_t> ReadSection::ResolveChunk(LeaseHandle lease, uint32_t chunk,
                                                 absl::Span<BlockView> views) {
  auto record = LeaseOf(lease);
  if (!record.ok()) return record.status();
  const LeaseRecord& leased = **record;
  const std::vector<PlaneGeometry>& planes = leased.model->geometry()->planes;
  if (absl::Status status = CheckViews(views.size(), planes.size()); !status.ok()) return status;
  if (chunk >= leased.chunk_count) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk ", chunk, ": the lease has ", leased.chunk_count, " chunks"));
  }
  const uint64_t row = leased.rows.empty() ? 0 : leased.rows[chunk];
  return Find(
      planes.size(),
      [&](size_t plane) {
        return WantedBlock{row, static_cast<uint32_t>(plane), planes[plane].bytes_per_chunk};
      },
      views);
}

absl::StatusOr<size_t> ReadSection::ResolveKeys(const Model& model, absl::Span<const Key> keys,
                                                absl::Span<const uint32_t> planes,
                                                absl::Span<BlockView> views) {
  if (place_ == nullptr) return LeftError();
  auto id = core_->ModelIdFor(model, *place_->memory);
  if (!id.ok()) return id.status();
  const std::vector<PlaneGeometry>& all = model.geometry().planes;
  for (const uint32_t plane : planes) {
    if (plane < all.size()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("plane ", plane, ": the model has ", all.size(), " planes"));
  }
  const size_t per_key = planes.empty() ? all.size() : planes.size();
  if (absl::Status status = CheckViews(views.size(), keys.size() * per_key); !status.ok()) {
    return status;
  }
  size_t found = 0;
  for (size_t first = 0; first < keys.size(); first += kKeysAtOnce) {
    const size_t count = std::min(kKeysAtOnce, keys.size() - first);
    std::array<wire::ChunkKey, kKeysAtOnce> chunk_keys;
    std::array<wire::IndexReader::Row, kKeysAtOnce> rows;
    for (size_t i = 0; i < count; ++i) chunk_keys[i].bytes = keys[first + i];
    place_->memory->index().FindAll({chunk_keys.data(), count}, *id, {rows.data(), count});
    found += Find(
        count * per_key,
        [&](size_t i) {
          const wire::IndexReader::Row& row = rows[i / per_key];
          const uint32_t plane =
              planes.empty() ? static_cast<uint32_t>(i % per_key) : planes[i % per_key];
          return WantedBlock{row ? row.name() : 0, plane, all[plane].bytes_per_chunk};
        },
        views.subspan(first * per_key, count * per_key));
  }
  return found;
}

absl::StatusOr<std::shared_ptr<LeaseRecord>> ReadSection::LeaseOf(LeaseHandle lease) const {
  if (place_ == nullptr) return LeftError();
  auto record = core_->FindLease(lease);
  if (!record.ok()) return record;
  if ((*record)->link->memory().get() != place_->memory) {
    return absl::FailedPreconditionError(
        absl::StrCat("lease ", lease, " and the read section are of different sessions"));
  }
  return record;
}

template <typename Wanted>
size_t ReadSection::Find(size_t count, Wanted wanted, absl::Span<BlockView> views) {
  TenantMemory* const memory = place_->memory;
  const auto complain = [this, memory](uint64_t row, uint32_t plane, wire::ResidencyWord word) {
    core_->Complain(*memory, row, plane, word);
  };
  BlockFinder finder(memory, core_->options().verify, complain);
  size_t found = 0;
  finder.FindAll(count, wanted, [&](size_t i, const FoundBlock& block) {
    views[i] = block.view;
    found += block.view.data != nullptr ? 1 : 0;
  });
  if (place_->reported && count > 0) {
    Touches touches(*place_);
    for (size_t i = 0; i < count && touches.Add(wanted(i).row);) ++i;
  }
  return found;
}

}  // namespace kvtier
