#include "tests/unit/daemon/service_fixture.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "daemon/config_loader.h"
#include "proto/wire/checksum.h"
#include "proto/wire/version.h"
#include "tiering/base/rng.h"

namespace kvtier {
namespace {

const std::string kConfig = R"(
memory: {segment_bytes: 4MiB, reserve_bytes: 0, huge_pages: false}
pools:
  - {name: "hbm:0", kind: hbm, budget_bytes: 16MiB}
  - {name: "dram:0", kind: dram, budget_bytes: 64MiB}
tenants:
  - {name: admin, uids: [1], admin: true}
  - {name: plain, uids: [2], quota_bytes: {"dram:0": 32MiB}}
log: {level: error}
limits: {watch_streams_max: 3, chunks_per_call_max: 8, planes_max: 8)";

uint64_t Checksum(const std::string& bytes) {
  return wire::BlockChecksum(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
}

}  // namespace

void ServiceTest::SetUp() {
  const auto config = LoadConfig(kConfig + more_limits_ + "}\n", "test");
  ASSERT_TRUE(config.ok()) << config.status();
  config_ = *config;
  log::Start(config_.log());
  auto signal = std::make_shared<TickSignal>();
  auto built = BuildEngine(config_, topology_, [signal] { signal->Wake(); });
  ASSERT_TRUE(built.ok()) << built.status();
  host_ = std::make_unique<EngineHost>(std::move(built->engine), &clock_, signal, 2);
  auto watcher = ProcessWatcher::Create({.on_process_end = [](TenantId, const auto&) {}});
  ASSERT_TRUE(watcher.ok());
  watcher_ = *std::move(watcher);
  context_.host = host_.get();
  context_.watcher = watcher_.get();
  context_.metrics = &metrics_;
  context_.drain = &drain_;
  context_.config = &config_;
  context_.topology = &topology_;
  context_.daemon_version = "test";
  context_.epoch = 77;
  context_.started = std::chrono::steady_clock::now();
  for (uint16_t i = 0; i < 2; ++i) {
    auto server = TenantServer::Create({.daemon = &context_,
                                        .id = TenantId(i),
                                        .name = config_.tenants(i).name(),
                                        .salt = built->salts[i],
                                        .admin = config_.tenants(i).admin()});
    ASSERT_TRUE(server.ok()) << server.status();
    servers_.push_back(*std::move(server));
  }
}

void ServiceTest::TearDown() {
  if (host_ != nullptr) host_->Interrupt();
  servers_.clear();
}

std::shared_ptr<grpc::Channel> ServiceTest::Connect(size_t tenant) {
  int pair[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
  servers_[tenant]->AddConnection(pair[0]);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomInsecureChannelFromFd("localhost", pair[1], arguments);
}

TestClient ServiceTest::MakeClient(size_t tenant) {
  TestClient client;
  const auto channel = Connect(tenant);
  client.kv = v1::KvCache::NewStub(channel);
  client.admin = v1::Admin::NewStub(channel);
  v1::AttachRequest attach;
  attach.mutable_version()->set_major(wire::kProtocolMajor);
  {
    grpc::ClientContext context;
    const grpc::Status status = client.kv->Attach(&context, attach, &client.attached);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  v1::RegisterModelRequest request;
  request.set_session_id(client.session());
  v1::ModelSpec* model = request.mutable_model();
  model->set_name("tiny");
  model->set_revision("1");
  model->set_data_type("fp32");
  model->set_layout_version("test-1");
  model->set_chunk_tokens(kTestTokens);
  for (uint32_t i = 0; i < 3; ++i) {
    v1::Plane* plane = model->add_planes();
    plane->set_name("plane." + std::to_string(i));
    plane->set_layer(i);
    plane->set_kind(i < 2 ? v1::PLANE_KIND_ATTENTION : v1::PLANE_KIND_INDEX);
    plane->set_rank(-1);
    plane->set_bytes_per_chunk(kPlaneBytes[i]);
    plane->set_required(i < 2);
  }
  v1::RegisterModelReply reply;
  grpc::ClientContext context;
  const grpc::Status status = client.kv->RegisterModel(&context, request, &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  client.model = reply.model_id();
  return client;
}

std::string ServiceTest::BlockBytes(uint64_t seed, uint32_t plane) {
  Rng rng(seed * 31 + plane);
  std::string bytes(kPlaneBytes[plane], '\0');
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    const uint64_t word = rng.Next();
    std::memcpy(&bytes[at], &word, std::min(sizeof(word), bytes.size() - at));
  }
  return bytes;
}

std::vector<uint32_t> ServiceTest::Tokens(uint32_t seed) {
  std::vector<uint32_t> tokens;
  for (uint32_t i = 0; i < kTestTokens; ++i) tokens.push_back(seed * 100 + i);
  return tokens;
}

uint64_t ServiceTest::Reserve(TestClient& client, const std::string& parent_key, uint32_t chunks) {
  v1::ReserveRequest request;
  request.set_session_id(client.session());
  request.set_model_id(client.model);
  request.set_parent_key(parent_key);
  request.set_chunk_count(chunks);
  v1::ReserveReply reply;
  // A pool that is still being pre-faulted refuses for a moment.
  for (int attempt = 0; attempt < 2000; ++attempt) {
    grpc::ClientContext context;
    const grpc::Status status = client.kv->Reserve(&context, request, &reply);
    if (status.ok()) return reply.reservation_id();
    if (status.error_code() != grpc::StatusCode::RESOURCE_EXHAUSTED) {
      ADD_FAILURE() << status.error_message();
      return 0;
    }
    host_->WaitUntil([](Engine&) { return false; }, absl::Milliseconds(5));
  }
  ADD_FAILURE() << "no room for a reservation";
  return 0;
}

grpc::Status ServiceTest::Store(TestClient& client, uint64_t reservation, uint32_t chunk,
                                uint32_t plane, const std::string& bytes) {
  grpc::ClientContext context;
  v1::StoreReply reply;
  const auto writer = client.kv->Store(&context, &reply);
  constexpr size_t kPiece = 1'000'001;
  for (size_t offset = 0; offset < bytes.size(); offset += kPiece) {
    v1::StoreRequest request;
    request.set_session_id(client.session());
    request.set_reservation_id(reservation);
    request.set_chunk(chunk);
    request.set_plane(plane);
    request.set_offset(offset);
    request.set_data(bytes.substr(offset, kPiece));
    if (!writer->Write(request)) break;
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (status.ok()) {
    EXPECT_EQ(reply.stored_bytes(), bytes.size());
  }
  return status;
}

v1::CommitRequest ServiceTest::CommitOf(const TestClient& client, uint64_t reservation,
                                        uint32_t seed, const std::string& parent_key) const {
  v1::CommitRequest request;
  request.set_session_id(client.session());
  request.set_reservation_id(reservation);
  v1::CommitChunk* chunk = request.add_chunks();
  chunk->set_token_count(kTestTokens);
  chunk->mutable_name()->mutable_tokens()->set_parent_key(parent_key);
  for (const uint32_t token : Tokens(seed))
    chunk->mutable_name()->mutable_tokens()->add_tokens(token);
  for (uint32_t plane = 0; plane < 3; ++plane)
    chunk->add_checksums(Checksum(BlockBytes(seed, plane)));
  return request;
}

std::string ServiceTest::Put(TestClient& client, uint32_t seed, const std::string& parent_key) {
  const uint64_t reservation = Reserve(client, parent_key);
  for (uint32_t plane = 0; plane < 3; ++plane) {
    const grpc::Status stored = Store(client, reservation, 0, plane, BlockBytes(seed, plane));
    EXPECT_TRUE(stored.ok()) << stored.error_message();
  }
  v1::CommitReply reply;
  grpc::ClientContext context;
  const grpc::Status status =
      client.kv->Commit(&context, CommitOf(client, reservation, seed, parent_key), &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(reply.chunks_size(), 1);
  EXPECT_EQ(reply.chunks(0).outcome(), v1::CommitReply::COMMITTED) << reply.ShortDebugString();
  return reply.chunks(0).key();
}

v1::LookupReply ServiceTest::Lookup(TestClient& client, const std::string& keys, bool lease) {
  v1::LookupRequest request;
  request.set_session_id(client.session());
  request.set_model_id(client.model);
  request.set_keys(keys);
  request.set_lease(lease);
  v1::LookupReply reply;
  grpc::ClientContext context;
  const grpc::Status status = client.kv->Lookup(&context, request, &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return reply;
}

ServiceTest::Fetched ServiceTest::Fetch(TestClient& client, uint64_t lease,
                                        std::vector<uint32_t> planes) {
  v1::FetchRequest request;
  request.set_session_id(client.session());
  request.set_lease_id(lease);
  for (const uint32_t plane : planes) request.add_planes(plane);
  Fetched fetched;
  grpc::ClientContext context;
  const auto reader = client.kv->Fetch(&context, request);
  v1::FetchReply reply;
  while (reader->Read(&reply)) {
    const std::pair<uint32_t, uint32_t> block(reply.chunk(), reply.plane());
    if (reply.code() != 0) {
      fetched.failures[block] = reply;
      continue;
    }
    EXPECT_LE(reply.data().size(), kPieceBytesMax);
    std::string& bytes = fetched.blocks[block];
    bytes.resize(reply.offset());
    bytes += reply.data();
    if (reply.last()) {
      EXPECT_EQ(reply.checksum(), Checksum(bytes));
      EXPECT_TRUE(reply.pool() == "hbm:0" || reply.pool() == "dram:0") << reply.pool();
    }
  }
  fetched.status = reader->Finish();
  return fetched;
}

void ServiceTest::Corrupt(const TestClient& client, uint64_t lease, uint32_t chunk,
                          uint32_t plane) {
  // Committed bytes are const to everybody; this is memory going bad.
  host_->With([&](Engine& engine, absl::Time) {
    const Caller caller{TenantId(0), SessionId(client.session())};
    const PlaneIndex index(static_cast<uint16_t>(plane));
    std::vector<ReadTarget> targets;
    ASSERT_TRUE(
        engine.Resolve(caller, LeaseId(lease), chunk, absl::MakeConstSpan(&index, 1), targets)
            .ok());
    for (uint8_t copy = 0; copy < targets.at(0).copy_count; ++copy) {
      auto* bytes = const_cast<std::byte*>(targets[0].copies[copy].address);
      bytes[targets[0].bytes.count() - 1] ^= std::byte{4};
    }
  });
}

}  // namespace kvtier
