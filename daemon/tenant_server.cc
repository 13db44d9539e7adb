#include "daemon/tenant_server.h"

#include <grpc/grpc.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvtier {
namespace {

// Headers and field tags around the largest payload.
constexpr int kMessageSlackBytes = 64 * 1024;
constexpr int kPollersMin = 1;
constexpr int kPollersMax = 4;

// Keeps gRPC up until the process ends. Its own shutdown, with the last server, may wait 10 s for a
// poller that nobody wakes.
void KeepGrpc() {
  static const bool kept = [] {
    grpc_init();
    return true;
  }();
  static_cast<void>(kept);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TenantServer>> TenantServer::Create(const TenantContext& context) {
  KeepGrpc();
  auto server = std::unique_ptr<TenantServer>(new TenantServer(context));
  const int threads_max = static_cast<int>(context.daemon->config->limits().rpc_threads_max());
  grpc::ResourceQuota quota(absl::StrCat("tenant ", context.name));
  quota.SetMaxThreads(threads_max);
  // Messages are put together before a call gets a thread. Beyond what the threads could be at work
  // on, gRPC cancels streams of this tenant.
  quota.Resize(static_cast<size_t>(threads_max) * kMessageBytesMax);

  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMessageBytesMax) + kMessageSlackBytes);
  builder.SetMaxSendMessageSize(static_cast<int>(kMessageBytesMax) + kMessageSlackBytes);
  // A compressed message of a megabyte can be a thousand when it is inflated, and that happens
  // before its size is checked.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, kPollersMin);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, std::min(kPollersMax, threads_max));
  // A client that asks for more at once waits in its own process.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, threads_max);
  server->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  builder.RegisterService(&server->kv_cache_);
  builder.RegisterService(&server->admin_);
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot start the gRPC server of tenant \"", context.name, "\""));
  }
  return server;
}

TenantServer::~TenantServer() {
  if (server_ != nullptr) Shutdown(absl::ZeroDuration());
}

void TenantServer::AddConnection(int fd) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.fd = fd;
  acceptor_->HandleNewConnection(&connection);
}

void TenantServer::Shutdown(absl::Duration deadline) {
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(
                        absl::ToChronoNanoseconds(deadline)));
  server_->Wait();
}

}  // namespace kvtier
