// A daemon from start to end, as a client and an operator see it: versions, a second daemon on the
// same socket, HTTP pages that count what was done, full pools and full tables, and the drain.
#include <grpcpp/create_channel.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/wire/version.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/http_get.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using enum absl::StatusCode;
using ::testing::HasSubstr;

class LifecycleTest : public ClientTest {
 protected:
  absl::Status Store(uint64_t seed, size_t chunks) {
    const std::vector<Key> keys = ChainKeys(model_, seed, chunks);
    return StoreChunks(*client_, model_, {.keys = keys, .count = chunks}).status();
  }
};

TEST_F(LifecycleTest, OtherMajorVersionsAreRefusedAndOtherMinorsAreNot) {
  StartDaemon();
  for (const int delta : {-1, 0, 1}) {
    v1::AttachRequest request;
    request.mutable_version()->set_major(wire::kProtocolMajor + static_cast<uint32_t>(delta));
    request.mutable_version()->set_minor(wire::kProtocolMinor + 7);
    v1::AttachReply reply;
    grpc::ClientContext context;
    const grpc::Status status = daemon().kv().Attach(&context, request, &reply);
    if (delta == 0) {
      EXPECT_TRUE(status.ok()) << status.error_message();
      EXPECT_EQ(reply.version().major(), wire::kProtocolMajor);
      continue;
    }
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(),
                HasSubstr(absl::StrCat(request.version().major(), ".", request.version().minor())));
    EXPECT_THAT(status.error_message(),
                HasSubstr(absl::StrCat(wire::kProtocolMajor, ".", wire::kProtocolMinor)));
  }
  EXPECT_EQ(daemon().Status().sessions(), 1u) << "of the one that was accepted";
}

TEST_F(LifecycleTest, ASecondDaemonLeavesTheFirstAlone) {
  Start();
  ASSERT_THAT(Store(1, 2), IsOk());
  std::string output;
  ASSERT_OK_AND_ASSIGN(const int status, RunProgram({ProgramPath("kvtierd"), "--socket", socket()},
                                                    kSoon, &output, directory() + "/second.log"));
  EXPECT_EQ(status, 1);
  std::ifstream log(directory() + "/second.log");
  const std::string said((std::istreambuf_iterator<char>(log)), std::istreambuf_iterator<char>());
  EXPECT_THAT(said, HasSubstr(socket())) << "it does not say that the socket is taken";
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, ChainKeys(model_, 1, 2)));
  EXPECT_EQ(read, 2u);
  // One that was killed leaves its socket, and the next takes it over.
  daemon().Kill();
  EXPECT_TRUE(std::filesystem::exists(socket()));
  daemon_.reset();
  StartDaemon();
  EXPECT_THAT(client_->WaitAttached(kSoon), IsOk());
}

TEST_F(LifecycleTest, PagesCountWhatWasDone) {
  Start(SmallConfig("listen: {http: '127.0.0.1:0'}\n"));
  const std::string log = daemon().Log();
  const size_t at = log.find(" port=");
  ASSERT_NE(at, std::string::npos) << log;
  const int port = std::atoi(log.c_str() + at + 6);
  const auto page = [&](const char* path) { return HttpGet(port, path); };
  EXPECT_THAT(page("/healthz"), HasSubstr("200 "));
  // Ready once each pool has its first segment.
  EXPECT_TRUE(Await([&] { return page("/readyz").rfind("HTTP/1.1 200 ", 0) == 0; }))
      << page("/readyz");
  EXPECT_THAT(page("/nothing"), HasSubstr("404 "));
  ASSERT_THAT(Store(1, 3), IsOk());
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, ChainKeys(model_, 1, 3)));
  EXPECT_EQ(read, 3u);
  const std::string metrics = page("/metrics");
  EXPECT_THAT(metrics, HasSubstr("kvtier_committed_chunks_total 3\n"));
  EXPECT_THAT(metrics, HasSubstr("kvtier_corrupt_copies_total 0\n"));
  EXPECT_THAT(page(("/" + std::string(100'000, 'x')).c_str()), HasSubstr("431 "));
  EXPECT_THAT(page("/healthz"), HasSubstr("200 "));
  {
    ASSERT_OK_AND_ASSIGN(const Match match,
                         client_->Lookup({.model = model_, .keys = ChainKeys(model_, 1, 3)}));
    daemon().process().Signal(SIGTERM);
    EXPECT_TRUE(Await([&] { return daemon().Status().draining(); }));
    EXPECT_THAT(page("/readyz"), HasSubstr("503 "));
    EXPECT_THAT(page("/healthz"), HasSubstr("200 "));
    EXPECT_THAT(client_->Release(match.lease), IsOk());
  }
  ASSERT_OK_AND_ASSIGN(const int status, daemon().process().Wait(kSoon));
  EXPECT_EQ(status, 0);
}

TEST_F(LifecycleTest, ADrainLetsLeasesEndAndRefusesNewWork) {
  Start();
  const std::vector<Key> keys = ChainKeys(model_, 1, 3);
  ASSERT_THAT(Store(1, 3), IsOk());
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
  daemon().process().Signal(SIGTERM);
  EXPECT_TRUE(Await([&] { return daemon().Status().draining(); }));
  EXPECT_THAT(client_->Reserve({.model = model_}), StatusIs(kUnavailable, HasSubstr("drain")));
  EXPECT_THAT(client_->Lookup({.model = model_, .keys = keys}),
              StatusIs(kUnavailable, HasSubstr("drain")));
  EXPECT_THAT(ReadLease(*client_, model_, match.lease, keys, 3), IsOk()) << "what is held is read";
  EXPECT_THAT(client_->Release(match.lease), IsOk());
  ASSERT_OK_AND_ASSIGN(const int status, daemon().process().Wait(kSoon));
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(std::filesystem::exists(socket()));
}

TEST_F(LifecycleTest, ADrainFromOutsideEndsTheProcess) {
  Start();
  const std::vector<Key> keys = ChainKeys(model_, 1, 3);
  ASSERT_THAT(Store(1, 3), IsOk());
  ASSERT_OK_AND_ASSIGN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
  ChildProcess::Options options;
  options.arguments = {ProgramPath("kvtier"), "drain", "--exit", "--json", "--socket", socket()};
  options.log_file = directory() + "/drain.log";
  ASSERT_OK_AND_ASSIGN(const auto drain, ChildProcess::Start(options));
  EXPECT_TRUE(Await([&] { return daemon().Status().draining(); }));
  EXPECT_THAT(ReadLease(*client_, model_, match.lease, keys, 3), IsOk());
  EXPECT_THAT(drain->Wait(absl::ZeroDuration()), StatusIs(kDeadlineExceeded))
      << "it waits for the lease";
  EXPECT_THAT(client_->Release(match.lease), IsOk());
  ASSERT_OK_AND_ASSIGN(const std::string output, drain->ReadAll(kSoon));
  EXPECT_THAT(output, HasSubstr("\"drained\": true"));
  ASSERT_OK_AND_ASSIGN(const int drained, drain->Wait(kSoon));
  EXPECT_EQ(drained, 0);
  ASSERT_OK_AND_ASSIGN(const int status, daemon().process().Wait(kSoon));
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(std::filesystem::exists(socket()));
}

TEST_F(LifecycleTest, FullPoolsEvictThenRefuseAndNeverGrow) {
  Start();
  const auto budget = [&] {
    uint64_t bytes = 0;
    const v1::PoolsReply pools = daemon().Pools();
    for (const v1::PoolsReply::Pool& pool : pools.pools()) bytes += pool.budget_bytes();
    return bytes;
  }();
  // Some three times what there is room for.
  std::vector<std::pair<uint64_t, LeaseHandle>> leases;  // by the seed of a chain
  for (uint64_t seed = 1; seed <= 400; ++seed) ASSERT_THAT(Store(seed, 4), IsOk());
  const uint64_t anonymous = daemon().Facts().anonymous_bytes;
  EXPECT_LE(daemon().UsedBytes(), budget);
  EXPECT_LE(daemon().Facts().memfd_bytes, budget);
  ASSERT_OK_AND_ASSIGN(const uint32_t newest,
                       ReadChunks(*client_, model_, ChainKeys(model_, 400, 4)));
  EXPECT_EQ(newest, 4u);
  // The oldest make room. Those in the fast pool do when they have moved down, in the daemon's own
  // time. Whoever reads a chain makes it new: so another one each time.
  uint64_t oldest = 1, stored = 2000;
  EXPECT_TRUE(Await([&] {
    const auto found = ReadChunks(*client_, model_, ChainKeys(model_, oldest, 4));
    EXPECT_THAT(found, IsOk());
    if (!found.ok() || *found == 0 || ++oldest == 100) return true;
    for (int i = 0; i < 20; ++i) EXPECT_THAT(Store(++stored, 4), IsOk());
    return false;
  }));
  EXPECT_LT(oldest, 10u);
  // All of it in use: refused, and what is in use stays.
  absl::Status refused;
  for (uint64_t seed = 401; seed <= 1200 && refused.ok(); ++seed) {
    refused = Store(seed, 4);
    if (!refused.ok()) break;
    ASSERT_OK_AND_ASSIGN(const Match match,
                         client_->Lookup({.model = model_, .keys = ChainKeys(model_, seed, 4)}));
    if (match.chunks == 4) leases.emplace_back(seed, match.lease);
  }
  EXPECT_THAT(refused, StatusIs(kResourceExhausted, HasSubstr("tenant \"default\"")));
  EXPECT_GT(leases.size(), 20u);
  for (size_t i = 0; i < leases.size(); i += 10) {
    const auto& [seed, lease] = leases[i];
    EXPECT_THAT(ReadLease(*client_, model_, lease, ChainKeys(model_, seed, 4), 4), IsOk());
  }
  EXPECT_LE(daemon().Facts().memfd_bytes, budget);
  if (!kSanitized) {
    EXPECT_LE(daemon().Facts().anonymous_bytes, anonymous + (16u << 20));
  }
  for (const auto& held : leases) EXPECT_THAT(client_->Release(held.second), IsOk());
  EXPECT_TRUE(Await([&] { return Store(5000, 4).ok(); })) << "there is room again";
}

TEST_F(LifecycleTest, TablesRefuseBeyondTheirLimits) {
  Start(SmallConfig("limits: {sessions_max: 3, leases_max: 4, reservations_max: 5}\n"));
  ASSERT_THAT(Store(1, 1), IsOk());
  const std::vector<Key> keys = ChainKeys(model_, 1, 1);
  for (int i = 0; i < 4; ++i) ASSERT_THAT(client_->Lookup({.model = model_, .keys = keys}), IsOk());
  EXPECT_THAT(client_->Lookup({.model = model_, .keys = keys}),
              StatusIs(kResourceExhausted, HasSubstr("4")));
  for (int i = 0; i < 5; ++i) ASSERT_THAT(client_->Reserve({.model = model_}), IsOk());
  EXPECT_THAT(client_->Reserve({.model = model_}), StatusIs(kResourceExhausted, HasSubstr("5")));
  const auto second = Connect(Options("second"));
  const auto third = Connect(Options("third"));
  EXPECT_THAT(Client::Connect(Options("fourth")), StatusIs(kResourceExhausted, HasSubstr("3")));
  ClientOptions few = Options("few");
  few.tickets_max = 2;
  client_.reset();
  ASSERT_OK_AND_ASSIGN(client_, Client::Connect(few));
  ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
  size_t submitted = 0;
  absl::Status refused;
  while (refused.ok() && submitted < 100) {
    refused = client_->SubmitLookup({.model = model_, .keys = keys, .lease = false}).status();
    submitted += refused.ok();
  }
  EXPECT_EQ(submitted, 2u);
  EXPECT_THAT(refused, StatusIs(kResourceExhausted, HasSubstr("2")));
}

}  // namespace
}  // namespace kvtier::test_support
