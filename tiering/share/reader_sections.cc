#include "tiering/share/reader_sections.h"

#include <algorithm>

namespace kvtier {
namespace {

// Calls visit(slot, epoch) for the words that ever had a section.
template <typename Visit>
void ForEachUsed(const wire::ClientPage& page, Visit visit) {
  for (size_t i = 0; i < page.used.size(); ++i) {
    for (uint64_t left = page.used[i].load(std::memory_order_acquire); left != 0;
         left &= left - 1) {
      const size_t slot = i * 64 + static_cast<size_t>(__builtin_ctzll(left));
      const wire::SectionSlot& words = page.sections[slot];
      visit(slot, wire::ReadSection(words.section, words.end, page.timeline.data(),
                                    page.timeline.size()));
    }
  }
}

}  // namespace

void ReaderSections::Add(ShmClientId client, const wire::ClientPage* page) {
  readers_.push_back({client, page, std::vector<Seen>(wire::kSectionsMax)});
  statuses_.push_back({.client = client});
}

void ReaderSections::Remove(ShmClientId client) {
  std::erase_if(readers_, [client](const Reader& reader) { return reader.client == client; });
  std::erase_if(statuses_, [client](const Status& status) { return status.client == client; });
}

uint64_t ReaderSections::Oldest() {
  ++scans_;
  uint64_t oldest = wire::kNoSection;
  for (const Reader& reader : readers_) {
    ForEachUsed(*reader.page,
                [&](size_t /*slot*/, uint64_t epoch) { oldest = std::min(oldest, epoch); });
  }
  return oldest;
}

bool ReaderSections::Observe(absl::Time now, absl::Duration section_max, uint64_t current) {
  bool wants_epoch = false;
  for (size_t i = 0; i < readers_.size(); ++i) {
    Status status{.client = readers_[i].client};
    ForEachUsed(*readers_[i].page, [&](size_t slot, uint64_t epoch) {
      Seen& seen = readers_[i].seen[slot];
      // Whoever comes back has a newer epoch than before, or the same; an older one is a pretence.
      const bool entered = seen.epoch == wire::kNoSection || epoch > seen.epoch;
      if (epoch == wire::kNoSection || entered) seen = {epoch, now};
      if (epoch == wire::kNoSection) return;
      const absl::Duration open = now - seen.since;
      ++status.open;
      status.longest = std::max(status.longest, open);
      wants_epoch |= epoch == current && open >= section_max / 4;
    });
    status.over_limit = status.longest > section_max;
    statuses_[i] = status;
  }
  return wants_epoch;
}

}  // namespace kvtier
