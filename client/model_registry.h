// The models of one client, registered with whatever daemon it is attached to.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/daemon_link.h"
#include "kvtier/types.h"
#include "kvtier/v1/types.pb.h"
#include "proto/wire/chunk_key.h"

namespace kvtier {

// One model. Shared by every copy of a Model, so that keys follow a tenant's salt that changed with
// the daemon. Thread-safe.
class ModelRegistration {
 public:
  explicit ModelRegistration(const ModelGeometry& geometry);

  const std::shared_ptr<const ModelGeometry>& geometry() const { return geometry_; }
  std::shared_ptr<const wire::KeyScope> scope() const ABSL_LOCKS_EXCLUDED(mutex_);

  // The daemon's id for it, over this link; registers where that was not done yet.
  absl::StatusOr<uint32_t> IdFor(const std::shared_ptr<DaemonLink>& link, absl::Duration timeout)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Models with the same text are the same registration.
  const std::string& text() const { return text_; }

 private:
  const std::shared_ptr<const ModelGeometry> geometry_;
  kvtier::v1::ModelSpec spec_;
  std::string text_;

  mutable absl::Mutex mutex_;
  std::shared_ptr<const wire::KeyScope> scope_ ABSL_GUARDED_BY(mutex_);
  std::weak_ptr<DaemonLink> link_ ABSL_GUARDED_BY(mutex_);  // that `id_` belongs to
  uint32_t id_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Thread-safe.
class ModelRegistry {
 public:
  static constexpr size_t kModelsMax = 4096;

  // RESOURCE_EXHAUSTED beyond kModelsMax different ones.
  absl::StatusOr<std::shared_ptr<ModelRegistration>> Register(
      const ModelGeometry& geometry, const std::shared_ptr<DaemonLink>& link,
      absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);
  // Registers all of them over a new link. Only UNAVAILABLE and the like are errors: a model that
  // this daemon refuses fails in the calls that use it.
  absl::Status RegisterAll(const std::shared_ptr<DaemonLink>& link, absl::Duration timeout)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // INVALID_ARGUMENT unless the registration is one of this client's.
  absl::Status CheckKnown(const std::shared_ptr<ModelRegistration>& registration) const
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::shared_ptr<ModelRegistration>> registrations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvtier
