#include "client/model_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvtier {
namespace {

kvtier::v1::ModelSpec SpecOf(const ModelGeometry& geometry) {
  kvtier::v1::ModelSpec spec;
  spec.set_name(geometry.name);
  spec.set_revision(geometry.revision);
  spec.set_data_type(geometry.data_type);
  spec.set_layout_version(geometry.layout_version);
  spec.set_salt(geometry.salt);
  spec.set_chunk_tokens(geometry.chunk_tokens);
  for (const PlaneGeometry& plane : geometry.planes) {
    kvtier::v1::Plane* out = spec.add_planes();
    out->set_name(plane.name);
    out->set_layer(plane.layer);
    out->set_kind(static_cast<kvtier::v1::PlaneKind>(plane.type));
    out->set_rank(plane.rank);
    out->set_bytes_per_chunk(plane.bytes_per_chunk);
    out->set_required(plane.required);
    out->set_window_tokens(plane.window_tokens);
  }
  for (const RecomputeTime& point : geometry.recompute) {
    kvtier::v1::RecomputeCost* out = spec.add_recompute();
    out->set_context_tokens(point.context_tokens);
    out->set_seconds(point.seconds);
  }
  return spec;
}

}  // namespace

ModelRegistration::ModelRegistration(const ModelGeometry& geometry)
    : geometry_(std::make_shared<const ModelGeometry>(geometry)),
      spec_(SpecOf(geometry)),
      text_(spec_.SerializeAsString()),
      scope_(std::make_shared<const wire::KeyScope>()) {}

std::shared_ptr<const wire::KeyScope> ModelRegistration::scope() const {
  absl::MutexLock lock(&mutex_);
  return scope_;
}

absl::StatusOr<uint32_t> ModelRegistration::IdFor(const std::shared_ptr<DaemonLink>& link,
                                                  absl::Duration timeout) {
  {
    absl::MutexLock lock(&mutex_);
    if (link_.lock() == link) return id_;
  }
  kvtier::v1::RegisterModelRequest request;
  request.set_session_id(link->session().id);
  *request.mutable_model() = spec_;
  kvtier::v1::RegisterModelReply reply;
  DaemonLink::Call call(link, timeout);
  absl::Status status = call.Finish(link->control().RegisterModel(call.context(), request, &reply));
  if (!status.ok()) return status;
  auto scope = std::make_shared<wire::KeyScope>();
  if (reply.fingerprint().size() != scope->fingerprint.size()) {
    return absl::InternalError(absl::StrCat(
        "kvtierd at ", link->socket(), " gave model ", spec_.name(), " a fingerprint of ",
        reply.fingerprint().size(), " bytes instead of ", scope->fingerprint.size()));
  }
  std::copy(reply.fingerprint().begin(), reply.fingerprint().end(), scope->fingerprint.begin());
  scope->tenant_salt = link->session().tenant_salt;
  absl::MutexLock lock(&mutex_);
  scope_ = std::move(scope);
  link_ = link;
  id_ = reply.model_id();
  return id_;
}

absl::StatusOr<std::shared_ptr<ModelRegistration>> ModelRegistry::Register(
    const ModelGeometry& geometry, const std::shared_ptr<DaemonLink>& link,
    absl::Duration timeout) {
  auto registration = std::make_shared<ModelRegistration>(geometry);
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& known : registrations_) {
      if (known->text() == registration->text()) registration = known;
    }
  }
  auto id = registration->IdFor(link, timeout);
  if (!id.ok()) return id.status();
  absl::MutexLock lock(&mutex_);
  for (const auto& known : registrations_) {
    if (known->text() == registration->text()) return known;
  }
  if (registrations_.size() >= kModelsMax) {
    return absl::ResourceExhaustedError(absl::StrCat("model ", geometry.name, ": this client has ",
                                                     registrations_.size(),
                                                     " models, the limit is ", kModelsMax));
  }
  registrations_.push_back(registration);
  return registration;
}

absl::Status ModelRegistry::RegisterAll(const std::shared_ptr<DaemonLink>& link,
                                        absl::Duration timeout) {
  std::vector<std::shared_ptr<ModelRegistration>> registrations;
  {
    absl::MutexLock lock(&mutex_);
    registrations = registrations_;
  }
  for (const auto& registration : registrations) {
    const absl::Status status = registration->IdFor(link, timeout).status();
    if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
        absl::IsCancelled(status)) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status ModelRegistry::CheckKnown(
    const std::shared_ptr<ModelRegistration>& registration) const {
  absl::MutexLock lock(&mutex_);
  if (registration == nullptr || std::find(registrations_.begin(), registrations_.end(),
                                           registration) == registrations_.end()) {
    return absl::InvalidArgumentError(
        "the request's model was not registered with this client: use what RegisterModel returned");
  }
  return absl::OkStatus();
}

}  // namespace kvtier
