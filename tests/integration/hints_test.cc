// What workers tell the daemon beside what they store and fetch: reports of what they read, leases
// that they need for longer, prefixes that they will need soon. Each arrives and has its effect;
// and decode_worker, which an engine's integration is modelled on, sends what it says it sent.
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/examples/daemon_kv_store.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using enum absl::StatusCode;
using ::testing::HasSubstr;
using Pools = std::map<std::string, uint64_t>;

class HintsTest : public ClientTest {
 protected:
  void Start(const std::string& more = "") {
    ClientTest::Start(SmallConfig(absl::StrCat("listen: {http: '127.0.0.1:0'}\n", more)));
  }
  // Clients have calls and byte streams only.
  void StartWithoutSharedMemory() {
    ClientTest::Start(SmallConfig("listen: {http: '127.0.0.1:0', shared_memory: false}\n"));
  }
  std::vector<Key> Store(const Model& model, uint64_t seed, size_t chunks) {
    std::vector<Key> keys = ChainKeys(model, seed, chunks);
    EXPECT_THAT(StoreChunks(*client_, model, {.keys = keys, .count = chunks}), IsOk());
    return keys;
  }
  LeaseHandle Lease(const std::vector<Key>& keys, absl::Duration ttl = absl::ZeroDuration()) {
    const auto match = client_->Lookup({.model = model_, .keys = keys, .lease_ttl = ttl});
    EXPECT_THAT(match, IsOk());
    return match.ok() ? match->lease : 0;
  }
  int64_t ReportedReads() { return daemon().Metric("kvtier_reported_reads_total"); }

  // Blocks of these chunks by pool, as the daemon lists them.
  Pools PoolsOf(const std::vector<Key>& keys) {
    grpc::ClientContext context;
    v1::BlocksRequest request;
    request.set_limit(10'000);
    v1::BlocksReply reply;
    const grpc::Status status = daemon().admin().Blocks(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    Pools pools;
    for (const Key& key : keys) {
      for (const auto& chunk : reply.chunks()) {
        if (chunk.key() != std::string(key.begin(), key.end())) continue;
        for (const auto& copy : chunk.copies()) pools[copy.pool()] += copy.blocks();
      }
    }
    return pools;
  }
};

TEST_F(HintsTest, ReportsInSharedMemoryCountEachBlockThatWasRead) {
  Start();
  const LeaseHandle lease = Lease(Store(model_, 1, 4));
  // The ring is read by the daemon's next tick, whenever that is.
  const auto counts = [&](int64_t reads) {
    return Await([&] { return ReportedReads() == reads; });
  };
  ASSERT_THAT(client_->Report(lease, {{.plane = 0, .steps = 5, .mass = {0.5, 1e-30, 0, 0.25}}}),
              IsOk());
  EXPECT_TRUE(counts(3)) << ReportedReads();
  ASSERT_THAT(client_->Report(lease, {{.plane = 1, .steps = 5, .mass = {0, 0, 0, 0}},
                                      {.plane = 2, .steps = 5, .mass = {0, 1, 0, 0}}}),
              IsOk());
  EXPECT_TRUE(counts(4)) << ReportedReads();
  EXPECT_EQ(daemon().Metric("kvtier_rpc_calls_total{method=\"Report\",code=\"OK\"}"), 0)
      << "no call";
  EXPECT_THAT(client_->Report(lease, {{.plane = 3, .steps = 1, .mass = {1, 1, 1, 1}}}),
              StatusIs(kInvalidArgument, HasSubstr("plane 3")));
  ASSERT_THAT(client_->Release(lease), IsOk());
  EXPECT_THAT(client_->Report(lease, {}), StatusIs(kNotFound));
}

TEST_F(HintsTest, ReportCountsEachBlockThatWasRead) {
  StartWithoutSharedMemory();
  const LeaseHandle lease = Lease(Store(model_, 1, 4));
  ASSERT_EQ(ReportedReads(), 0);
  // Plane by plane, so that the count tells which masses arrived: zero is not read, and the least
  // that is above it is.
  const std::vector<std::pair<ReadReport, int64_t>> reports = {
      {{.plane = 0, .steps = 5, .mass = {0.5, 1e-30, 0, 0.25}}, 3},
      {{.plane = 1, .steps = 5, .mass = {0, 0, 0, 0}}, 0},
      {{.plane = 2, .steps = 5, .mass = {0, 1, 0, 0}}, 1}};
  int64_t expected = 0;
  std::vector<ReadReport> together;
  for (const auto& [report, reads] : reports) {
    ASSERT_THAT(client_->Report(lease, {report}), IsOk());
    expected += reads;
    EXPECT_EQ(ReportedReads(), expected) << "plane " << report.plane;
    together.push_back(report);
  }
  ASSERT_THAT(client_->Report(lease, together), IsOk());
  EXPECT_EQ(ReportedReads(), 2 * expected);
  EXPECT_EQ(daemon().Metric("kvtier_rpc_calls_total{method=\"Report\",code=\"OK\"}"), 4);

  // A report that is wrong anywhere counts nowhere.
  together.push_back({.plane = 3, .steps = 1, .mass = {1, 1, 1, 1}});
  EXPECT_THAT(client_->Report(lease, together), StatusIs(kInvalidArgument, HasSubstr("plane 3")));
  together.back() = {.plane = 1, .steps = 1, .mass = {1, 1, 1}};
  EXPECT_THAT(client_->Report(lease, together), StatusIs(kInvalidArgument, HasSubstr("3 bytes")));
  EXPECT_EQ(ReportedReads(), 2 * expected);
  ASSERT_THAT(client_->Release(lease), IsOk());
  EXPECT_THAT(client_->Report(lease, {}), StatusIs(kNotFound));
}

// Keeps the reports that it is sent; anything is stored.
class ReportRecorder final : public v1::KvCache::Service {
 public:
  std::vector<v1::ReportRequest> reports;

 private:
  grpc::Status Attach(grpc::ServerContext*, const v1::AttachRequest* request,
                      v1::AttachReply* reply) override {
    *reply->mutable_version() = request->version();
    reply->set_session_id(1);
    reply->set_daemon_epoch(1);
    reply->set_heartbeat_interval_ms(10'000);
    reply->set_session_timeout_ms(30'000);
    reply->set_message_bytes_max(1 << 20);
    return grpc::Status::OK;
  }
  grpc::Status Heartbeat(grpc::ServerContext*, const v1::HeartbeatRequest*,
                         v1::HeartbeatReply*) override {
    return grpc::Status::OK;
  }
  grpc::Status Detach(grpc::ServerContext*, const v1::DetachRequest*, v1::DetachReply*) override {
    return grpc::Status::OK;
  }
  grpc::Status RegisterModel(grpc::ServerContext*, const v1::RegisterModelRequest*,
                             v1::RegisterModelReply* reply) override {
    reply->set_fingerprint(std::string(32, 'f'));
    return grpc::Status::OK;
  }
  grpc::Status Lookup(grpc::ServerContext*, const v1::LookupRequest* request,
                      v1::LookupReply* reply) override {
    reply->set_matched(static_cast<uint32_t>(request->keys().size() / sizeof(Key)));
    reply->set_lease_id(7);
    reply->set_lease_ttl_ms(60'000);
    return grpc::Status::OK;
  }
  grpc::Status Report(grpc::ServerContext*, const v1::ReportRequest* request,
                      v1::ReportReply*) override {
    reports.push_back(*request);
    return grpc::Status::OK;
  }
};

TEST_F(HintsTest, MassesTravelAsLogarithmsPlaneByPlane) {
  ReportRecorder recorder;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket(), grpc::InsecureServerCredentials());
  builder.RegisterService(&recorder);
  const auto server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  client_ = Connect();
  ASSERT_NE(client_, nullptr);
  ASSERT_OK_AND_ASSIGN(model_, client_->RegisterModel(UnequalModel()));
  const LeaseHandle lease = Lease(ChainKeys(model_, 1, 3));
  ASSERT_THAT(client_->Report(lease, {{.plane = 2, .steps = 9, .mass = {1, 0.5, 0}},
                                      {.plane = 0, .steps = 1, .mass = {0.25, 0.7, 1e-30}}}),
              IsOk());
  client_.reset();
  server->Shutdown();
  ASSERT_EQ(recorder.reports.size(), 1u);
  const v1::ReportRequest& report = recorder.reports[0];
  EXPECT_EQ(report.lease_id(), 7u);
  ASSERT_EQ(report.planes_size(), 2);
  EXPECT_EQ(report.planes(0).plane(), 2u);
  EXPECT_EQ(report.planes(0).steps(), 9u);
  // A halving is eight levels; 0.7 is a little more than half an octave down (8 * 0.5146 = 4.1).
  EXPECT_EQ(report.planes(0).log_mass(), std::string("\xff\xf7\0", 3));
  EXPECT_EQ(report.planes(1).plane(), 0u);
  EXPECT_EQ(report.planes(1).log_mass(), std::string("\xef\xfb\x01", 3));
}

TEST_F(HintsTest, RenewedLeaseOutlivesItsFirstTime) {
  Start("limits: {lease_ttl_ms: 30s, lease_ttl_max_ms: 40s}\n");
  constexpr absl::Duration kShort = absl::Seconds(2);
  const std::vector<Key> kept = Store(model_, 1, 2);
  const std::vector<Key> left = Store(model_, 2, 2);
  const LeaseHandle renewed = Lease(kept, kShort);
  ASSERT_OK_AND_ASSIGN(const absl::Duration granted, client_->Renew(renewed, absl::Hours(1)));
  EXPECT_EQ(granted, absl::Seconds(40)) << "the limit";
  // Taken later, so that the other's first time is over when this one's is.
  const LeaseHandle not_renewed = Lease(left, kShort);
  EXPECT_EQ(daemon().Status().leases(), 2u);
  EXPECT_TRUE(Await([&] { return daemon().Status().leases() == 1; }));
  EXPECT_EQ(daemon().Metric("kvtier_leases_expired_total"), 1);
  EXPECT_THAT(ReadLease(*client_, model_, renewed, kept, 2), IsOk());
  EXPECT_THAT(ReadLease(*client_, model_, not_renewed, left, 2), StatusIs(kNotFound));
  EXPECT_THAT(client_->Renew(not_renewed, kShort), StatusIs(kNotFound));

  // A renewal counts from now on: it can shorten a lease too, and zero asks for the default.
  ASSERT_OK_AND_ASSIGN(const absl::Duration by_default, client_->Renew(renewed, {}));
  EXPECT_EQ(by_default, absl::Seconds(30));
  ASSERT_THAT(client_->Renew(renewed, absl::Milliseconds(100)), IsOk());
  EXPECT_TRUE(Await([&] { return daemon().Status().leases() == 0; }));
  EXPECT_EQ(daemon().Metric("kvtier_leases_expired_total"), 2);
  EXPECT_EQ(daemon().Metric("kvtier_rpc_calls_total{method=\"Renew\",code=\"OK\"}"), 3);
}

TEST_F(HintsTest, PrefetchBringsDemotedChunksBackToTheFirstPool) {
  constexpr size_t kChains = 15;
  constexpr size_t kChunks = 8;  // fit the eighth of the first pool that is kept free
  Start();
  // Slots of one size, so that room can be counted: 4 MiB have place for 85 of these 120 chunks.
  ModelGeometry even = UnequalModel("even");
  for (PlaneGeometry& plane : even.planes) plane.bytes_per_chunk = 16u << 10;
  ASSERT_OK_AND_ASSIGN(const Model model, client_->RegisterModel(even));
  std::vector<std::vector<Key>> chains;
  // The eighth that is kept free for what comes next is free, and nothing is on its way.
  const auto settled = [&] {
    const v1::PoolsReply pools = daemon().Pools();
    return pools.pools(0).used_bytes() <= pools.pools(0).budget_bytes() / 8 * 7 &&
           daemon().Status().moves_in_flight() == 0;
  };
  for (size_t i = 0; i < kChains; ++i) {
    chains.push_back(Store(model, i, kChunks));
    ASSERT_TRUE(Await(settled));
  }
  const Pools above = {{"hbm:0", kChunks * 3}};
  const Pools below = {{"dram:0", kChunks * 3}};
  // The oldest have sunk.
  ASSERT_TRUE(Await([&] { return PoolsOf(chains[0]) == below && PoolsOf(chains[1]) == below; }))
      << ::testing::PrintToString(PoolsOf(chains[1]));

  std::vector<Key> wanted = chains[1];
  wanted.push_back(ChainKeys(model, kChains, 1)[0]);  // nobody stored it
  ASSERT_OK_AND_ASSIGN(const uint32_t accepted, client_->Prefetch(model, wanted));
  EXPECT_EQ(accepted, kChunks);
  EXPECT_TRUE(Await([&] { return PoolsOf(chains[1]) == above; }))
      << ::testing::PrintToString(PoolsOf(chains[1]));
  EXPECT_EQ(PoolsOf(chains[0]), below) << "nobody asked for it";
  EXPECT_EQ(daemon().Metric("kvtier_prefetch_chunks_total"), static_cast<int64_t>(kChunks));
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model, chains[1]));
  EXPECT_EQ(read, kChunks);
  // What is there already is accepted, and nothing moves for it.
  ASSERT_TRUE(Await(settled));
  const int64_t started = daemon().Metric("kvtier_moves_started_total");
  ASSERT_OK_AND_ASSIGN(const uint32_t again, client_->Prefetch(model, chains[1]));
  EXPECT_EQ(again, kChunks);
  ASSERT_TRUE(Await(settled));
  EXPECT_EQ(daemon().Metric("kvtier_moves_started_total"), started);
}

TEST_F(HintsTest, DecodeWorkerReportsWhatItSaysItReported) {
  Start();
  const std::string json = directory() + "/run.json";
  const std::string prompt =
      "A prompt of some length, so that it takes several chunks of tokens to keep all of it.";
  const auto run = [&](size_t rounds) -> nlohmann::json {
    std::string output;
    const auto status =
        RunProgram({ProgramPath("decode_worker"), "--socket", socket(), "--prompt", prompt,
                    "--rounds", absl::StrCat(rounds), "--transport", "stream", "--max-tokens", "20",
                    "--report-every", "4", "--json", json},
                   3 * kSoon, &output, directory() + "/worker.log");
    EXPECT_THAT(status, IsOk());
    std::ifstream file(json);
    return nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  };
  const nlohmann::json report = run(3);
  ASSERT_TRUE(report.is_object());
  size_t reports = 0;
  size_t reads = 0;
  for (const auto& round : report["prompts"]) {
    const size_t sent = round["reports"];
    const size_t chunks = round["chunks_reused"];
    // The first round has nothing to reuse, and nothing to report on. The others report the prefill
    // and then 19 steps in fours.
    EXPECT_EQ(sent, round["round"] == 1 ? 0u : 6u);
    EXPECT_EQ(chunks > 0, round["round"] != 1);
    EXPECT_TRUE(round["store_errors"].empty()) << round["store_errors"];
    reports += sent;
    // Attention is never quite zero: each report says of every plane that every chunk was read.
    reads += sent * chunks * report["planes"].get<size_t>();
  }
  EXPECT_EQ(report["totals"]["reports"], reports);
  EXPECT_EQ(daemon().Metric("kvtier_rpc_calls_total{method=\"Report\",code=\"OK\"}"),
            static_cast<int64_t>(reports));
  EXPECT_EQ(ReportedReads(), static_cast<int64_t>(reads));
}

TEST_F(HintsTest, DecodeWorkersStoreKeepsItsLeaseWhileItReports) {
  Start("limits: {lease_ttl_ms: 2s}\n");
  examples::KvGeometry geometry;
  geometry.layers = 1;
  geometry.kv_heads = 1;
  geometry.head_dim = 4;
  geometry.chunk_tokens = 4;
  examples::PausePoints pauses;
  ASSERT_OK_AND_ASSIGN(const auto store,
                       examples::DaemonKvStore::Create({.geometry = geometry,
                                                        .fingerprint = "weights",
                                                        .socket = socket(),
                                                        .transport = Transport::kStream},
                                                       pauses));
  const std::vector<uint32_t> tokens = {1, 2, 3, 4};
  ASSERT_OK_AND_ASSIGN(const examples::ChunkKey key, store->Key({}, tokens));
  ASSERT_OK_AND_ASSIGN(const auto reservation, store->Reserve({}, 1));
  const std::vector<std::byte> bytes(geometry.plane_bytes());
  std::vector<examples::StoreBlock> blocks;
  for (size_t plane = 0; plane < geometry.planes(); ++plane)
    blocks.push_back({.plane = plane, .bytes = bytes});
  ASSERT_THAT(store->Store(reservation, blocks), IsOk());
  ASSERT_THAT(store->Commit(reservation, {{.key = key, .token_count = 4}}), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto lease, store->Acquire({key}));
  ASSERT_EQ(lease.chunks, 1u);

  // Another lease of the same time, taken later and not renewed, tells when the first time is over.
  Lease(Store(model_, 1, 1));
  examples::AttentionMass mass;
  mass.Grow(1, 1);
  mass.layer_chunk[0][0] = 0.5;
  mass.queries = 1;
  int64_t reports = 0;
  ASSERT_TRUE(Await([&] {
    EXPECT_THAT(store->Report(lease, mass, 1), IsOk());
    ++reports;
    return HasFailure() || daemon().Status().leases() < 2;
  }));
  EXPECT_EQ(daemon().Status().leases(), 1u);
  EXPECT_THAT(store->Report(lease, mass, 1), IsOk());
  EXPECT_EQ(ReportedReads(), (reports + 1) * static_cast<int64_t>(geometry.planes()));
  EXPECT_GE(daemon().Metric("kvtier_rpc_calls_total{method=\"Renew\",code=\"OK\"}"), 1);
  EXPECT_THAT(store->Release(lease.id), IsOk());
}

}  // namespace
}  // namespace kvtier::test_support
