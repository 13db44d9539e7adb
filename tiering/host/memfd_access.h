// What processes that are handed a memfd can do with it.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiering/base/bytes.h"
#include "tiering/host/owned_fd.h"

namespace kvtier {

// From now on nobody can make a writable mapping of it, write to it or punch holes into it; the
// mappings that are there write on. Neither this nor anything else about it can be changed later.
// Its size is fixed before. FAILED_PRECONDITION: somebody who had it for writing has locked its
// seals. `name` is for errors.
absl::Status SealFromWriting(const std::string& name, int fd);
// Whether SealFromWriting succeeded, or somebody else did the same.
bool SealedFromWriting(int fd);

// Sees to it that there is memory behind `bytes` from `offset` on: whoever has it for writing may
// have given some back to the machine, and touching that could end the process. RESOURCE_EXHAUSTED:
// there is none. About a third of a millisecond for each MiB that is not there.
absl::Status FillHoles(const std::string& name, int fd, Bytes offset, Bytes bytes);

// Whether some of it has no memory. Nobody makes holes once it is sealed from writing.
bool HasHoles(int fd, Bytes bytes);

// Another descriptor, close-on-exec, for reading only. RESOURCE_EXHAUSTED: no descriptor is left.
absl::StatusOr<OwnedFd> ReopenForReading(const std::string& name, int fd);
// The same descriptor once more, close-on-exec.
absl::StatusOr<OwnedFd> Duplicate(const std::string& name, int fd);

// Whether seals hold here for memory of small (4 KiB) or huge (2 MiB) pages: before Linux 5.13
// memory of huge pages could be sealed, and mapped for writing all the same. Takes no page.
absl::Status CheckSealsHold(bool huge_pages);

// An error of a system call about the memory `name`: RESOURCE_EXHAUSTED where memory or descriptors
// are short, else FAILED_PRECONDITION.
absl::Status MemoryError(const std::string& name, const char* call, int error);

}  // namespace kvtier
