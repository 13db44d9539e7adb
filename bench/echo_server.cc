#include "bench/echo_server.h"

#include <signal.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"

namespace kvtier::bench {
namespace {

class EchoService final : public v1::KvCache::Service {
 private:
  grpc::Status Lookup(grpc::ServerContext*, const v1::LookupRequest* request,
                      v1::LookupReply* reply) override {
    reply->set_matched(static_cast<uint32_t>(request->keys().size() / 16));
    reply->set_lease_id(0x0000000100000001);
    reply->set_lease_ttl_ms(60'000);
    return grpc::Status::OK;
  }
  grpc::Status Release(grpc::ServerContext*, const v1::ReleaseRequest* request,
                       v1::ReleaseReply* reply) override {
    reply->set_released(static_cast<uint32_t>(request->lease_ids_size()));
    return grpc::Status::OK;
  }
};

}  // namespace

absl::Status RunEchoServer(const std::string& socket, int ready_fd) {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  EchoService service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  // As in daemon/tenant_server.cc.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 4);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::UnavailableError(absl::StrCat("cannot serve on ", socket));
  if (::write(ready_fd, "r", 1) != 1)
    return absl::UnavailableError("nobody reads the ready descriptor");
  ::close(ready_fd);
  int signal = 0;
  sigwait(&stop, &signal);
  server->Shutdown();
  return absl::OkStatus();
}

}  // namespace kvtier::bench
