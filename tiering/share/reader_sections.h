// The read sections of one tenant's clients, as their pages tell them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "proto/wire/client_page.h"
#include "proto/wire/section_protocol.h"
#include "tiering/base/ids.h"

namespace kvtier {

// Not thread-safe. The pages are the clients' to write at any time: each word is read once, and
// whatever is in it only keeps memory of this tenant from reuse, or no longer does. A scan takes a
// cache line for each section that a client ever had open at once, 256 at most, and one more; 4 KiB
// are held for each client.
class ReaderSections {
 public:
  // `page` stays until Remove.
  void Add(ShmClientId client, const wire::ClientPage* page);
  void Remove(ShmClientId client);
  bool empty() const { return readers_.empty(); }

  // The least epoch of an open section, or wire::kNoSection; after wire::FenceBeforeScan.
  uint64_t Oldest();
  // How often that was asked.
  uint64_t scans() const { return scans_; }

  struct Status {
    ShmClientId client;
    uint32_t open = 0;
    absl::Duration longest{};
    bool over_limit = false;
  };
  // Looks how long each section has been open: since an Observe first saw its epoch in its word. A
  // reader who leaves and comes back meanwhile has a newer epoch only when there is one: true when
  // one is wanted (`retire_epoch` raised once), because a section that is getting old has `current`
  // in its word.
  bool Observe(absl::Time now, absl::Duration section_max, uint64_t current);
  // As of the last Observe, in the order of Add.
  const std::vector<Status>& statuses() const { return statuses_; }

 private:
  struct Seen {
    uint64_t epoch = wire::kNoSection;
    absl::Time since;
  };
  struct Reader {
    ShmClientId client;
    const wire::ClientPage* page = nullptr;
    std::vector<Seen> seen;
  };
  std::vector<Reader> readers_;
  std::vector<Status> statuses_;  // of readers_
  uint64_t scans_ = 0;
};

}  // namespace kvtier
