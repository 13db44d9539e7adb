// The gRPC server of one tenant: it serves the connections that the acceptor gives it, and listens
// nowhere.
#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/admin_service.h"
#include "daemon/kv_cache_service.h"
#include "daemon/service_context.h"

namespace kvtier {

// One server per tenant, with services of its own: a call's tenant is the server it came in by, so
// no field of a request can name another. Thread-safe.
class TenantServer {
 public:
  // `context.daemon` outlives the server.
  static absl::StatusOr<std::unique_ptr<TenantServer>> Create(const TenantContext& context);
  ~TenantServer();

  // Takes over a connected, non-blocking stream socket.
  void AddConnection(int fd);
  // Refuses new calls, lets running ones end until the deadline, then cancels them.
  void Shutdown(absl::Duration deadline);

 private:
  explicit TenantServer(const TenantContext& context) : kv_cache_(context), admin_(context) {}

  KvCacheService kv_cache_;
  AdminService admin_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace kvtier
