// Places for the open read sections of a client, and what must outlive them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/wire/client_page.h"

namespace kvtier {

class SectionPlaces;
class TenantMemory;

// Where one section is at a time. The fields but the atomic ones belong to the section.
struct alignas(64) SectionPlace {
  std::atomic<uint64_t> uses{0};   // odd while a section is open; raised at each end of it
  std::atomic<uint64_t> until{0};  // SectionEnd of a section that was handed over to a timeline
  SectionPlaces* places = nullptr;
  TenantMemory* memory = nullptr;  // of the open section
  wire::SectionSlot* slot = nullptr;
  uint32_t entered = 0;
  bool reported = false;       // this section tells the daemon what it resolves
  uint64_t first_touched = 0;  // row that the last reported call began with
};

// Thread-safe. A section takes a place by one compare-and-swap; as many places as the client page
// has slots.
//
// What sections may use (a mapping, all memory of a daemon that is gone) is retired here instead of
// being destroyed: it goes when all sections that were open then are over. That is decided as the
// engine does it for slots: a section takes its place before it looks at anything, and whoever
// retires takes the thing out of sight before it looks at the places.
class SectionPlaces {
 public:
  SectionPlaces();
  ~SectionPlaces();  // no section is open
  SectionPlaces(const SectionPlaces&) = delete;
  SectionPlaces& operator=(const SectionPlaces&) = delete;

  enum class Outcome : uint8_t { kEntered, kNoMemory, kAllTaken };
  // Takes a place and opens a section of the memory that is there.
  std::pair<SectionPlace*, Outcome> Enter();
  // Closes it, and gives the place back.
  void Leave(SectionPlace& place);
  // The section is over, and the place free, once the timeline word has reached the value.
  void LeaveAt(SectionPlace& place, uint32_t timeline_word, uint64_t value);

  // The memory of new sections from now on; null: there is none. The one before is retired.
  void Publish(std::shared_ptr<TenantMemory> memory) ABSL_LOCKS_EXCLUDED(mutex_);
  // Destroys it once no section that is open now can use it. It is out of sight for new ones.
  void Retire(std::shared_ptr<const void> thing) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of a client that ends, when none is open: destroys it. Otherwise it stays for good, as whoever
  // leaves the last section touches it, and what the sections read is let go with the next client
  // that ends or begins after they have. Not while another thread is still in Leave of the last
  // one.
  static void Abandon(std::unique_ptr<SectionPlaces> places);
  // Whether any section is open, those that wait for a timeline included.
  bool AnyOpen() ABSL_LOCKS_EXCLUDED(mutex_);
  size_t retired() const { return retired_count_.load(std::memory_order_relaxed); }

 private:
  struct Retired {
    std::vector<std::pair<uint32_t, uint64_t>> open;  // place, its uses
    std::shared_ptr<const void> thing;
  };

  SectionPlace* Take();
  // Ends the section of a place whose timeline word has come so far. The lock keeps two threads
  // from ending it twice, and so its memory from going while one looks.
  bool EndIfReached(SectionPlace& place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool TryEnd(SectionPlace& place) ABSL_LOCKS_EXCLUDED(mutex_);
  void Free(SectionPlace& place);
  void RetireLocked(std::shared_ptr<const void> thing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes what is over out of retired_, for the caller to destroy.
  std::vector<Retired> Sweep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TrySweep() ABSL_LOCKS_EXCLUDED(mutex_);

  std::array<SectionPlace, wire::kSectionsMax> places_;
  std::atomic<TenantMemory*> current_{nullptr};
  std::atomic<size_t> retired_count_{0};

  absl::Mutex mutex_;
  std::shared_ptr<TenantMemory> owner_ ABSL_GUARDED_BY(mutex_);
  std::vector<Retired> retired_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
