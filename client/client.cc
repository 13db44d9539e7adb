#include "kvtier/client.h"

#include <utility>

#include "client/client_core.h"
#include "proto/wire/chunk_key.h"

namespace kvtier {
namespace {

// Stores what an operation returned in its completion.
template <typename Value>
void Fill(Completion& completion, absl::StatusOr<Value> result) {
  completion.status = result.status();
  if (result.ok()) completion.value = *std::move(result);
}
void Fill(Completion& completion, absl::Status status) { completion.status = std::move(status); }

// Submits `operation(request)`. Requests own vectors, so they are moved, never copied.
template <typename Request, typename Operation>
absl::StatusOr<Ticket> SubmitTo(TicketQueue& tickets, Request request, Operation operation) {
  auto shared = std::make_shared<const Request>(std::move(request));
  return tickets.Submit([shared = std::move(shared), operation](Completion& completion) {
    Fill(completion, operation(*shared));
  });
}

}  // namespace

Key Model::ChunkKey(const Key& parent, absl::Span<const uint32_t> tokens,
                    std::string_view extra) const {
  return wire::TokenChunkKey(*registration_->scope(), wire::ChunkKey{parent}, tokens, extra).bytes;
}

Key Model::OpaqueKey(const Key& parent, std::string_view engine_key, std::string_view extra) const {
  return wire::OpaqueChunkKey(*registration_->scope(), wire::ChunkKey{parent}, engine_key, extra)
      .bytes;
}

std::vector<Key> Model::PrefixKeys(absl::Span<const uint32_t> tokens,
                                   std::string_view extra) const {
  const std::vector<wire::ChunkKey> chunk_keys =
      wire::PrefixKeys(*registration_->scope(), tokens, geometry_->chunk_tokens, extra);
  std::vector<Key> keys;
  keys.reserve(chunk_keys.size());
  for (const wire::ChunkKey& key : chunk_keys) keys.push_back(key.bytes);
  return keys;
}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  auto core = ClientCore::Create(std::move(options));
  if (!core.ok()) return core.status();
  absl::Status status = (*core)->attachment().AttachNow();
  if (!status.ok()) return status;
  (*core)->attachment().Start();
  return std::unique_ptr<Client>(new Client(*std::move(core)));
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  auto core = ClientCore::Create(std::move(options));
  if (!core.ok()) return core.status();
  (*core)->attachment().Start();
  return std::unique_ptr<Client>(new Client(*std::move(core)));
}

Client::Client(std::unique_ptr<ClientCore> core) : core_(std::move(core)) {}
Client::~Client() = default;
void Client::Close() { core_->Close(); }

absl::StatusOr<Ticket> Client::SubmitReserve(ReserveRequest request) {
  return SubmitTo(core_->tickets(), std::move(request),
                  [core = core_.get()](const ReserveRequest& r) { return core->Reserve(r); });
}
absl::StatusOr<Ticket> Client::SubmitPut(PutRequest request) {
  return SubmitTo(core_->tickets(), std::move(request),
                  [core = core_.get()](const PutRequest& r) { return core->Put(r); });
}
absl::StatusOr<Ticket> Client::SubmitCommit(CommitRequest request) {
  return SubmitTo(core_->tickets(), std::move(request),
                  [core = core_.get()](const CommitRequest& r) { return core->Commit(r); });
}
absl::StatusOr<Ticket> Client::SubmitLookup(LookupRequest request) {
  return SubmitTo(core_->tickets(), std::move(request),
                  [core = core_.get()](const LookupRequest& r) { return core->Lookup(r); });
}
absl::StatusOr<Ticket> Client::SubmitGet(GetRequest request) {
  return SubmitTo(core_->tickets(), std::move(request),
                  [core = core_.get()](const GetRequest& r) { return core->Get(r); });
}
std::vector<Completion> Client::Poll(size_t completions_max) {
  return core_->tickets().Poll(completions_max);
}
absl::StatusOr<Completion> Client::Wait(Ticket ticket, absl::Duration timeout) {
  return core_->Wait(ticket, timeout);
}
int Client::event_fd() const { return core_->tickets().event_fd(); }

absl::StatusOr<Model> Client::RegisterModel(const ModelGeometry& geometry) {
  return core_->RegisterModel(geometry);
}
absl::StatusOr<ReservationHandle> Client::Reserve(ReserveRequest request) {
  return core_->Reserve(request);
}
absl::Status Client::Put(PutRequest request) { return core_->Put(request); }
absl::StatusOr<std::vector<CommitResult>> Client::Commit(CommitRequest request) {
  return core_->Commit(request);
}
absl::Status Client::Abort(ReservationHandle reservation) { return core_->Abort(reservation); }
absl::StatusOr<std::vector<MutableBuffer>> Client::Buffers(ReservationHandle reservation,
                                                           uint32_t chunk,
                                                           const std::vector<uint32_t>& planes) {
  return core_->Buffers(reservation, chunk, planes);
}
absl::StatusOr<Match> Client::Lookup(LookupRequest request) { return core_->Lookup(request); }
absl::StatusOr<GetResult> Client::Get(GetRequest request) { return core_->Get(request); }
absl::StatusOr<absl::Duration> Client::Renew(LeaseHandle lease, absl::Duration ttl) {
  return core_->Renew(lease, ttl);
}
absl::Status Client::Release(LeaseHandle lease) { return core_->Release(lease); }
absl::Status Client::Report(LeaseHandle lease, const std::vector<ReadReport>& reports) {
  return core_->Report(lease, reports);
}
absl::StatusOr<uint32_t> Client::Prefetch(const Model& model, const std::vector<Key>& keys) {
  return core_->Prefetch(model, keys);
}
absl::StatusOr<uint32_t> Client::Forget(const Model& model, const std::vector<Key>& keys) {
  return core_->Forget(model, keys);
}
absl::Status Client::Watch(uint64_t after_sequence,
                           const std::function<bool(const WatchEvent&)>& on_event,
                           WatchStop* stop) {
  return core_->Watch(after_sequence, on_event, stop);
}

absl::StatusOr<ReadSection> Client::EnterSection() { return core_->EnterSection(); }

bool Client::attached() const { return core_->attachment().Link().ok(); }
uint64_t Client::daemon_epoch() const {
  const auto link = core_->attachment().Link();
  return link.ok() ? (*link)->session().daemon_epoch : 0;
}
std::string Client::tenant() const {
  const auto link = core_->attachment().Link();
  return link.ok() ? (*link)->session().tenant : std::string();
}
Transport Client::transport() const { return core_->transport(); }
std::string Client::transport_note() const { return core_->transport_note(); }
void Client::SetLogicalTime(absl::Duration time) { core_->SetLogicalTime(time); }
absl::Status Client::WaitAttached(absl::Duration timeout) { return core_->WaitAttached(timeout); }

}  // namespace kvtier
