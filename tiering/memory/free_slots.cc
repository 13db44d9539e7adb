#include "tiering/memory/free_slots.h"

#include "tiering/base/check.h"

namespace kvtier {
namespace {

constexpr uint64_t kAllOnes = ~uint64_t{0};
__extension__ using Uint128 = unsigned __int128;

uint32_t TrailingZeros(uint64_t word) { return static_cast<uint32_t>(__builtin_ctzll(word)); }
uint32_t LeadingZeros(uint64_t word) { return static_cast<uint32_t>(__builtin_clzll(word)); }

// The first bit at or after `from` that is set, of 256 bits; 256 when there is none.
uint32_t NextSet(const std::array<uint64_t, 4>& bits, uint32_t from) {
  if (from >= 256) return 256;
  uint64_t word = bits[from / 64] & kAllOnes << from % 64;
  for (uint32_t i = from / 64;;) {
    if (word != 0) return i * 64 + TrailingZeros(word);
    if (++i == 4) return 256;
    word = bits[i];
  }
}

// As NextSet, for a bit that is clear.
uint32_t NextClear(const std::array<uint64_t, 4>& bits, uint32_t from) {
  if (from >= 256) return 256;
  uint64_t word = ~bits[from / 64] & kAllOnes << from % 64;
  for (uint32_t i = from / 64;;) {
    if (word != 0) return i * 64 + TrailingZeros(word);
    if (++i == 4) return 256;
    word = ~bits[i];
  }
}

// One more than the last bit before `end` that is clear; 0 when there is none.
uint32_t EndOfLastClear(const std::array<uint64_t, 4>& bits, uint32_t end) {
  if (end == 0) return 0;
  uint64_t word = ~bits[(end - 1) / 64] & kAllOnes >> (63 - (end - 1) % 64);
  for (uint32_t i = (end - 1) / 64;;) {
    if (word != 0) return i * 64 + 64 - LeadingZeros(word);
    if (i-- == 0) return 0;
    word = ~bits[i];
  }
}

}  // namespace

uint32_t IndexSet::Next(uint32_t from) const {
  if (from >= kEnd || from / 64 >= words_.size()) return kEnd;
  const uint64_t word = words_[from / 64] & kAllOnes << from % 64;
  if (word != 0) return from / 64 * 64 + TrailingZeros(word);
  const uint32_t next = NextSet(nonzero_, from / 64 + 1);
  return next == 256 ? kEnd : next * 64 + TrailingZeros(words_[next]);
}

FreeSlots::FreeSlots(uint32_t count) : words_((count + 63) / 64, kAllOnes) {
  KVTIER_CHECK(count > 0 && count <= CopyRef::kSlotsMax);
  if (count % 64 != 0) words_.back() = (uint64_t{1} << count % 64) - 1;
  for (uint32_t i = 0; i < words(); ++i) {
    any_[i / 64] |= uint64_t{1} << i % 64;
    if (words_[i] == kAllOnes) all_[i / 64] |= uint64_t{1} << i % 64;
  }
}

uint32_t FreeSlots::CountFrom(uint32_t slot) const {
  const uint32_t index = slot / 64;
  if (index >= words()) return 0;
  // The shift brings in zeros, which look free: a word that is free from `slot` to its end gives 0.
  const uint64_t used = ~words_[index] >> slot % 64;
  if (used != 0) return TrailingZeros(used);
  const uint32_t end = NextClear(all_, index + 1);
  const uint32_t count = end * 64 - slot;
  return end < words() ? count + TrailingZeros(~words_[end]) : count;
}

uint32_t FreeSlots::CountBefore(uint32_t slot) const {
  const uint32_t index = slot / 64;
  const uint32_t bit = slot % 64;
  if (bit != 0) {
    const uint64_t used = ~words_[index] << (64 - bit);
    if (used != 0) return LeadingZeros(used);
  }
  const uint32_t begin = EndOfLastClear(all_, index);
  const uint32_t count = slot - begin * 64;
  return begin > 0 ? count + LeadingZeros(~words_[begin - 1]) : count;
}

void FreeSlots::Take(SlotRun run) {
  const uint32_t end = run.first + run.count;
  cursor_ = end;
  for (uint32_t slot = run.first; slot < end;) {
    const uint32_t index = slot / 64;
    const uint32_t next = end < index * 64 + 64 ? end : index * 64 + 64;
    const uint64_t mask = kAllOnes << slot % 64 & kAllOnes >> (63 - (next - 1) % 64);
    KVTIER_CHECK((words_[index] & mask) == mask);
    words_[index] &= ~mask;
    all_[index / 64] &= ~(uint64_t{1} << index % 64);
    if (words_[index] == 0) any_[index / 64] &= ~(uint64_t{1} << index % 64);
    slot = next;
  }
}

SlotRun FreeSlots::FindExact(uint32_t count) {
  KVTIER_CHECK(count > 0 && count <= kExactRunMax);
  for (int pass = 0; pass < 2; ++pass) {
    for (uint32_t i = NextSet(any_, pass == 0 ? cursor_ / 64 : 0); i < words();
         i = NextSet(any_, i + 1)) {
      const uint64_t low = words_[i];
      const uint64_t before = i > 0 ? words_[i - 1] >> 63 : 0;
      // With the next word behind it, so that every run that starts in `low` can be seen up to the
      // slot behind it: that is bit 63 + 64 at most.
      const Uint128 both = (i + 1 < words() ? Uint128{words_[i + 1]} << 64 : Uint128{0}) | low;
      // Bit p of `from`: the slots p to p + count - 1 are free, built up by doubling.
      Uint128 from = both;
      uint32_t have = 1;
      for (; have * 2 <= count; have *= 2) from &= from >> have;
      from &= from >> (count - have);
      const uint64_t starts = static_cast<uint64_t>(from & ~(both >> count)) & ~(low << 1 | before);
      if (starts != 0) {
        cursor_ = i * 64 + TrailingZeros(starts);
        return {cursor_, count};
      }
    }
  }
  KVTIER_CHECK(false && "no run of that length");
}

SlotRun FreeSlots::FindLong(uint32_t min, uint32_t max) const {
  KVTIER_CHECK(min >= kExactRunMax);
  if (cursor_ < words() * 64 && Contains(cursor_)) {
    const uint32_t before = CountBefore(cursor_);
    const uint32_t count = before + CountFrom(cursor_);
    if (count >= min && count <= max) return {cursor_ - before, count};
  }
  // A run of 64 slots and more reaches the end of some word, or is one word.
  uint32_t open = 0;  // free slots directly before word i
  for (uint32_t i = 0; i < words(); ++i) {
    const uint64_t used = ~words_[i];
    if (used == 0) {
      open += 64;
      continue;
    }
    const uint32_t count = open + TrailingZeros(used);
    if (count >= min && count <= max) return {i * 64 - open, count};
    open = LeadingZeros(used);
  }
  if (open >= min && open <= max) return {words() * 64 - open, open};
  return {};
}

void FreeSlots::CheckInvariants() const {
  std::array<uint64_t, 4> any{}, all{};
  for (uint32_t i = 0; i < words(); ++i) {
    if (words_[i] != 0) any[i / 64] |= uint64_t{1} << i % 64;
    if (words_[i] == kAllOnes) all[i / 64] |= uint64_t{1} << i % 64;
  }
  KVTIER_CHECK(any_ == any && all_ == all);
}

}  // namespace kvtier
