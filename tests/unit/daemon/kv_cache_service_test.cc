// Proves over real gRPC that what was stored comes back verified, that nothing unverified is
// committed, that bad requests are named and change nothing, that tenants do not see each other,
// and that watches resume.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "absl/strings/str_cat.h"
#include "proto/wire/checksum.h"
#include "proto/wire/version.h"
#include "tests/unit/daemon/service_fixture.h"

namespace kvtier {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class KvCacheServiceTest : public ServiceTest {
 protected:
  // Runs one unary call.
  template <typename Request, typename Reply>
  static grpc::Status Call(TestClient& client,
                           grpc::Status (v1::KvCache::Stub::*method)(grpc::ClientContext*,
                                                                     const Request&, Reply*),
                           const Request& request, Reply* reply) {
    grpc::ClientContext context;
    return (client.kv.get()->*method)(&context, request, reply);
  }
};

// What a client says of a trace's time, where the configuration takes it and where it does not.
class LogicalTimeTest : public KvCacheServiceTest {
 protected:
  explicit LogicalTimeTest(bool taken) {
    if (taken) more_limits_ = "}\npolicy: {logical_time: true";
  }
  LogicalTimeTest() : LogicalTimeTest(true) {}
  // Looks up, commits and reports at these times.
  void SayTimes(TestClient& client, uint32_t seed, std::array<uint64_t, 3> us) {
    const std::string key = Put(client, seed, "");
    v1::LookupRequest lookup;
    lookup.set_session_id(client.session());
    lookup.set_model_id(client.model);
    lookup.set_keys(key);
    lookup.set_lease(true);
    lookup.set_logical_time_us(us[0]);
    v1::LookupReply found;
    EXPECT_TRUE(Call(client, &v1::KvCache::Stub::Lookup, lookup, &found).ok());
    v1::ReportRequest report;
    report.set_session_id(client.session());
    report.set_lease_id(found.lease_id());
    report.set_logical_time_us(us[1]);
    v1::ReportReply reported;
    EXPECT_TRUE(Call(client, &v1::KvCache::Stub::Report, report, &reported).ok());
    v1::CommitRequest commit = CommitOf(client, Reserve(client, ""), seed + 1, "");
    commit.set_logical_time_us(us[2]);
    v1::CommitReply committed;
    EXPECT_TRUE(Call(client, &v1::KvCache::Stub::Commit, commit, &committed).ok());
  }
  uint64_t Taken() {
    return host_->With([](Engine& engine, absl::Time) { return engine.counters().logical_times; });
  }
};

TEST_F(LogicalTimeTest, IsTakenOfEachCallThatHasOne) {
  TestClient client = MakeClient(1);
  EXPECT_TRUE(client.attached.takes_logical_time());
  SayTimes(client, 1, {1, 2, 3});
  EXPECT_EQ(Taken(), 3u);
  SayTimes(client, 3, {0, 0, 0});
  EXPECT_EQ(Taken(), 3u);
  v1::LookupRequest lookup;
  lookup.set_session_id(client.session());
  lookup.set_model_id(client.model);
  for (const uint64_t far : {uint64_t{2'000'000'000'000'000}, ~uint64_t{0}}) {
    lookup.set_logical_time_us(far);
    v1::LookupReply reply;
    const grpc::Status status = Call(client, &v1::KvCache::Stub::Lookup, lookup, &reply);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("a logical time of"));
  }
}

class NoLogicalTimeTest : public LogicalTimeTest {
 protected:
  NoLogicalTimeTest() : LogicalTimeTest(false) {}
};

TEST_F(NoLogicalTimeTest, IsIgnoredWhereTheConfigurationDoesNotTakeIt) {
  TestClient client = MakeClient(1);
  EXPECT_FALSE(client.attached.takes_logical_time());
  SayTimes(client, 1, {1, 2, ~uint64_t{0}});
  EXPECT_EQ(Taken(), 0u);
}

TEST_F(KvCacheServiceTest, AnotherMajorVersionIsRefused) {
  TestClient client = MakeClient(0);
  v1::AttachRequest request;
  request.mutable_version()->set_major(wire::kProtocolMajor + 1);
  v1::AttachReply reply;
  const grpc::Status status = Call(client, &v1::KvCache::Stub::Attach, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr(absl::StrCat(wire::kProtocolMajor + 1, ".0")));
  EXPECT_THAT(status.error_message(),
              HasSubstr(absl::StrCat(wire::kProtocolMajor, ".", wire::kProtocolMinor)));
}

TEST_F(KvCacheServiceTest, AttachTellsWhatAClientNeeds) {
  TestClient client = MakeClient(1);
  EXPECT_EQ(client.attached.tenant(), "plain");
  EXPECT_EQ(client.attached.tenant_salt().size(), 32u);
  EXPECT_EQ(client.attached.daemon_epoch(), 77u);
  EXPECT_EQ(client.attached.heartbeat_interval_ms(), 10'000u);
  EXPECT_EQ(client.attached.message_bytes_max(), kMessageBytesMax);
  EXPECT_FALSE(client.attached.bound_to_process());
}

TEST_F(KvCacheServiceTest, WhatWasStoredComesBack) {
  TestClient client = MakeClient(0);
  const std::string first = Put(client, 1, "");
  const std::string second = Put(client, 2, first);
  const v1::LookupReply found = Lookup(client, first + second + std::string(16, 'x'));
  EXPECT_EQ(found.matched(), 2u);
  ASSERT_NE(found.lease_id(), 0u);
  EXPECT_EQ(found.lease_ttl_ms(), 60'000u);
  const Fetched fetched = Fetch(client, found.lease_id());
  EXPECT_TRUE(fetched.status.ok()) << fetched.status.error_message();
  EXPECT_TRUE(fetched.failures.empty());
  ASSERT_EQ(fetched.blocks.size(), 6u);
  for (const auto& [block, bytes] : fetched.blocks) {
    EXPECT_EQ(bytes, BlockBytes(block.first + 1, block.second))
        << block.first << " " << block.second;
  }
  EXPECT_EQ(Fetch(client, found.lease_id(), {1}).blocks.size(), 2u);
  EXPECT_EQ(metrics_.fetched_bytes, 2 * (kPlaneBytes[0] + 2 * kPlaneBytes[1] + kPlaneBytes[2]));
}

TEST_F(KvCacheServiceTest, ASecondWriterLearnsThatTheChunkExists) {
  TestClient client = MakeClient(0);
  const std::string key = Put(client, 1, "");
  const uint64_t reservation = Reserve(client, "");
  for (uint32_t plane = 0; plane < 3; ++plane) {
    ASSERT_TRUE(Store(client, reservation, 0, plane, BlockBytes(1, plane)).ok());
  }
  v1::CommitReply reply;
  ASSERT_TRUE(
      Call(client, &v1::KvCache::Stub::Commit, CommitOf(client, reservation, 1, ""), &reply).ok());
  EXPECT_EQ(reply.chunks(0).outcome(), v1::CommitReply::ALREADY_EXISTS);
  EXPECT_EQ(reply.chunks(0).key(), key);
}

TEST_F(KvCacheServiceTest, NothingIsCommittedWithAWrongChecksum) {
  TestClient client = MakeClient(0);
  const uint64_t reservation = Reserve(client, "");
  for (uint32_t plane = 0; plane < 3; ++plane) {
    ASSERT_TRUE(Store(client, reservation, 0, plane, BlockBytes(1, plane)).ok());
  }
  v1::CommitRequest request = CommitOf(client, reservation, 1, "");
  request.mutable_chunks(0)->set_checksums(1, 0x1234);
  v1::CommitReply reply;
  ASSERT_TRUE(Call(client, &v1::KvCache::Stub::Commit, request, &reply).ok());
  ASSERT_EQ(reply.chunks_size(), 1);
  EXPECT_EQ(reply.chunks(0).outcome(), v1::CommitReply::FAILED);
  EXPECT_EQ(reply.chunks(0).code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_THAT(reply.chunks(0).error(), HasSubstr("plane 1"));
  EXPECT_THAT(reply.chunks(0).error(), HasSubstr("0000000000001234"));
  EXPECT_EQ(Lookup(client, reply.chunks(0).key(), false).matched(), 0u);
  // The reservation is as it was: the right checksums commit it.
  ASSERT_TRUE(
      Call(client, &v1::KvCache::Stub::Commit, CommitOf(client, reservation, 1, ""), &reply).ok());
  EXPECT_EQ(reply.chunks(0).outcome(), v1::CommitReply::COMMITTED);
  // The reservation ended with its last chunk: committed bytes cannot be written any more.
  EXPECT_EQ(Store(client, reservation, 0, 0, "new").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(KvCacheServiceTest, ACorruptBlockIsDataLossAndTheOthersArrive) {
  TestClient client = MakeClient(0);
  const std::string first = Put(client, 1, "");
  const std::string second = Put(client, 2, first);
  const v1::LookupReply found = Lookup(client, first + second);
  Corrupt(client, found.lease_id(), 1, 1);  // larger than a piece
  Corrupt(client, found.lease_id(), 0, 0);  // smaller
  const Fetched fetched = Fetch(client, found.lease_id());
  EXPECT_TRUE(fetched.status.ok()) << fetched.status.error_message();
  ASSERT_EQ(fetched.failures.size(), 2u);
  for (const auto& [block, reply] : fetched.failures) {
    EXPECT_EQ(reply.code(), grpc::StatusCode::DATA_LOSS);
    EXPECT_TRUE(reply.data().empty());
    EXPECT_TRUE(reply.last());
    EXPECT_THAT(reply.error(), HasSubstr(absl::StrCat("plane ", block.second)));
  }
  EXPECT_EQ(fetched.blocks.at({0, 1}), BlockBytes(1, 1));
  EXPECT_EQ(fetched.blocks.at({1, 0}), BlockBytes(2, 0));
  EXPECT_FALSE(fetched.blocks.contains({0, 0}));
  const EngineCounters counters =
      host_->With([](Engine& engine, absl::Time) { return engine.counters(); });
  EXPECT_EQ(counters.corrupt_copies, 2u);
  EXPECT_EQ(Lookup(client, first + second, false).matched(), 0u);
}

TEST_F(KvCacheServiceTest, BadRequestsAreNamedAndChangeNothing) {
  TestClient client = MakeClient(0);
  const std::string key = Put(client, 1, "");
  const uint64_t lease = Lookup(client, key).lease_id();
  const uint64_t reservation = Reserve(client, key);

  v1::LookupRequest lookup;
  lookup.set_session_id(client.session());
  lookup.set_model_id(client.model);
  v1::LookupReply looked;
  const auto lookup_error = [&] {
    const grpc::Status status = Call(client, &v1::KvCache::Stub::Lookup, lookup, &looked);
    return absl::StrCat(status.error_code(), " ", status.error_message());
  };
  lookup.set_keys(std::string(17, 'k'));
  EXPECT_THAT(lookup_error(), HasSubstr("3 keys has 17 bytes"));
  lookup.set_keys(std::string(16 * 9, 'k'));
  EXPECT_THAT(lookup_error(), HasSubstr("3 keys names 9 chunks; at most 8"));
  lookup.add_names();
  EXPECT_THAT(lookup_error(), HasSubstr("keys and names are both given"));
  lookup.clear_keys();
  EXPECT_THAT(lookup_error(), HasSubstr("no name"));
  lookup.clear_names();
  lookup.set_model_id(99);
  EXPECT_THAT(lookup_error(), HasSubstr("5 model 99"));
  lookup.set_model_id(client.model);
  lookup.set_session_id(client.session() + 1000);
  EXPECT_THAT(lookup_error(), HasSubstr("5 session"));

  EXPECT_THAT(Store(client, reservation, 0, 0, std::string(5001, 'x')).error_message(),
              HasSubstr("5001 bytes at offset 0, but the block has 5000 bytes"));
  EXPECT_EQ(Store(client, reservation, 7, 0, "x").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Store(client, reservation, 0, 70'000, "x").error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Store(client, reservation + 1000, 0, 0, "x").error_code(), grpc::StatusCode::NOT_FOUND);

  v1::CommitRequest commit = CommitOf(client, reservation, 2, key);
  commit.mutable_chunks(0)->mutable_checksums()->RemoveLast();
  v1::CommitReply committed;
  ASSERT_TRUE(Call(client, &v1::KvCache::Stub::Commit, commit, &committed).ok());
  EXPECT_THAT(committed.chunks(0).error(), HasSubstr("2 checksums for 3 planes"));
  commit = CommitOf(client, reservation, 2, key);
  commit.mutable_chunks(0)->set_token_count(3);
  ASSERT_TRUE(Call(client, &v1::KvCache::Stub::Commit, commit, &committed).ok());
  EXPECT_THAT(committed.chunks(0).error(), HasSubstr("4 tokens, but its token_count is 3"));

  v1::ReportRequest report;
  report.set_session_id(client.session());
  report.set_lease_id(lease);
  report.add_planes()->set_log_mass("abc");
  v1::ReportReply reported;
  EXPECT_THAT(Call(client, &v1::KvCache::Stub::Report, report, &reported).error_message(),
              HasSubstr("log_mass has 3 bytes for the 1 chunks"));

  v1::FetchRequest fetch;
  fetch.set_session_id(client.session());
  fetch.set_lease_id(lease);
  fetch.set_first_chunk(0);
  fetch.set_chunk_count(4'294'967'295u);
  grpc::ClientContext context;
  const auto reader = client.kv->Fetch(&context, fetch);
  v1::FetchReply reply;
  EXPECT_FALSE(reader->Read(&reply));
  EXPECT_THAT(reader->Finish().error_message(), HasSubstr("4294967295 chunks from chunk 0 on"));

  v1::ReserveRequest reserve;
  reserve.set_session_id(client.session());
  reserve.set_model_id(client.model);
  reserve.set_chunk_count(1);
  reserve.mutable_hints()->set_do_not_store(true);
  v1::ReserveReply reserved;
  EXPECT_EQ(Call(client, &v1::KvCache::Stub::Reserve, reserve, &reserved).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);

  EXPECT_EQ(Lookup(client, key, false).matched(), 1u);
  host_->With([](Engine& engine, absl::Time) { engine.CheckInvariants(); });
}

TEST_F(KvCacheServiceTest, TenantsDoNotSeeEachOther) {
  TestClient a = MakeClient(0);
  TestClient b = MakeClient(1);
  const std::string key = Put(a, 1, "");
  const uint64_t lease = Lookup(a, key).lease_id();
  const uint64_t reservation = Reserve(a, key);
  EXPECT_EQ(Lookup(b, key, false).matched(), 0u);
  EXPECT_NE(Put(b, 1, ""), key);  // the same tokens, another salt

  // Whoever claims another's session is told that there is none.
  TestClient thief = MakeClient(1);
  thief.attached.set_session_id(a.session());
  EXPECT_EQ(Fetch(thief, lease).status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Store(thief, reservation, 0, 0, "x").error_code(), grpc::StatusCode::NOT_FOUND);
  v1::ForgetRequest forget;
  forget.set_session_id(b.session());
  forget.set_model_id(a.model);
  forget.set_keys(key);
  v1::ForgetReply forgotten;
  const grpc::Status status = Call(b, &v1::KvCache::Stub::Forget, forget, &forgotten);
  EXPECT_TRUE(status.error_code() == grpc::StatusCode::NOT_FOUND ||
              forgotten.forgotten_chunks() == 0);
  EXPECT_EQ(Lookup(a, key, false).matched(), 1u);
}

// Committing a slot that nothing was stored to must not tell what another tenant had there, neither
// by the error for a wrong checksum nor by a fetch after the right one.
TEST_F(KvCacheServiceTest, WhatAnotherTenantLeftInASlotIsGone) {
  TestClient a = MakeClient(0);
  TestClient b = MakeClient(1);
  // More than there is room for: every segment has been the first tenant's.
  v1::ForgetRequest forget;
  forget.set_session_id(a.session());
  forget.set_model_id(a.model);
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    const std::string key = Put(a, seed, "");
    if (seed > 22) forget.mutable_keys()->append(key);
  }
  v1::ForgetReply forgotten;
  ASSERT_TRUE(Call(a, &v1::KvCache::Stub::Forget, forget, &forgotten).ok());
  ASSERT_EQ(forgotten.forgotten_chunks(), 8u);

  for (uint32_t seed = 1; seed <= 6; ++seed) {
    v1::CommitRequest request = CommitOf(b, Reserve(b, ""), seed, "");
    request.mutable_chunks(0)->set_checksums(1, 0x1234);
    v1::CommitReply reply;
    ASSERT_TRUE(Call(b, &v1::KvCache::Stub::Commit, request, &reply).ok());
    EXPECT_EQ(reply.chunks(0).code(), grpc::StatusCode::DATA_LOSS);
    const std::string error = reply.chunks(0).error();
    for (int plane = 0; plane < 3; ++plane) {
      const std::string zeros(kPlaneBytes[plane], '\0');
      const uint64_t checksum = wire::BlockChecksum(
          absl::MakeConstSpan(reinterpret_cast<const std::byte*>(zeros.data()), zeros.size()));
      EXPECT_THAT(error, Not(HasSubstr(absl::StrCat(absl::Hex(checksum, absl::kZeroPad16)))));
      request.mutable_chunks(0)->set_checksums(plane, checksum);
    }
    ASSERT_TRUE(Call(b, &v1::KvCache::Stub::Commit, request, &reply).ok());
    EXPECT_EQ(reply.chunks(0).outcome(), v1::CommitReply::COMMITTED) << reply.chunks(0).error();
  }
}

TEST_F(KvCacheServiceTest, WatchesResumeWhereTheyEnded) {
  TestClient client = MakeClient(0);
  const std::string first = Put(client, 1, "");
  v1::WatchRequest request;
  request.set_session_id(client.session());
  request.set_all_models(true);

  grpc::ClientContext context;
  auto reader = client.kv->Watch(&context, request);
  reader->WaitForInitialMetadata();
  const std::string second = Put(client, 2, first);
  v1::WatchReply event;
  do {
    ASSERT_TRUE(reader->Read(&event));
  } while (event.kind() != v1::WatchReply::COMMITTED);
  EXPECT_EQ(event.key(), second);
  EXPECT_EQ(event.daemon_epoch(), 77u);
  context.TryCancel();

  // From the middle: what came after, again.
  grpc::ClientContext resumed;
  request.set_after_sequence(event.sequence() - 1);
  reader = client.kv->Watch(&resumed, request);
  v1::WatchReply again;
  ASSERT_TRUE(reader->Read(&again));
  EXPECT_EQ(again.sequence(), event.sequence());
  EXPECT_EQ(again.key(), second);
  resumed.TryCancel();

  // A number that this daemon never gave.
  grpc::ClientContext unknown;
  request.set_after_sequence(1'000'000);
  reader = client.kv->Watch(&unknown, request);
  ASSERT_TRUE(reader->Read(&again));
  EXPECT_EQ(again.kind(), v1::WatchReply::GAP);
  EXPECT_LT(again.sequence(), 1'000'000u);
  unknown.TryCancel();
}

TEST_F(KvCacheServiceTest, WatchStreamsAreLimitedAndEndWithTheDrain) {
  TestClient client = MakeClient(0);
  v1::WatchRequest request;
  request.set_session_id(client.session());
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::WatchReply>>> readers;
  for (int i = 0; i < 3; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(client.kv->Watch(contexts.back().get(), request));
    readers.back()->WaitForInitialMetadata();
  }
  grpc::ClientContext fourth;
  const auto refused = client.kv->Watch(&fourth, request);
  v1::WatchReply event;
  EXPECT_FALSE(refused->Read(&event));
  const grpc::Status status = refused->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("the limit is 3"));
  drain_.BeginDrain();
  for (const auto& reader : readers) {
    while (reader->Read(&event)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
}

TEST_F(KvCacheServiceTest, WritersAndReadersAtOnceKeepEveryByte) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 3; ++t) {
    threads.emplace_back([this, t] {
      TestClient client = MakeClient(t % 2);
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t seed = 1000 * t + i;
        const std::string key = Put(client, seed, "");
        const v1::LookupReply found = Lookup(client, key);
        if (found.matched() == 0) continue;  // evicted already
        const Fetched fetched = Fetch(client, found.lease_id());
        EXPECT_TRUE(fetched.failures.empty());
        for (uint32_t plane = 0; plane < 3; ++plane)
          EXPECT_EQ(fetched.blocks.at({0, plane}), BlockBytes(seed, plane));
        v1::ReleaseRequest release;
        release.set_session_id(client.session());
        release.add_lease_ids(found.lease_id());
        v1::ReleaseReply released;
        EXPECT_TRUE(Call(client, &v1::KvCache::Stub::Release, release, &released).ok());
        EXPECT_EQ(released.released(), 1u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  host_->With([](Engine& engine, absl::Time) { engine.CheckInvariants(); });
}

}  // namespace
}  // namespace kvtier
