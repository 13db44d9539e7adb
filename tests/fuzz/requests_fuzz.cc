// Bytes as a sequence of KvCache requests, served by the daemon's own service on an engine with
// simulated pools: whatever arrives, the answer is a status that clients know, with a reason, and
// the engine stays consistent.
//
// A record is a method (one byte), a length (two bytes, little-endian) and a serialized request.
// Ids that are zero stand for the last one that was given, so that sequences that mean something
// are found by mutation.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "daemon/config_loader.h"
#include "daemon/kv_cache_service.h"
#include "daemon/log.h"
#include "proto/wire/checksum.h"
#include "sim/sim_clock.h"
#include "tests/support/engine_fixture.h"
#include "tiering/base/check.h"

namespace kvtier {
namespace {

constexpr char kConfig[] = R"(
memory: {segment_bytes: 64KiB}
pools:
  - {name: "hbm:0", kind: hbm, budget_bytes: 256KiB}
  - {name: "dram:0", kind: dram, budget_bytes: 768KiB}
tenants: [{name: fuzz, uids: [1], salt: "00"}]
limits: {sessions_max: 8, models_max: 8, leases_max: 100, reservations_max: 100, chunks_per_call_max: 100,
         planes_max: 16, chunks_max: 1000, watch_streams_max: 2}
log: {level: error}
)";
constexpr int kRecordsMax = 200;

// Passes the streaming calls of one in-process server on to the service of the input at hand. A
// call may come late: its client gave up before the server began with it.
class Relay final : public v1::KvCache::Service {
 public:
  grpc::Status Store(grpc::ServerContext* context, grpc::ServerReader<v1::StoreRequest>* reader,
                     v1::StoreReply* reply) override {
    return Pass([&](KvCacheService& service) { return service.Store(context, reader, reply); });
  }
  grpc::Status Fetch(grpc::ServerContext* context, const v1::FetchRequest* request,
                     grpc::ServerWriter<v1::FetchReply>* writer) override {
    return Pass([&](KvCacheService& service) { return service.Fetch(context, request, writer); });
  }
  grpc::Status Watch(grpc::ServerContext* context, const v1::WatchRequest* request,
                     grpc::ServerWriter<v1::WatchReply>* writer) override {
    return Pass([&](KvCacheService& service) { return service.Watch(context, request, writer); });
  }
  // Returns when no call is inside the former service any more.
  void SetService(KvCacheService* service) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    service_ = service;
  }

 private:
  template <typename Call>
  grpc::Status Pass(Call&& call) {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    if (service_ == nullptr) return {grpc::StatusCode::UNAVAILABLE, "the input has ended"};
    return call(*service_);
  }

  std::shared_mutex mutex_;
  KvCacheService* service_ = nullptr;
};

// What all inputs share: nothing that a request can change.
struct Process {
  Process() {
    auto loaded = LoadConfig(kConfig, "requests_fuzz");
    if (!loaded.ok()) std::fprintf(stderr, "%s\n", loaded.status().ToString().c_str());
    KVTIER_CHECK(loaded.ok());
    config = *std::move(loaded);
    log::Start(config.log());
    auto created = ProcessWatcher::Create({.on_process_end = [](TenantId, const auto&) {}});
    KVTIER_CHECK(created.ok());
    watcher = *std::move(created);
    grpc::ServerBuilder builder;
    builder.RegisterService(&relay);
    server = builder.BuildAndStart();
    KVTIER_CHECK(server != nullptr);
    stub = v1::KvCache::NewStub(server->InProcessChannel({}));
  }
  v1::Config config;
  std::unique_ptr<ProcessWatcher> watcher;
  Relay relay;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<v1::KvCache::Stub> stub;
};

// One input's daemon, and the last ids that it gave.
class RequestPlayer {
 public:
  explicit RequestPlayer(Process& process) : process_(process) {
    test_support::EngineFixtureOptions sizes;
    sizes.segment_bytes = KiB(64);
    EngineOptions options = test_support::MakeEngineOptions(sizes);
    options.limits.sessions_max = 8;
    options.limits.models_max = 8;
    options.limits.leases_max = 100;
    options.limits.reservations_max = 100;
    options.limits.chunks_per_call_max = 100;
    options.limits.planes_max = 16;
    options.limits.chunks_max = 1000;
    auto engine = Engine::Create(std::move(options));
    KVTIER_CHECK(engine.ok());
    host_ = std::make_unique<EngineHost>(*std::move(engine), &clock_,
                                         std::make_shared<TickSignal>(), 1);
    context_.host = host_.get();
    context_.watcher = process.watcher.get();
    context_.metrics = &metrics_;
    context_.drain = &drain_;
    context_.config = &process.config;
    context_.topology = &topology_;
    context_.daemon_version = "fuzz";
    context_.epoch = 1;
    context_.started = std::chrono::steady_clock::now();
    service_ = std::make_unique<KvCacheService>(
        TenantContext{.daemon = &context_, .id = TenantId(0), .name = "fuzz", .salt = "00"});
    process.relay.SetService(service_.get());
  }
  ~RequestPlayer() {
    host_->With([](Engine& engine, absl::Time) { engine.CheckInvariants(); });
    host_->Interrupt();
    process_.relay.SetService(nullptr);
  }
  RequestPlayer(const RequestPlayer&) = delete;
  RequestPlayer& operator=(const RequestPlayer&) = delete;

  void Play(uint8_t method, const std::string& bytes);

 private:
  template <typename Request>
  void SetSession(Request& request) const {
    if (request.session_id() == 0) request.set_session_id(session_);
  }
  // Parses, lets `prepare` fill in ids, calls, checks the status; true with a reply when it was
  // served.
  template <typename Request, typename Reply, typename Prepare>
  bool Unary(grpc::Status (KvCacheService::*method)(grpc::ServerContext*, const Request*, Reply*),
             const std::string& bytes, Reply* reply, Prepare prepare) {
    Request request;
    if (!request.ParseFromString(bytes)) return false;
    prepare(request);
    return Check((service_.get()->*method)(nullptr, &request, reply));
  }
  static bool Check(const grpc::Status& status);
  void Attach(const std::string& bytes);
  void Store(const std::string& bytes);
  void Commit(const std::string& bytes);
  void Lookup(const std::string& bytes);
  void Fetch(const std::string& bytes);
  void Watch(const std::string& bytes);
  void FillChecksums(v1::CommitRequest& request);

  Process& process_;
  sim::SimClock clock_;
  Topology topology_;
  RpcMetrics metrics_;
  DrainState drain_;
  DaemonContext context_;
  std::unique_ptr<EngineHost> host_;
  std::unique_ptr<KvCacheService> service_;
  uint64_t session_ = 0, reservation_ = 0, lease_ = 0;
};

bool RequestPlayer::Check(const grpc::Status& status) {
  if (status.ok()) return true;
  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DATA_LOSS:
      break;
    default:
      std::fprintf(stderr, "status %d: %s\n", static_cast<int>(status.error_code()),
                   status.error_message().c_str());
      KVTIER_CHECK(!"a status that clients do not know");
  }
  KVTIER_CHECK(!status.error_message().empty());
  return false;
}

void RequestPlayer::Attach(const std::string& bytes) {
  v1::AttachReply reply;
  if (Unary(&KvCacheService::Attach, bytes, &reply, [](v1::AttachRequest& request) {
        if (!request.has_version()) request.mutable_version()->set_major(1);
      })) {
    KVTIER_CHECK(reply.session_id() != 0);
    session_ = reply.session_id();
  }
}

void RequestPlayer::Store(const std::string& bytes) {
  v1::StoreRequest request;
  if (!request.ParseFromString(bytes)) return;
  SetSession(request);
  if (request.reservation_id() == 0) request.set_reservation_id(reservation_);
  grpc::ClientContext context;
  v1::StoreReply reply;
  const auto writer = process_.stub->Store(&context, &reply);
  // Twice, as two pieces of one stream.
  if (writer->Write(request)) writer->Write(request);
  writer->WritesDone();
  if (Check(writer->Finish())) KVTIER_CHECK(reply.stored_bytes() == 2 * request.data().size());
}

// Checksums of what lies in the slots, for chunks that name none: else a commit would never
// succeed.
void RequestPlayer::FillChecksums(v1::CommitRequest& request) {
  host_->With([&](Engine& engine, absl::Time) {
    const Caller caller{TenantId(0), SessionId(request.session_id())};
    const ReservationId reservation(request.reservation_id());
    const auto info = engine.Describe(caller, reservation);
    if (!info.ok()) return;
    for (v1::CommitChunk& chunk : *request.mutable_chunks()) {
      if (chunk.checksums_size() > 0) continue;
      std::vector<PlaneIndex> planes = info->planes;
      if (chunk.planes_size() > 0) planes.clear();
      for (const uint32_t plane : chunk.planes()) planes.emplace_back(static_cast<uint16_t>(plane));
      for (const PlaneIndex plane : planes) {
        const auto target = engine.Target(caller, reservation, chunk.chunk(), plane);
        if (!target.ok()) break;
        chunk.add_checksums(
            wire::BlockChecksum({target->address, static_cast<size_t>(target->bytes.count())}));
      }
    }
  });
}

void RequestPlayer::Commit(const std::string& bytes) {
  v1::CommitReply reply;
  v1::CommitRequest sent;
  if (!Unary(&KvCacheService::Commit, bytes, &reply, [&](v1::CommitRequest& request) {
        SetSession(request);
        if (request.reservation_id() == 0) request.set_reservation_id(reservation_);
        FillChecksums(request);
        sent = request;
      })) {
    return;
  }
  KVTIER_CHECK(reply.chunks_size() <= sent.chunks_size());
  for (int i = 0; i < reply.chunks_size(); ++i) {
    const v1::CommitReply::Chunk& chunk = reply.chunks(i);
    const bool failed = chunk.outcome() == v1::CommitReply::FAILED;
    KVTIER_CHECK(chunk.outcome() != v1::CommitReply::OUTCOME_UNSPECIFIED);
    KVTIER_CHECK(failed == (chunk.code() != 0) && failed == !chunk.error().empty());
    KVTIER_CHECK(failed ? i + 1 == reply.chunks_size()
                        : chunk.key().size() == wire::kChunkKeyBytes);
  }
}

void RequestPlayer::Lookup(const std::string& bytes) {
  v1::LookupReply reply;
  size_t asked = 0;
  if (!Unary(&KvCacheService::Lookup, bytes, &reply, [&](v1::LookupRequest& request) {
        SetSession(request);
        asked = std::max<size_t>(request.keys().size() / wire::kChunkKeyBytes,
                                 static_cast<size_t>(request.names_size()));
      })) {
    return;
  }
  KVTIER_CHECK(reply.matched() <= asked);
  KVTIER_CHECK(reply.lease_id() == 0 || reply.matched() > 0);
  if (reply.lease_id() != 0) lease_ = reply.lease_id();
}

void RequestPlayer::Fetch(const std::string& bytes) {
  v1::FetchRequest request;
  if (!request.ParseFromString(bytes)) return;
  SetSession(request);
  if (request.lease_id() == 0) request.set_lease_id(lease_);
  grpc::ClientContext context;
  const auto reader = process_.stub->Fetch(&context, request);
  v1::FetchReply reply;
  std::string block;
  while (reader->Read(&reply)) {
    if (reply.code() != 0) {
      KVTIER_CHECK(!reply.error().empty());
      block.clear();
      continue;
    }
    KVTIER_CHECK(reply.offset() == block.size());
    block += reply.data();
    if (!reply.last()) continue;
    // Nobody damages memory here, so what comes is what its writer meant.
    KVTIER_CHECK(wire::BlockChecksum({reinterpret_cast<const std::byte*>(block.data()),
                                      block.size()}) == reply.checksum());
    block.clear();
  }
  Check(reader->Finish());
}

void RequestPlayer::Watch(const std::string& bytes) {
  v1::WatchRequest request;
  if (!request.ParseFromString(bytes)) return;
  SetSession(request);
  grpc::ClientContext context;
  // Events that are there come at once; the stream itself has no end.
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(20));
  const auto reader = process_.stub->Watch(&context, request);
  v1::WatchReply reply;
  const bool resumes = request.after_sequence() != 0;
  if (resumes && reader->Read(&reply))
    KVTIER_CHECK(reply.kind() != v1::WatchReply::KIND_UNSPECIFIED);
  context.TryCancel();
  while (reader->Read(&reply)) {
  }
  const grpc::Status status = reader->Finish();
  if (status.error_code() != grpc::StatusCode::CANCELLED &&
      status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED) {
    Check(status);
  }
}

void RequestPlayer::Play(uint8_t method, const std::string& bytes) {
  const auto with_session = [&](auto& request) { SetSession(request); };
  const auto with_lease = [&](auto& request) {
    SetSession(request);
    if (request.lease_id() == 0) request.set_lease_id(lease_);
  };
  v1::DetachReply detached;
  v1::HeartbeatReply heard;
  v1::RegisterModelReply registered;
  v1::ReserveReply reserved;
  v1::AbortReply aborted;
  v1::RenewReply renewed;
  v1::ReleaseReply released;
  v1::ReportReply reported;
  v1::PrefetchReply prefetched;
  v1::ForgetReply forgotten;
  switch (method % 17) {
    case 0:
      return Attach(bytes);
    case 1:
      Unary(&KvCacheService::Heartbeat, bytes, &heard, with_session);
      return;
    case 2:
      Unary(&KvCacheService::Detach, bytes, &detached, with_session);
      return;
    case 3:
      Unary(&KvCacheService::RegisterModel, bytes, &registered, with_session);
      return;
    case 4:
      if (Unary(&KvCacheService::Reserve, bytes, &reserved, with_session)) {
        reservation_ = reserved.reservation_id();
      }
      return;
    case 5:
      return Store(bytes);
    case 6:
      return Commit(bytes);
    case 7:
      Unary(&KvCacheService::Abort, bytes, &aborted, [&](v1::AbortRequest& request) {
        SetSession(request);
        if (request.reservation_id() == 0) request.set_reservation_id(reservation_);
      });
      return;
    case 8:
      return Lookup(bytes);
    case 9:
      Unary(&KvCacheService::Renew, bytes, &renewed, with_lease);
      return;
    case 10:
      Unary(&KvCacheService::Release, bytes, &released, [&](v1::ReleaseRequest& request) {
        SetSession(request);
        for (uint64_t& lease : *request.mutable_lease_ids()) {
          if (lease == 0) lease = lease_;
        }
      });
      return;
    case 11:
      return Fetch(bytes);
    case 12:
      Unary(&KvCacheService::Report, bytes, &reported, with_lease);
      return;
    case 13:
      Unary(&KvCacheService::Prefetch, bytes, &prefetched, with_session);
      return;
    case 14:
      Unary(&KvCacheService::Forget, bytes, &forgotten, with_session);
      return;
    case 15:
      return Watch(bytes);
    default:
      // Time passes: by the number of bytes, squared, in milliseconds.
      clock_.Advance(absl::Milliseconds(static_cast<int64_t>(bytes.size() * bytes.size())));
      host_->With([](Engine& engine, absl::Time now) { engine.Tick(now); });
      return;
  }
}

}  // namespace
}  // namespace kvtier

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Never destroyed: gRPC's threads live as long as the process.
  static kvtier::Process& process = *new kvtier::Process;
  kvtier::RequestPlayer player(process);
  size_t at = 0;
  for (int record = 0; record < kvtier::kRecordsMax && at + 3 <= size; ++record) {
    const size_t wanted = data[at + 1] | size_t{data[at + 2]} << 8;
    const size_t bytes = std::min(wanted, size - at - 3);
    player.Play(data[at], std::string(reinterpret_cast<const char*>(data + at + 3), bytes));
    at += 3 + bytes;
  }
  return 0;
}
