// A lease as the client knows it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "client/daemon_link.h"
#include "client/model_registry.h"

namespace kvtier {

// Thread-safe: only the time when it ends changes.
class LeaseRecord {
 public:
  LeaseRecord(std::shared_ptr<DaemonLink> lease_link, uint64_t lease_id,
              std::shared_ptr<ModelRegistration> lease_model, uint32_t chunks,
              std::vector<uint64_t> row_names, absl::Time expires)
      : link(std::move(lease_link)),
        daemon_id(lease_id),
        model(std::move(lease_model)),
        chunk_count(chunks),
        rows(std::move(row_names)),
        expires_ns_(absl::ToUnixNanos(expires)) {}

  const std::shared_ptr<DaemonLink> link;
  const uint64_t daemon_id;
  const std::shared_ptr<ModelRegistration> model;
  const uint32_t chunk_count;
  // Names of the chunks' rows in the shared index, 0 where one is not in it; empty without shared
  // memory.
  const std::vector<uint64_t> rows;

  absl::Time expires() const {
    return absl::FromUnixNanos(expires_ns_.load(std::memory_order_relaxed));
  }
  void set_expires(absl::Time time) {
    expires_ns_.store(absl::ToUnixNanos(time), std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> expires_ns_;
};

}  // namespace kvtier
