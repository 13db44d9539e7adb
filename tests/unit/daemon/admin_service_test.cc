// Proves that operators see everything, that other tenants see their own numbers only and may
// change nothing, and that a drain refuses new work and waits for the old.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/wire/version.h"
#include "tests/unit/daemon/service_fixture.h"

namespace kvtier {
namespace {

using ::testing::HasSubstr;

class AdminServiceTest : public ServiceTest {
 protected:
  template <typename Request, typename Reply>
  static grpc::Status Call(TestClient& client,
                           grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*,
                                                                   const Request&, Reply*),
                           const Request& request, Reply* reply) {
    grpc::ClientContext context;
    return (client.admin.get()->*method)(&context, request, reply);
  }
  static v1::StatusReply Status(TestClient& client) {
    v1::StatusRequest request;
    request.mutable_version()->set_major(wire::kProtocolMajor);
    v1::StatusReply reply;
    const grpc::Status status = Call(client, &v1::Admin::Stub::Status, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }
};

TEST_F(AdminServiceTest, StatusIsOfTheCallersTenantUnlessAdmin) {
  TestClient admin = MakeClient(0);
  TestClient plain = MakeClient(1);
  Put(plain, 1, "");
  const v1::StatusReply all = Status(admin);
  EXPECT_EQ(all.tenant(), "admin");
  EXPECT_TRUE(all.admin());
  EXPECT_EQ(all.sessions(), 2u);
  EXPECT_EQ(all.chunks(), 1u);
  EXPECT_EQ(all.blocks(), 3u);
  EXPECT_EQ(all.policy(), "lru");
  EXPECT_EQ(all.daemon_epoch(), 77u);
  EXPECT_EQ(all.counters().at("committed_chunks"), 1u);
  const v1::StatusReply own = Status(plain);
  EXPECT_FALSE(own.admin());
  EXPECT_EQ(own.sessions(), 1u);
  EXPECT_TRUE(own.counters().empty());
  EXPECT_EQ(Status(plain).chunks(), 1u);
  TestClient other = MakeClient(0);
  v1::StatusRequest wrong;
  v1::StatusReply reply;
  EXPECT_EQ(Call(other, &v1::Admin::Stub::Status, wrong, &reply).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(AdminServiceTest, PoolsShowQuotas) {
  TestClient admin = MakeClient(0);
  TestClient plain = MakeClient(1);
  v1::PoolsReply reply;
  ASSERT_TRUE(Call(admin, &v1::Admin::Stub::Pools, v1::PoolsRequest(), &reply).ok());
  ASSERT_EQ(reply.pools_size(), 2);
  EXPECT_EQ(reply.pools(0).name(), "hbm:0");
  EXPECT_EQ(reply.pools(0).kind(), "hbm");
  EXPECT_TRUE(reply.pools(0).emulated());
  EXPECT_EQ(reply.pools(1).budget_bytes(), 64u << 20);
  EXPECT_EQ(reply.pools(1).tenants_size(), 2);
  ASSERT_TRUE(Call(plain, &v1::Admin::Stub::Pools, v1::PoolsRequest(), &reply).ok());
  ASSERT_EQ(reply.pools(1).tenants_size(), 1);
  EXPECT_EQ(reply.pools(1).tenants(0).name(), "plain");
  EXPECT_EQ(reply.pools(1).tenants(0).quota_bytes(), 32u << 20);
}

TEST_F(AdminServiceTest, OnlyAdminsChangeAnything) {
  TestClient admin = MakeClient(0);
  TestClient plain = MakeClient(1);
  v1::SetBudgetRequest request;
  request.set_pool("dram:0");
  request.set_budget_bytes(32u << 20);
  v1::SetBudgetReply reply;
  grpc::Status status = Call(plain, &v1::Admin::Stub::SetBudget, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), HasSubstr("\"plain\""));
  v1::DrainReply drained;
  EXPECT_EQ(Call(plain, &v1::Admin::Stub::Drain, v1::DrainRequest(), &drained).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_FALSE(drain_.draining());
  v1::SettleReply settled;
  EXPECT_EQ(Call(plain, &v1::Admin::Stub::Settle, v1::SettleRequest(), &settled).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  v1::SettleRequest hold;
  hold.set_hold_ms(60'001);
  EXPECT_THAT(Call(admin, &v1::Admin::Stub::Settle, hold, &settled).error_message(),
              HasSubstr("at most 60000"));
  hold.set_hold_ms(0);
  EXPECT_TRUE(Call(admin, &v1::Admin::Stub::Settle, hold, &settled).ok());

  ASSERT_TRUE(Call(admin, &v1::Admin::Stub::SetBudget, request, &reply).ok());
  EXPECT_EQ(reply.previous_bytes(), 64u << 20);
  request.set_budget_bytes(~0ull);
  status = Call(admin, &v1::Admin::Stub::SetBudget, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("beyond its limit of 67108864"));
  request.set_pool("tape:0");
  EXPECT_EQ(Call(admin, &v1::Admin::Stub::SetBudget, request, &reply).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(AdminServiceTest, BlocksAreListedInPages) {
  TestClient admin = MakeClient(0);
  TestClient plain = MakeClient(1);
  const std::string first = Put(admin, 1, "");
  const std::string second = Put(admin, 2, first);
  v1::BlocksRequest request;
  request.set_limit(1);
  std::vector<v1::BlocksReply::Chunk> chunks;
  do {
    v1::BlocksReply reply;
    ASSERT_TRUE(Call(admin, &v1::Admin::Stub::Blocks, request, &reply).ok());
    chunks.insert(chunks.end(), reply.chunks().begin(), reply.chunks().end());
    request.set_cursor(reply.next_cursor());
  } while (request.cursor() != 0 && chunks.size() < 10);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[1].key(), second);
  EXPECT_EQ(chunks[1].parent_key(), first);
  EXPECT_EQ(chunks[0].model(), "tiny");
  EXPECT_EQ(chunks[0].token_count(), kTestTokens);
  EXPECT_EQ(chunks[0].children(), 1u);
  uint64_t blocks = 0;
  for (const auto& copy : chunks[0].copies()) blocks += copy.blocks();
  EXPECT_GE(blocks, 3u);
  v1::BlocksReply reply;
  ASSERT_TRUE(Call(plain, &v1::Admin::Stub::Blocks, v1::BlocksRequest(), &reply).ok());
  EXPECT_EQ(reply.chunks_size(), 0);
  request.set_limit(10'001);
  EXPECT_THAT(Call(admin, &v1::Admin::Stub::Blocks, request, &reply).error_message(),
              HasSubstr("at most 10000"));
}

TEST_F(AdminServiceTest, ADrainRefusesNewWorkAndWaitsForLeases) {
  TestClient admin = MakeClient(0);
  const std::string key = Put(admin, 1, "");
  const uint64_t lease = Lookup(admin, key).lease_id();
  v1::DrainRequest request;
  request.set_deadline_ms(50);
  v1::DrainReply reply;
  ASSERT_TRUE(Call(admin, &v1::Admin::Stub::Drain, request, &reply).ok());
  EXPECT_FALSE(reply.drained());
  EXPECT_EQ(reply.leases_left(), 1u);

  const auto code = [&](auto method, auto message, auto answer) {
    grpc::ClientContext context;
    return (admin.kv.get()->*method)(&context, message, &answer).error_code();
  };
  v1::AttachRequest attach;
  attach.mutable_version()->set_major(wire::kProtocolMajor);
  EXPECT_EQ(code(&v1::KvCache::Stub::Attach, attach, v1::AttachReply()),
            grpc::StatusCode::UNAVAILABLE);
  v1::ReserveRequest reserve;
  reserve.set_session_id(admin.session());
  reserve.set_chunk_count(1);
  EXPECT_EQ(code(&v1::KvCache::Stub::Reserve, reserve, v1::ReserveReply()),
            grpc::StatusCode::UNAVAILABLE);
  v1::LookupRequest lookup;
  lookup.set_session_id(admin.session());
  lookup.set_model_id(admin.model);
  lookup.set_keys(key);
  EXPECT_EQ(code(&v1::KvCache::Stub::Lookup, lookup, v1::LookupReply()), grpc::StatusCode::OK);
  lookup.set_lease(true);
  EXPECT_EQ(code(&v1::KvCache::Stub::Lookup, lookup, v1::LookupReply()),
            grpc::StatusCode::UNAVAILABLE);
  v1::HeartbeatRequest heartbeat;
  heartbeat.set_session_id(admin.session());
  grpc::ClientContext context;
  v1::HeartbeatReply beat;
  ASSERT_TRUE(admin.kv->Heartbeat(&context, heartbeat, &beat).ok());
  EXPECT_TRUE(beat.draining());
  EXPECT_TRUE(Status(admin).draining());

  // What is held can still be read and released, and then the drain ends.
  EXPECT_EQ(Fetch(admin, lease).blocks.size(), 3u);
  v1::ReleaseRequest release;
  release.set_session_id(admin.session());
  release.add_lease_ids(lease);
  EXPECT_EQ(code(&v1::KvCache::Stub::Release, release, v1::ReleaseReply()), grpc::StatusCode::OK);
  request.set_exit(true);
  ASSERT_TRUE(Call(admin, &v1::Admin::Stub::Drain, request, &reply).ok());
  EXPECT_TRUE(reply.drained());
  EXPECT_EQ(drain_.AwaitStopRequest(), DrainState::Stop::kNow);
}

TEST_F(AdminServiceTest, ADrainWithExitEndsTheDaemonAtItsDeadline) {
  TestClient admin = MakeClient(0);
  const uint64_t lease = Lookup(admin, Put(admin, 1, "")).lease_id();
  ASSERT_NE(lease, 0u);
  v1::DrainRequest request;
  request.set_deadline_ms(1);
  request.set_exit(true);
  v1::DrainReply reply;
  ASSERT_TRUE(Call(admin, &v1::Admin::Stub::Drain, request, &reply).ok());
  EXPECT_FALSE(reply.drained());
  EXPECT_EQ(drain_.AwaitStopRequest(), DrainState::Stop::kNow) << "leases had their time already";
}

}  // namespace
}  // namespace kvtier
