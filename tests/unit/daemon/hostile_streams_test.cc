// What a client must not be able to do with the transport: have a small message inflated into a
// large one, hold every thread of its tenant with streams, or hold one for ever by standing still.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/unit/daemon/service_fixture.h"

namespace kvtier {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kSoon = absl::Seconds(30);

class HostileStreamsTest : public ServiceTest {
 protected:
  // 21 threads beside the watches, 16 of them for byte streams.
  explicit HostileStreamsTest(const std::string& more_limits = "")
      : ServiceTest(", rpc_threads_max: 24" + more_limits) {}

  uint64_t InProgress(RpcMethod method) const { return metrics_.method(method).in_progress; }
  // Heartbeats of `client`, whatever they answer, until so many calls of the method are served;
  // false when that takes too long.
  bool BeatUntil(TestClient& client, RpcMethod method, uint64_t calls) {
    const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoSeconds(kSoon);
    while (InProgress(method) != calls) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      (void)Beat(client);
    }
    return true;
  }
  static grpc::Status Beat(TestClient& client) {
    v1::HeartbeatRequest request;
    request.set_session_id(client.session());
    v1::HeartbeatReply reply;
    grpc::ClientContext context;
    return client.kv->Heartbeat(&context, request, &reply);
  }

  struct OpenStore {
    grpc::ClientContext context;
    v1::StoreReply reply;
    std::unique_ptr<grpc::ClientWriter<v1::StoreRequest>> writer;
  };
  static std::unique_ptr<OpenStore> Open(TestClient& client) {
    auto store = std::make_unique<OpenStore>();
    store->writer = client.kv->Store(&store->context, &store->reply);
    return store;
  }
};

TEST_F(HostileStreamsTest, CompressedMessagesAreNotInflated) {
  const auto stub = v1::KvCache::NewStub(Connect(1));
  for (const size_t bytes : {size_t{100}, size_t{32} << 20}) {
    v1::AttachRequest request;
    request.set_client_name(std::string(bytes, 'x'));
    v1::AttachReply reply;
    grpc::ClientContext context;
    context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    const grpc::Status status = stub->Attach(&context, request, &reply);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << status.error_message();
    // What a server says that inflated it first.
    EXPECT_THAT(status.error_message(), Not(HasSubstr("larger than max")));
  }
}

TEST_F(HostileStreamsTest, StreamsLeaveThreadsToOtherCalls) {
  constexpr uint64_t kStreams = 16;
  TestClient greedy[2] = {MakeClient(1), MakeClient(1)};
  TestClient other = MakeClient(1);
  std::vector<std::unique_ptr<OpenStore>> held;
  for (uint64_t i = 0; i < kStreams; ++i) {
    held.push_back(Open(greedy[i % 2]));
    ASSERT_TRUE(BeatUntil(other, RpcMethod::kStore, i + 1));
  }
  for (int i = 0; i < 20; ++i) {
    const auto refused = Open(greedy[i % 2]);
    const grpc::Status status = refused->writer->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(status.error_message(), HasSubstr("16 byte streams"));
    EXPECT_TRUE(Beat(other).ok());
  }
  for (const auto& store : held) {
    store->writer->WritesDone();
    EXPECT_TRUE(store->writer->Finish().ok());
  }
  ASSERT_TRUE(BeatUntil(other, RpcMethod::kStore, 0));
  Put(other, 1, "");
}

class StalledStreamsTest : public HostileStreamsTest {
 protected:
  // Short to wait for, long for the pauses of a busy machine.
  StalledStreamsTest() : HostileStreamsTest(", session_timeout_ms: 2s") {}
};

TEST_F(StalledStreamsTest, AStreamThatStandsStillIsEnded) {
  TestClient frozen = MakeClient(1);
  TestClient other = MakeClient(1);
  // More than the transport takes without a reader.
  std::string keys;
  for (uint32_t seed = 1; seed <= 6; ++seed)
    keys += Put(frozen, seed, keys.empty() ? "" : keys.substr(keys.size() - 16));
  const uint64_t lease = Lookup(frozen, keys).lease_id();
  ASSERT_NE(lease, 0u);
  v1::FetchRequest request;
  request.set_session_id(frozen.session());
  request.set_lease_id(lease);
  grpc::ClientContext context;
  const auto reader = frozen.kv->Fetch(&context, request);
  const auto silent = Open(frozen);
  ASSERT_TRUE(BeatUntil(other, RpcMethod::kFetch, 1));
  ASSERT_TRUE(BeatUntil(other, RpcMethod::kFetch, 0));
  ASSERT_TRUE(BeatUntil(other, RpcMethod::kStore, 0));
  v1::FetchReply reply;
  while (reader->Read(&reply)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(silent->writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace kvtier
