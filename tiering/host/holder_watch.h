// Tells when memory that other processes were given is theirs no longer.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/host/owned_fd.h"

namespace kvtier {

// Memory behind a memfd lasts as long as any process has a descriptor of it, be it for nothing but
// its name (O_PATH), or on its way in a message, or a mapping, forked ones included. The kernel
// keeps no list of who that is, and what it counts for file leases is not all of them. But an
// inotify watch sees the end of a file without a name, when the last of them goes: it does not keep
// the file, nor the memory, itself.
//
// Not thread-safe. A descriptor, and for each memory watched one of the user's inotify watches.
class HolderWatch {
 public:
  // RESOURCE_EXHAUSTED: no descriptor or inotify instance is left.
  static absl::StatusOr<HolderWatch> Create();

  // Watches the memory of `fd`, from before anybody else has it; its number is never used again.
  // The same memory has the same number. RESOURCE_EXHAUSTED: the user has no watch left
  // (fs.inotify.max_user_watches). `name` is for errors.
  absl::StatusOr<int> Add(const std::string& name, int fd);

  // Numbers of the memory that came to its end since the last call: nobody has it any more, this
  // process included. One system call while there is none.
  std::vector<int> TakeEnded();

 private:
  explicit HolderWatch(OwnedFd inotify) : inotify_(std::move(inotify)) {}

  // What of watched_ is not watched any more: the kernel had no room to say it one by one. False:
  // it cannot be told now. Those that ended count as held then, which is the safe side.
  bool TakeUnlisted(std::vector<int>& ended);

  OwnedFd inotify_;
  absl::flat_hash_set<int> watched_;
  bool overflowed_ = false;  // and what ended meanwhile is not known yet
};

// Whether such a watch sees what it should here, for memory of small or huge pages. Takes no page.
absl::Status CheckHolderWatch(bool huge_pages);

}  // namespace kvtier
