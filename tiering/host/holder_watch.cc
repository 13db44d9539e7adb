#include "tiering/host/holder_watch.h"

#include <linux/memfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/memfd_access.h"

namespace kvtier {
namespace {

// Nobody can move a file without a name. The end of a watch is told whatever it watches for.
constexpr uint32_t kNeverHappens = IN_MOVE_SELF;

}  // namespace

absl::StatusOr<HolderWatch> HolderWatch::Create() {
  OwnedFd inotify(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify.valid()) return MemoryError("watch", "inotify_init1", errno);
  return HolderWatch(std::move(inotify));
}

absl::StatusOr<int> HolderWatch::Add(const std::string& name, int fd) {
  const int number =
      inotify_add_watch(inotify_.get(), absl::StrCat("/proc/self/fd/", fd).c_str(), kNeverHappens);
  // ENOSPC is what it says when the user has no watch left.
  if (number < 0) return MemoryError(name, "inotify_add_watch", errno);
  watched_.insert(number);
  return number;
}

std::vector<int> HolderWatch::TakeEnded() {
  std::vector<int> ended;
  alignas(inotify_event) std::array<char, 4096> buffer;
  ssize_t got;
  while ((got = read(inotify_.get(), buffer.data(), buffer.size())) > 0) {
    // Events of a file that is watched itself carry no name, so all have one size.
    for (ssize_t at = 0; at < got; at += static_cast<ssize_t>(sizeof(inotify_event))) {
      inotify_event event;
      std::memcpy(&event, buffer.data() + at, sizeof event);
      KVTIER_CHECK(event.len == 0);
      if ((event.mask & IN_Q_OVERFLOW) != 0) overflowed_ = true;
      if ((event.mask & IN_IGNORED) != 0 && watched_.erase(event.wd) == 1)
        ended.push_back(event.wd);
    }
  }
  if (overflowed_) overflowed_ = !TakeUnlisted(ended);
  return ended;
}

bool HolderWatch::TakeUnlisted(std::vector<int>& ended) {
  std::ifstream list(absl::StrCat("/proc/self/fdinfo/", inotify_.get()));
  absl::flat_hash_set<int> listed;
  for (std::string line; std::getline(list, line);) {
    unsigned int number = 0;
    if (std::sscanf(line.c_str(), "inotify wd:%x", &number) == 1)
      listed.insert(static_cast<int>(number));
  }
  // No descriptor was left for it, say.
  if (!list.eof()) return false;
  for (const int number : watched_) {
    if (!listed.contains(number)) ended.push_back(number);
  }
  for (const int number : ended) watched_.erase(number);
  return true;
}

absl::Status CheckHolderWatch(bool huge_pages) {
  const std::string name = huge_pages ? "of huge pages" : "of small pages";
  unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (huge_pages) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  OwnedFd memory(memfd_create("kvtier-probe", flags));
  if (!memory.valid()) return MemoryError(name, "memfd_create", errno);
  KVTIER_ASSIGN_OR_RETURN(HolderWatch watch, HolderWatch::Create());
  KVTIER_ASSIGN_OR_RETURN(const int number, watch.Add(name, memory.get()));
  KVTIER_ASSIGN_OR_RETURN(OwnedFd other, Duplicate(name, memory.get()));
  memory.Close();
  const bool too_early = !watch.TakeEnded().empty();
  other.Close();
  if (!too_early && absl::c_linear_search(watch.TakeEnded(), number)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("a watch on memory ", name, " does not see ",
                   too_early ? "who still has it" : "that nobody has it any more"));
}

}  // namespace kvtier
