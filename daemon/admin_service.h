// The Admin service of one tenant.
#pragma once

#include "absl/status/status.h"
#include "daemon/service_context.h"
#include "kvtier/v1/admin.grpc.pb.h"

namespace kvtier {

// Thread-safe. A tenant without `admin` sees its own numbers only, and PERMISSION_DENIED for
// SetBudget, Drain and Settle.
class AdminService final : public v1::Admin::Service {
 public:
  // `tenant.daemon` outlives the service.
  explicit AdminService(TenantContext tenant) : tenant_(std::move(tenant)) {}

  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest* request,
                      v1::StatusReply* reply) override;
  grpc::Status Topology(grpc::ServerContext*, const v1::TopologyRequest*,
                        v1::TopologyReply* reply) override;
  grpc::Status Pools(grpc::ServerContext*, const v1::PoolsRequest*, v1::PoolsReply* reply) override;
  grpc::Status SetBudget(grpc::ServerContext*, const v1::SetBudgetRequest* request,
                         v1::SetBudgetReply* reply) override;
  grpc::Status Blocks(grpc::ServerContext*, const v1::BlocksRequest* request,
                      v1::BlocksReply* reply) override;
  grpc::Status Drain(grpc::ServerContext* context, const v1::DrainRequest* request,
                     v1::DrainReply* reply) override;
  grpc::Status Settle(grpc::ServerContext*, const v1::SettleRequest* request,
                      v1::SettleReply*) override;

 private:
  EngineHost& host() const { return *tenant_.daemon->host; }
  absl::Status CheckAdmin(absl::string_view what) const;

  const TenantContext tenant_;
};

}  // namespace kvtier
