// The services of two tenants, `admin` and `plain`, on real pools and real gRPC servers, each
// reached through a socket pair in place of an accepted connection.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/daemon.h"
#include "kvtier/v1/admin.grpc.pb.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"
#include "proto/wire/chunk_key.h"

namespace kvtier {

inline constexpr uint32_t kTestTokens = 4;  // in a chunk

// What one client knows after it attached and registered the test model.
struct TestClient {
  std::unique_ptr<v1::KvCache::Stub> kv;
  std::unique_ptr<v1::Admin::Stub> admin;
  v1::AttachReply attached;
  uint32_t model = 0;
  uint64_t session() const { return attached.session_id(); }
};

class ServiceTest : public ::testing::Test {
 protected:
  // Planes of the test model: one of a few KiB, one larger than a piece of a byte stream, one not
  // required.
  static constexpr uint64_t kPlaneBytes[3] = {5000, (5ull << 20) / 2 + 7, 64};

  // `more_limits`: fields of `limits` in YAML, after a comma.
  explicit ServiceTest(std::string more_limits = "") : more_limits_(std::move(more_limits)) {}
  void SetUp() override;
  void TearDown() override;

  // Channel to the server of a tenant: 0 `admin`, 1 `plain`.
  std::shared_ptr<grpc::Channel> Connect(size_t tenant);
  // Attaches and registers the test model.
  TestClient MakeClient(size_t tenant);

  // Bytes of a block that follow from its seed.
  static std::string BlockBytes(uint64_t seed, uint32_t plane);
  static std::vector<uint32_t> Tokens(uint32_t seed);
  // Puts one chunk of Tokens(seed) after `parent_key` with contents of `seed`; returns its key.
  std::string Put(TestClient& client, uint32_t seed, const std::string& parent_key);

  uint64_t Reserve(TestClient& client, const std::string& parent_key, uint32_t chunks = 1);
  grpc::Status Store(TestClient& client, uint64_t reservation, uint32_t chunk, uint32_t plane,
                     const std::string& bytes);
  v1::CommitRequest CommitOf(const TestClient& client, uint64_t reservation, uint32_t seed,
                             const std::string& parent_key) const;
  v1::LookupReply Lookup(TestClient& client, const std::string& keys, bool lease = true);
  // Fetches the whole lease; blocks are put together by (chunk, plane), failures by their code.
  struct Fetched {
    std::map<std::pair<uint32_t, uint32_t>, std::string> blocks;
    std::map<std::pair<uint32_t, uint32_t>, v1::FetchReply> failures;
    grpc::Status status;
  };
  Fetched Fetch(TestClient& client, uint64_t lease, std::vector<uint32_t> planes = {});
  // Flips a bit of every copy of a leased block.
  void Corrupt(const TestClient& client, uint64_t lease, uint32_t chunk, uint32_t plane);

  std::string more_limits_;
  v1::Config config_;
  MonotonicClock clock_;
  Topology topology_;
  RpcMetrics metrics_;
  DrainState drain_;
  DaemonContext context_;
  std::unique_ptr<EngineHost> host_;
  std::unique_ptr<ProcessWatcher> watcher_;
  std::vector<std::unique_ptr<TenantServer>> servers_;
};

}  // namespace kvtier
