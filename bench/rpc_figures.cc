#include "bench/rpc_figures.h"

#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/daemon_channel.h"
#include "grpcpp/client_context.h"
#include "kvtier/client.h"
#include "kvtier/v1/kv_cache.grpc.pb.h"
#include "proto/wire/version.h"
#include "tiering/base/status_macros.h"

namespace kvtier::bench {
namespace {

constexpr uint64_t kBlockBytes = 4096;
constexpr absl::Duration kTimeout = absl::Seconds(10);

ModelGeometry Geometry() {
  ModelGeometry geometry;
  geometry.name = "kvtier.bench.rpc";
  geometry.chunk_tokens = 16;
  geometry.planes.push_back({.name = "bytes", .bytes_per_chunk = kBlockBytes});
  return geometry;
}

// The chunks to look up. Each measurement has its own, so that two at a time do not forget each
// other's.
class StoredChunks {
 public:
  static absl::StatusOr<std::unique_ptr<StoredChunks>> Store(const std::string& socket,
                                                             uint32_t chunks) {
    std::unique_ptr<StoredChunks> stored(new StoredChunks);
    KVTIER_ASSIGN_OR_RETURN(stored->client_,
                            Client::Connect({.socket = socket, .name = "kvtier bench rpc"}));
    KVTIER_ASSIGN_OR_RETURN(stored->model_, stored->client_->RegisterModel(Geometry()));
    KVTIER_RETURN_IF_ERROR(stored->StoreAll(chunks));
    return stored;
  }
  ~StoredChunks() {
    // The rest goes with the first.
    if (!keys_.empty()) (void)client_->Forget(model_, {keys_[0]});
  }
  StoredChunks(const StoredChunks&) = delete;
  StoredChunks& operator=(const StoredChunks&) = delete;

  std::string PackedKeys() const {
    std::string packed;
    for (const Key& key : keys_)
      packed.append(reinterpret_cast<const char*>(key.data()), key.size());
    return packed;
  }

 private:
  StoredChunks() = default;

  absl::Status StoreAll(uint32_t chunks) {
    std::random_device random;
    const std::string own = absl::StrCat(random(), "-", random());
    keys_ = model_.PrefixKeys(std::vector<uint32_t>(chunks * 16, 1), own);
    const std::string bytes(kBlockBytes, 'b');
    KVTIER_ASSIGN_OR_RETURN(const ReservationHandle reservation,
                            client_->Reserve({.model = model_, .chunk_count = chunks}));
    PutRequest put{.model = model_, .reservation = reservation};
    CommitRequest commit{.model = model_, .reservation = reservation};
    for (uint32_t i = 0; i < chunks; ++i) {
      put.blocks.push_back({.chunk = i, .plane = 0, .pieces = {{bytes.data(), bytes.size()}}});
      commit.chunks.push_back({.chunk = i, .key = keys_[i], .token_count = 16});
    }
    KVTIER_RETURN_IF_ERROR(client_->Put(std::move(put)));
    return client_->Commit(std::move(commit)).status();
  }

  std::unique_ptr<Client> client_;
  Model model_;
  std::vector<Key> keys_;
};

// One end: the raw stub, with messages that are made once.
class Caller {
 public:
  static absl::StatusOr<std::unique_ptr<Caller>> Connect(const std::string& socket) {
    KVTIER_ASSIGN_OR_RETURN(auto channel, ConnectDaemonChannel(socket));
    auto caller = std::make_unique<Caller>();
    caller->stub = v1::KvCache::NewStub(channel);
    return caller;
  }

  // A session and a model of the daemon.
  absl::Status Attach() {
    v1::AttachRequest attach;
    attach.mutable_version()->set_major(wire::kProtocolMajor);
    attach.mutable_version()->set_minor(wire::kProtocolMinor);
    attach.set_client_name("kvtier bench rpc");
    v1::AttachReply attached;
    grpc::ClientContext attach_context;
    KVTIER_RETURN_IF_ERROR(StatusFromGrpc(stub->Attach(&attach_context, attach, &attached)));
    lookup.set_session_id(attached.session_id());
    release.set_session_id(attached.session_id());
    v1::RegisterModelRequest model;
    model.set_session_id(attached.session_id());
    const ModelGeometry geometry = Geometry();
    model.mutable_model()->set_name(geometry.name);
    model.mutable_model()->set_chunk_tokens(geometry.chunk_tokens);
    v1::Plane* plane = model.mutable_model()->add_planes();
    plane->set_name(geometry.planes[0].name);
    plane->set_kind(v1::PLANE_KIND_ATTENTION);
    plane->set_rank(-1);
    plane->set_bytes_per_chunk(kBlockBytes);
    plane->set_required(true);
    v1::RegisterModelReply registered;
    grpc::ClientContext model_context;
    KVTIER_RETURN_IF_ERROR(StatusFromGrpc(stub->RegisterModel(&model_context, model, &registered)));
    lookup.set_model_id(registered.model_id());
    return absl::OkStatus();
  }

  // Microseconds of one Lookup; releases its lease afterwards.
  absl::StatusOr<double> Measure(uint32_t chunks) {
    const auto start = std::chrono::steady_clock::now();
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kTimeout));
    const grpc::Status status = stub->Lookup(&context, lookup, &reply);
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    KVTIER_RETURN_IF_ERROR(StatusFromGrpc(status));
    if (reply.matched() != chunks || reply.lease_id() == 0) {
      return absl::NotFoundError(absl::StrCat("a lookup matched ", reply.matched(), " of ", chunks,
                                              " chunks: others evict them meanwhile"));
    }
    release.clear_lease_ids();
    release.add_lease_ids(reply.lease_id());
    grpc::ClientContext release_context;
    release_context.set_deadline(absl::ToChronoTime(absl::Now() + kTimeout));
    KVTIER_RETURN_IF_ERROR(StatusFromGrpc(stub->Release(&release_context, release, &released)));
    return time.count();
  }

  std::unique_ptr<v1::KvCache::Stub> stub;
  v1::LookupRequest lookup;
  v1::LookupReply reply;
  v1::ReleaseRequest release;
  v1::ReleaseReply released;
};

}  // namespace

absl::StatusOr<std::vector<Figure>> RpcFigures(const RpcFigureOptions& options) {
  const auto chunks = static_cast<uint32_t>(options.chunks);
  KVTIER_ASSIGN_OR_RETURN(const auto stored, StoredChunks::Store(options.socket, chunks));
  KVTIER_ASSIGN_OR_RETURN(auto daemon, Caller::Connect(options.socket));
  KVTIER_ASSIGN_OR_RETURN(auto echo, Caller::Connect(options.echo_socket));
  KVTIER_RETURN_IF_ERROR(daemon->Attach());
  daemon->lookup.set_keys(stored->PackedKeys());
  daemon->lookup.set_lease(true);
  echo->lookup = daemon->lookup;
  echo->release = daemon->release;

  std::vector<double> daemon_us, echo_us, round_daemon_us, round_echo_us, ratios;
  // The first round warms up.
  for (int round = 0; round <= options.rounds; ++round) {
    std::vector<double> daemon_round, echo_round;
    for (int call = 0; call < options.calls_per_round; ++call) {
      KVTIER_RETURN_IF_ERROR(options.check());
      KVTIER_ASSIGN_OR_RETURN(const double daemon_call, daemon->Measure(chunks));
      KVTIER_ASSIGN_OR_RETURN(const double echo_call, echo->Measure(chunks));
      daemon_round.push_back(daemon_call);
      echo_round.push_back(echo_call);
    }
    if (round == 0) continue;
    daemon_us.insert(daemon_us.end(), daemon_round.begin(), daemon_round.end());
    echo_us.insert(echo_us.end(), echo_round.begin(), echo_round.end());
    round_daemon_us.push_back(Quantile(daemon_round, 0.5));
    round_echo_us.push_back(Quantile(echo_round, 0.5));
    ratios.push_back(round_daemon_us.back() / round_echo_us.back());
  }

  Figure figure;
  figure.name = absl::StrCat("rpc_lookup_lease_", options.chunks);
  figure.p50 = Quantile(daemon_us, 0.5);
  figure.p99 = Quantile(daemon_us, 0.99);
  figure.value = Quantile(round_daemon_us, 0.5);
  figure.unit = "us";
  figure.ceiling = Quantile(round_echo_us, 0.5);
  figure.ratio = Quantile(ratios, 0.5);
  figure.runs = options.rounds;
  figure.note = absl::StrCat(
      "ceiling: an echo of the same messages by the same kind of gRPC server in a process of its "
      "own; ",
      options.calls_per_round,
      " calls of each a run, in turn; p50 and p99 over all calls; p99 of the echo: ",
      static_cast<int>(Quantile(echo_us, 0.99)), " us; to reach: ratio 1.5 or less");
  return std::vector<Figure>{std::move(figure)};
}

}  // namespace kvtier::bench
