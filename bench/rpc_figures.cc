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

constexpr absl::Duration kTimeout = absl::Seconds(10);
constexpr uint32_t kChunkTokens = 16;

struct Shape {
  uint32_t planes;
  uint64_t plane_bytes;  // of a chunk; a lookup moves none of them
};

ModelGeometry Geometry(const Shape& shape) {
  ModelGeometry geometry;
  geometry.name = absl::StrCat("kvtier.bench.rpc.", shape.planes);
  geometry.chunk_tokens = kChunkTokens;
  for (uint32_t plane = 0; plane < shape.planes; ++plane) {
    geometry.planes.push_back({.name = absl::StrCat("layer.", plane),
                               .layer = plane,
                               .bytes_per_chunk = shape.plane_bytes});
  }
  return geometry;
}

// The chunks to look up. Each measurement has its own, so that two at a time do not forget each
// other's.
class StoredChunks {
 public:
  static absl::StatusOr<std::unique_ptr<StoredChunks>> Store(const std::string& socket,
                                                             const Shape& shape, uint32_t chunks) {
    std::unique_ptr<StoredChunks> stored(new StoredChunks);
    KVTIER_ASSIGN_OR_RETURN(stored->client_,
                            Client::Connect({.socket = socket, .name = "kvtier bench rpc"}));
    KVTIER_ASSIGN_OR_RETURN(stored->model_, stored->client_->RegisterModel(Geometry(shape)));
    KVTIER_RETURN_IF_ERROR(stored->StoreAll(shape, chunks));
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

  absl::Status StoreAll(const Shape& shape, uint32_t chunks) {
    std::random_device random;
    const std::string own = absl::StrCat(random(), "-", random());
    keys_ = model_.PrefixKeys(std::vector<uint32_t>(chunks * kChunkTokens, 1), own);
    const std::string bytes(shape.plane_bytes, 'b');
    KVTIER_ASSIGN_OR_RETURN(const ReservationHandle reservation,
                            client_->Reserve({.model = model_, .chunk_count = chunks}));
    PutRequest put{.model = model_, .reservation = reservation};
    CommitRequest commit{.model = model_, .reservation = reservation};
    for (uint32_t i = 0; i < chunks; ++i) {
      for (uint32_t plane = 0; plane < shape.planes; ++plane) {
        put.blocks.push_back(
            {.chunk = i, .plane = plane, .pieces = {{bytes.data(), bytes.size()}}});
      }
      commit.chunks.push_back({.chunk = i, .key = keys_[i], .token_count = kChunkTokens});
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

  // A session of the daemon.
  absl::Status Attach() {
    v1::AttachRequest attach;
    attach.mutable_version()->set_major(wire::kProtocolMajor);
    attach.mutable_version()->set_minor(wire::kProtocolMinor);
    attach.set_client_name("kvtier bench rpc");
    v1::AttachReply attached;
    grpc::ClientContext context;
    KVTIER_RETURN_IF_ERROR(StatusFromGrpc(stub->Attach(&context, attach, &attached)));
    lookup.set_session_id(attached.session_id());
    release.set_session_id(attached.session_id());
    return absl::OkStatus();
  }

  // Looks chunks of this model up from now on.
  absl::Status UseModel(const Shape& shape) {
    v1::RegisterModelRequest model;
    model.set_session_id(lookup.session_id());
    const ModelGeometry geometry = Geometry(shape);
    model.mutable_model()->set_name(geometry.name);
    model.mutable_model()->set_chunk_tokens(geometry.chunk_tokens);
    for (const PlaneGeometry& plane : geometry.planes) {
      v1::Plane* out = model.mutable_model()->add_planes();
      out->set_name(plane.name);
      out->set_layer(plane.layer);
      out->set_kind(v1::PLANE_KIND_ATTENTION);
      out->set_rank(-1);
      out->set_bytes_per_chunk(plane.bytes_per_chunk);
      out->set_required(true);
    }
    v1::RegisterModelReply registered;
    grpc::ClientContext context;
    KVTIER_RETURN_IF_ERROR(StatusFromGrpc(stub->RegisterModel(&context, model, &registered)));
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

absl::StatusOr<Figure> MeasureShape(const RpcFigureOptions& options, const Shape& shape,
                                    Caller& daemon, Caller& echo) {
  const auto chunks = static_cast<uint32_t>(options.chunks);
  KVTIER_ASSIGN_OR_RETURN(const auto stored, StoredChunks::Store(options.socket, shape, chunks));
  KVTIER_RETURN_IF_ERROR(daemon.UseModel(shape));
  daemon.lookup.set_keys(stored->PackedKeys());
  daemon.lookup.set_lease(true);
  echo.lookup = daemon.lookup;
  echo.release = daemon.release;

  std::vector<double> daemon_us, echo_us, round_daemon_us, round_echo_us, ratios;
  // The first round warms up.
  for (int round = 0; round <= options.rounds; ++round) {
    std::vector<double> daemon_round, echo_round;
    for (int call = 0; call < options.calls_per_round; ++call) {
      KVTIER_RETURN_IF_ERROR(options.check());
      KVTIER_ASSIGN_OR_RETURN(const double daemon_call, daemon.Measure(chunks));
      KVTIER_ASSIGN_OR_RETURN(const double echo_call, echo.Measure(chunks));
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
  if (shape.planes != 1) absl::StrAppend(&figure.name, "_of_", shape.planes, "_planes");
  figure.p50 = Quantile(daemon_us, 0.5);
  figure.p99 = Quantile(daemon_us, 0.99);
  figure.value = Quantile(round_daemon_us, 0.5);
  figure.unit = "us";
  figure.ceiling = Quantile(round_echo_us, 0.5);
  figure.ratio = Quantile(ratios, 0.5);
  figure.runs = options.rounds;
  figure.note = absl::StrCat(
      "chunks of ", kChunkTokens, " tokens, one stored prefix, in a model of ", shape.planes,
      shape.planes == 1 ? " plane" : " planes", " of ", shape.plane_bytes,
      " bytes a chunk; gRPC over a Unix socket; ceiling: an echo of the same messages by the same "
      "kind of gRPC server in a process of its own; ",
      options.calls_per_round,
      " calls of each a run, in turn; p50 and p99 over all calls; p99 of the echo: ",
      static_cast<int>(Quantile(echo_us, 0.99)), " us; to reach: ratio 1.5 or less");
  return figure;
}

}  // namespace

absl::StatusOr<std::vector<Figure>> RpcFigures(const RpcFigureOptions& options) {
  KVTIER_ASSIGN_OR_RETURN(auto daemon, Caller::Connect(options.socket));
  KVTIER_ASSIGN_OR_RETURN(auto echo, Caller::Connect(options.echo_socket));
  KVTIER_RETURN_IF_ERROR(daemon->Attach());
  std::vector<Figure> figures;
  for (const Shape& shape : {Shape{1, 4096}, Shape{64, 256}}) {
    KVTIER_ASSIGN_OR_RETURN(Figure figure, MeasureShape(options, shape, *daemon, *echo));
    figures.push_back(std::move(figure));
  }
  return figures;
}

}  // namespace kvtier::bench
