#include "client/segment_map.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace kvtier {
namespace {

// A call of UnmapOver asks about so large a part of many mappings.
constexpr size_t kPartPerTurn = 8;
constexpr uint64_t kEntries = uint64_t{1} << 18;  // 16 pools, 16,384 segments each

}  // namespace

absl::StatusOr<std::unique_ptr<SegmentMap>> SegmentMap::Create(
    std::shared_ptr<MemoryChannel> channel, SectionPlaces* places, size_t segments_max) {
  auto table = Mapping::Anonymous(kEntries * sizeof(Entry));
  if (!table.ok()) return table.status();
  return std::unique_ptr<SegmentMap>(
      new SegmentMap(*std::move(table), std::move(channel), places, segments_max));
}

SegmentMap::SegmentMap(Mapping table, std::shared_ptr<MemoryChannel> channel, SectionPlaces* places,
                       size_t segments_max)
    : table_(std::move(table)),
      channel_(std::move(channel)),
      places_(places),
      segments_max_(segments_max) {}

SegmentMap::~SegmentMap() = default;

absl::StatusOr<const MappedSegment*> SegmentMap::Get(wire::ResidencyWord word) {
  absl::MutexLock lock(&mutex_);
  return FindOrMap(word, wire::SegmentAccess::kRead);
}

absl::StatusOr<std::shared_ptr<const MappedSegment>> SegmentMap::GetWritable(
    wire::ResidencyWord word) {
  absl::MutexLock lock(&mutex_);
  auto segment = FindOrMap(word, wire::SegmentAccess::kWrite);
  if (!segment.ok()) return segment.status();
  return (*segment)->shared_from_this();
}

absl::StatusOr<const MappedSegment*> SegmentMap::FindOrMap(wire::ResidencyWord word,
                                                           wire::SegmentAccess access) {
  const bool write = access == wire::SegmentAccess::kWrite;
  if (absl::Status settled = Settle(); !settled.ok()) return settled;
  const MappedSegment* const known = Find(word);
  if (known != nullptr && (known->writable || !write)) return known;
  auto segment = Map(word, access);
  if (!segment.ok()) return segment.status();
  return Insert(word.copy_bits() >> kSlotBits, *std::move(segment));
}

const MappedSegment* SegmentMap::Insert(uint32_t number,
                                        std::shared_ptr<const MappedSegment> segment) {
  const auto before = std::find_if(mapped_.begin(), mapped_.end(), [number](const Mapped& mapped) {
    return mapped.number == number;
  });
  const MappedSegment* const result = segment.get();
  // The new one first: there is no moment in which a reader would find none.
  table()[number].store(result, std::memory_order_seq_cst);
  if (before != mapped_.end()) {
    std::shared_ptr<const MappedSegment> old = std::exchange(before->segment, std::move(segment));
    unmaps_.fetch_add(1, std::memory_order_seq_cst);
    places_->Retire(std::move(old));
    return result;
  }
  for (size_t i = 0; i < mapped_.size() && mapped_.size() >= segments_max_; ++i) {
    next_victim_ = (next_victim_ + 1) % mapped_.size();
    if (!mapped_[next_victim_].segment->writable) Unmap(next_victim_);
  }
  // A mapping keeps memory that the daemon gave back to the machine, and whose number it may never
  // use again: for each new one ask whether an old one is still meant. An inbox that is only empty
  // is UNAVAILABLE.
  if (!mapped_.empty()) {
    const wire::ResidencyWord old = NextByTurn().word();
    if (absl::IsNotFound(channel_->RequestSegment(old, wire::SegmentAccess::kRead).status()))
      Unmap(next_victim_);
  }
  mapped_.push_back({number, std::move(segment)});
  return result;
}

const SegmentMap::Mapped& SegmentMap::NextByTurn() {
  next_victim_ = (next_victim_ + 1) % mapped_.size();
  return mapped_[next_victim_];
}

void SegmentMap::UnmapOver(size_t count, absl::Duration patience) {
  if (channel_ == nullptr || !mutex_.TryLock()) return;
  UnmapSomeOver(count, patience);
  mutex_.Unlock();
}

void SegmentMap::UnmapSomeOver(size_t count, absl::Duration patience) {
  // Another request would give the inbox back of which nobody knows whether it is sealed.
  if (unsettled_ != nullptr) return;
  const absl::Time deadline = absl::Now() + patience;
  count = std::max(count, mapped_.size() / kPartPerTurn);
  for (size_t left = std::min(count, mapped_.size()); left > 0 && !mapped_.empty(); --left) {
    if (!asked_) asked_ = NextByTurn().word();
    const std::optional<absl::Status> answer =
        channel_->Ask(*asked_, std::max(deadline - absl::Now(), absl::ZeroDuration()));
    if (!answer) return;
    const wire::ResidencyWord word = *std::exchange(asked_, std::nullopt);
    if (!absl::IsNotFound(*answer)) continue;
    // It may have been replaced meanwhile.
    for (size_t i = 0; i < mapped_.size(); ++i) {
      if (mapped_[i].word() == word) {
        Unmap(i);
        break;
      }
    }
  }
}

absl::Status SegmentMap::Settle() {
  if (unsettled_ == nullptr) return absl::OkStatus();
  const absl::Status sealed = channel_->ConfirmMapped(unsettled_word_);
  if (absl::IsUnavailable(sealed)) return sealed;
  // Where it is not sealed it may be asked for again.
  if (sealed.ok()) {
    (void)Insert(unsettled_word_.copy_bits() >> kSlotBits, std::move(unsettled_));
  }
  unsettled_ = nullptr;
  return absl::OkStatus();
}

void SegmentMap::Unmap(size_t at) {
  table()[mapped_[at].number].store(nullptr, std::memory_order_seq_cst);
  unmaps_.fetch_add(1, std::memory_order_seq_cst);
  places_->Retire(std::move(mapped_[at].segment));
  mapped_[at] = std::move(mapped_.back());
  mapped_.pop_back();
}

absl::StatusOr<std::shared_ptr<const MappedSegment>> SegmentMap::Map(wire::ResidencyWord word,
                                                                     wire::SegmentAccess access) {
  auto reply = channel_->RequestSegment(word, access);
  if (!reply.ok()) return reply.status();
  if (reply->slot_bytes == 0 || reply->slot_bytes > reply->segment_bytes) {
    return absl::InternalError(absl::StrCat("kvtierd says that a segment of ", reply->segment_bytes,
                                            " bytes has slots of ", reply->slot_bytes));
  }
  const bool write = access == wire::SegmentAccess::kWrite;
  auto mapping = Mapping::Map(reply->fd.get(), reply->segment_bytes,
                              write ? Mapping::Access::kWrite : Mapping::Access::kRead, true);
  // What it was given for writing goes back with the next request.
  if (!mapping.ok()) return mapping.status();
  auto segment = std::make_shared<MappedSegment>();
  segment->channel = channel_;
  segment->mapping = *std::move(mapping);
  segment->incarnation = word.incarnation();
  segment->writable = write;
  segment->slot_bytes = reply->slot_bytes;
  segment->slots = static_cast<uint32_t>(
      std::min<uint64_t>(reply->segment_bytes / reply->slot_bytes, uint64_t{1} << kSlotBits));
  segment->pool = PoolName(word.pool(), reply->pool);
  if (write) {
    absl::Status sealed = channel_->ConfirmMapped(word);
    // The socket broke: the daemon may have sealed it, and then there is no other mapping to write.
    if (absl::IsUnavailable(sealed)) {
      unsettled_word_ = word;
      unsettled_ = segment;
    }
    if (!sealed.ok()) return sealed;
  }
  return std::shared_ptr<const MappedSegment>(std::move(segment));
}

std::string_view SegmentMap::PoolName(uint32_t pool, const std::string& name) {
  auto& kept = pools_[pool % kPools];
  if (kept == nullptr) {
    kept = std::make_unique<const std::string>(name.empty() ? absl::StrCat("pool ", pool) : name);
  }
  return *kept;
}

size_t SegmentMap::mapped() const {
  absl::MutexLock lock(&mutex_);
  return mapped_.size();
}

}  // namespace kvtier
