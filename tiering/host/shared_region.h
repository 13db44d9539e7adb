// Memory that the daemon shares with clients beside its pools: a tenant's index, a client's page.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tiering/base/bytes.h"
#include "tiering/host/owned_fd.h"

namespace kvtier {

// One memfd of fixed size, mapped here for writing; not inherited by fork. Sparse: memory is taken
// as it is touched. Who else writes to it is decided at once and for good. Immutable, apart from
// its bytes, so thread-safe; the mapping goes with the object.
class SharedRegion {
 public:
  enum class Writers {
    kOwner,    // this mapping alone: sealed against every other
    kClients,  // who gets Fd() as well
  };
  // RESOURCE_EXHAUSTED: no descriptor or address space is left.
  static absl::StatusOr<std::unique_ptr<SharedRegion>> Create(const std::string& name, Bytes bytes,
                                                              Writers writers);
  ~SharedRegion();
  SharedRegion(const SharedRegion&) = delete;
  SharedRegion& operator=(const SharedRegion&) = delete;

  // Zeroes at first.
  absl::Span<std::byte> memory() const { return memory_; }
  // To be sent to a client: for reading only where the owner alone writes. Fails after CloseFd.
  absl::StatusOr<OwnedFd> Fd() const;
  // Where it is handed out once only: the memory stays with whoever maps it.
  void CloseFd() { fd_.Close(); }

 private:
  SharedRegion(std::string name, OwnedFd fd, absl::Span<std::byte> memory, Writers writers)
      : name_(std::move(name)), fd_(std::move(fd)), memory_(memory), writers_(writers) {}

  const std::string name_;
  OwnedFd fd_;
  const absl::Span<std::byte> memory_;
  const Writers writers_;
};

}  // namespace kvtier
