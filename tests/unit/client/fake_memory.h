// The daemon's end of the shared-memory socket in the test's own process: an index written by the
// daemon's own class, a client page, and segments made as a test wants them.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "absl/types/span.h"
#include "client/mapping.h"
#include "client/memory_channel.h"
#include "client/section_places.h"
#include "client/tenant_memory.h"
#include "proto/wire/residency_word.h"
#include "tests/support/temp_dir.h"
#include "tiering/share/tenant_share.h"

namespace kvtier::testing {

class FakeMemory {
 public:
  static constexpr uint64_t kEpoch = 77;
  static constexpr uint64_t kSegmentBytes = 64 << 10;

  FakeMemory();
  ~FakeMemory();

  // A segment whose slots are filled with zeroes; its bytes as the daemon writes them.
  absl::Span<std::byte> AddSegment(wire::ResidencyWord word, uint64_t slot_bytes);
  // Its incarnation is over.
  void RemoveSegment(wire::ResidencyWord word);

  TenantShare& share() { return *share_; }
  // As the daemon sees it.
  std::byte* index_bytes() const { return index_.data(); }
  wire::ClientPage& page() const { return *reinterpret_cast<wire::ClientPage*>(page_.data()); }
  std::string socket() const { return directory_.path() + "/kvtierd.sock.shm"; }

  // A client's mappings.
  absl::StatusOr<std::shared_ptr<TenantMemory>> Attach(SectionPlaces& places) const;

  // How often segments were asked for.
  int requests() const { return requests_.load(); }
  // How often clients went on with another socket, and said goodbye: counted before a client is let
  // in that connected afterwards.
  int resumes() const { return resumes_.load(); }
  int goodbyes() const { return goodbyes_.load(); }
  // The next client that says it has mapped an inbox is not answered.
  void swallow_mapped() { swallow_mapped_.store(true); }
  // From now on requests are taken and not answered.
  void set_silent(bool silent) { silent_.store(silent); }
  // Answers of a size that no message has.
  void set_garbled(bool garbled) { garbled_.store(garbled); }
  // Speaks another major version.
  void set_other_version(bool other) { other_version_.store(other); }

 private:
  struct Segment {
    ScopedFd fd;
    Mapping mapping;
    uint64_t slot_bytes = 0;
  };

  void Serve();
  void ServeClient(int fd);
  void Send(int fd, const void* packet, size_t bytes, absl::Span<const int> fds);

  test_support::TempDir directory_;
  ScopedFd index_fd_, page_fd_, listener_, stop_;
  Mapping index_, page_;
  std::unique_ptr<TenantShare> share_;
  std::mutex mutex_;
  std::map<uint64_t, Segment> segments_;  // by word without its slot
  std::atomic<int> requests_{0};
  std::atomic<int> resumes_{0};
  std::atomic<int> goodbyes_{0};
  std::atomic<bool> swallow_mapped_{false};
  std::atomic<bool> silent_{false};
  std::atomic<bool> garbled_{false};
  std::atomic<bool> other_version_{false};
  std::thread thread_;
};

}  // namespace kvtier::testing
