#include "client/section_places.h"

#include <algorithm>

#include "client/tenant_memory.h"
#include "proto/wire/section_protocol.h"

namespace kvtier {
namespace {

// Where a thread looks for a free place first. Threads start apart, so that they do not meet on a
// cache line.
uint32_t NextStart() {
  static std::atomic<uint32_t> next{0};
  return next.fetch_add(1, std::memory_order_relaxed) * 7;
}

// A thread starts elsewhere only after so many places were taken: the daemon looks at all that were
// ever used, and sections that overlap should not wander over all there are.
constexpr uint32_t kTakenMax = 16;

bool Open(uint64_t uses) { return (uses & 1) != 0; }

bool Reached(const SectionPlace& place, uint64_t until) {
  const auto word = static_cast<uint32_t>(until >> 48) - 1;
  const uint64_t value = place.memory->page().timeline[word].load(std::memory_order_acquire);
  return (value & wire::SectionEnd::kValueMask) >= (until & wire::SectionEnd::kValueMask);
}

}  // namespace

SectionPlaces::SectionPlaces() {
  for (SectionPlace& place : places_) place.places = this;
}

SectionPlaces::~SectionPlaces() = default;

SectionPlace* SectionPlaces::Take() {
  thread_local uint32_t start = NextStart();
  for (uint32_t i = 0; i < wire::kSectionsMax; ++i) {
    SectionPlace& place = places_[(start + i) % wire::kSectionsMax];
    uint64_t uses = place.uses.load(std::memory_order_relaxed);
    if (Open(uses)) {
      if (place.until.load(std::memory_order_relaxed) == 0 || !TryEnd(place)) continue;
      uses = place.uses.load(std::memory_order_relaxed);
    }
    // Sequentially consistent, as what Publish and Retire do: either they see this place taken, or
    // the section does not see what they took away.
    if (Open(uses) ||
        !place.uses.compare_exchange_strong(uses, uses + 1, std::memory_order_seq_cst)) {
      continue;
    }
    if (i >= kTakenMax) start = (start + i) % wire::kSectionsMax;
    return &place;
  }
  return nullptr;
}

std::pair<SectionPlace*, SectionPlaces::Outcome> SectionPlaces::Enter() {
  SectionPlace* const place = Take();
  if (place == nullptr) return {nullptr, Outcome::kAllTaken};
  TenantMemory* const memory = current_.load(std::memory_order_seq_cst);
  if (memory == nullptr || memory->lost()) {
    Free(*place);
    return {nullptr, Outcome::kNoMemory};
  }
  place->memory = memory;
  const auto number = static_cast<size_t>(place - places_.data());
  place->slot = &memory->page().sections[number];
  place->first_touched = 0;
  wire::EnterSection(memory->index().retire_epoch(), memory->page(), number);
  return {place, Outcome::kEntered};
}

void SectionPlaces::Free(SectionPlace& place) {
  place.uses.store(place.uses.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void SectionPlaces::Leave(SectionPlace& place) {
  wire::LeaveSection(place.slot->section);
  Free(place);
  if (retired_count_.load(std::memory_order_relaxed) != 0) TrySweep();
}

void SectionPlaces::LeaveAt(SectionPlace& place, uint32_t timeline_word, uint64_t value) {
  const uint64_t until = wire::SectionEnd::Pack(timeline_word, value);
  // From here on the daemon looks at the word as well.
  place.slot->end.store(until, std::memory_order_release);
  place.until.store(until, std::memory_order_release);
}

bool SectionPlaces::EndIfReached(SectionPlace& place) {
  const uint64_t until = place.until.load(std::memory_order_acquire);
  if (until == 0 || !Reached(place, until)) return false;
  place.until.store(0, std::memory_order_relaxed);
  wire::LeaveSection(place.slot->section);
  // After the section's end and before the next one's beginning: it never has this one's end.
  place.slot->end.store(0, std::memory_order_release);
  Free(place);
  return true;
}

void SectionPlaces::Publish(std::shared_ptr<TenantMemory> memory) {
  std::vector<Retired> over;
  absl::MutexLock lock(&mutex_);
  current_.store(memory.get(), std::memory_order_seq_cst);
  owner_.swap(memory);
  if (memory != nullptr) RetireLocked(std::move(memory));
  over = Sweep();
}

void SectionPlaces::Retire(std::shared_ptr<const void> thing) {
  std::vector<Retired> over;
  absl::MutexLock lock(&mutex_);
  RetireLocked(std::move(thing));
  over = Sweep();
}

void SectionPlaces::RetireLocked(std::shared_ptr<const void> thing) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  Retired retired;
  for (uint32_t i = 0; i < wire::kSectionsMax; ++i) {
    const uint64_t uses = places_[i].uses.load(std::memory_order_seq_cst);
    if (Open(uses)) retired.open.emplace_back(i, uses);
  }
  retired.thing = std::move(thing);
  retired_.push_back(std::move(retired));
  retired_count_.store(retired_.size(), std::memory_order_relaxed);
}

std::vector<SectionPlaces::Retired> SectionPlaces::Sweep() {
  std::vector<Retired> over;
  for (SectionPlace& place : places_) {
    if (place.until.load(std::memory_order_relaxed) != 0) EndIfReached(place);
  }
  const auto waits = [this](Retired& retired) {
    const auto ended = [this](const std::pair<uint32_t, uint64_t>& open) {
      return places_[open.first].uses.load(std::memory_order_acquire) != open.second;
    };
    retired.open.erase(std::remove_if(retired.open.begin(), retired.open.end(), ended),
                       retired.open.end());
    return !retired.open.empty();
  };
  const auto first_over = std::stable_partition(retired_.begin(), retired_.end(), waits);
  std::move(first_over, retired_.end(), std::back_inserter(over));
  retired_.erase(first_over, retired_.end());
  retired_count_.store(retired_.size(), std::memory_order_relaxed);
  return over;
}

bool SectionPlaces::TryEnd(SectionPlace& place) {
  if (!mutex_.TryLock()) return false;
  const bool ended = EndIfReached(place);
  mutex_.Unlock();
  return ended;
}

void SectionPlaces::TrySweep() {
  if (!mutex_.TryLock()) return;
  const std::vector<Retired> over = Sweep();
  mutex_.Unlock();
}

void SectionPlaces::Abandon(std::unique_ptr<SectionPlaces> places) {
  static absl::Mutex mutex;
  static auto* const abandoned = new std::vector<std::unique_ptr<SectionPlaces>>;
  absl::MutexLock lock(&mutex);
  for (const auto& one : *abandoned) {
    if (!one->AnyOpen()) one->Publish(nullptr);
  }
  if (places != nullptr && places->AnyOpen()) abandoned->push_back(std::move(places));
}

bool SectionPlaces::AnyOpen() {
  std::vector<Retired> over;
  absl::MutexLock lock(&mutex_);
  over = Sweep();
  return std::any_of(places_.begin(), places_.end(), [](const SectionPlace& place) {
    return Open(place.uses.load(std::memory_order_acquire));
  });
}

}  // namespace kvtier
