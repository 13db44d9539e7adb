// Stops a process just after one of its threads has used a word of its memory, by the processor's
// debug registers: the program itself has nothing in it that knows of this.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvtier::test_support {

// Where a process has mapped byte `offset` of the memory that the caller's `fd` names, for writing.
// NOT_FOUND: it has not.
absl::StatusOr<uint64_t> AddressIn(pid_t pid, int fd, uint64_t offset);

// Not thread-safe; used on one thread, which is the process's parent. Threads that the process
// starts afterwards are not watched; those that end, but the main one, are not missed.
class AccessWatch {
 public:
  static constexpr size_t kWordsMax = 4;
  enum class Access : uint8_t { kWrite = 1, kReadOrWrite = 3 };

  // UNIMPLEMENTED: another processor than x86-64, or a machine that does not let debug registers be
  // set.
  static absl::StatusOr<std::unique_ptr<AccessWatch>> Begin(pid_t pid);
  // Kills the process, unless that is done.
  ~AccessWatch();
  AccessWatch(const AccessWatch&) = delete;
  AccessWatch& operator=(const AccessWatch&) = delete;

  // From now on the process runs until one of its threads uses one of the words, which are aligned
  // and have 8 bytes. That thread then stands after the instruction; the others run on.
  absl::Status Watch(const std::vector<uint64_t>& words, Access access);
  // Waits until a thread stands, and returns which word it used.
  absl::StatusOr<size_t> Wait(absl::Duration timeout);
  // SIGKILL; its parent has still to wait for it.
  void Kill();

 private:
  explicit AccessWatch(pid_t pid) : pid_(pid) {}
  absl::Status Stop(pid_t thread) const;
  absl::Status Set(pid_t thread, const std::vector<uint64_t>& words, Access access) const;
  static absl::Status Continue(pid_t thread, int signal);
  // Until one is an error. Threads of which `act` says NOT_FOUND have ended, and are forgotten.
  absl::Status ForEachThread(absl::FunctionRef<absl::Status(pid_t)> act);

  pid_t pid_;
  std::vector<pid_t> threads_;
  size_t words_ = 0;
  pid_t standing_ = 0;  // the thread that used a word; 0: all run
};

}  // namespace kvtier::test_support
